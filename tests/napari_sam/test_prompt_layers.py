"""The layers to click and draw in, and the preview."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_sam.layers import OnScreen, plane_on_screen
from napari_sam.prompt_layers import (
    SIZES_PX,
    Drawn,
    Preview,
    boxes_layer,
    points_layer,
    size_points,
    style_points,
    style_shapes,
)
from src_core.types import PlaneRef


def _viewer(**arguments: object) -> tuple[ViewerModel, Image]:
    viewer = ViewerModel()
    return viewer, viewer.add_image(np.zeros((5, 12, 14), np.uint8), **arguments)


def test_layers_lie_where_the_image_lies() -> None:
    viewer, image = _viewer(scale=(3, 0.5, 0.5), translate=(1, 2, 3), units=("um", "um", "um"))
    for layer in (points_layer(viewer, image), boxes_layer(viewer, image), Preview(viewer, image).layer):
        assert np.allclose(layer.scale, image.scale) and layer.units == image.units
        assert np.allclose(layer.translate, image.translate) and layer.ndim == 3


def _shown_at(preview: Preview, image: Image) -> np.ndarray:
    """Return the pixels of the image, (N, 3), that the preview covers."""
    pixels = np.argwhere(preview.layer.data)
    return np.array([np.asarray(image.world_to_data(preview.layer.data_to_world(p))) for p in pixels]).round(
        6
    )


@pytest.mark.parametrize(
    "placed",
    [
        {},
        {"scale": (3, 0.5, 0.5), "translate": (1, 2, 3)},
        {"scale": (3, 0.5, 0.4), "rotate": (0, 0, 30)},
        {"shear": (0, 0, 0.2), "scale": (2, 0.5, 0.5)},
        {"affine": np.array([[1, 0, 0, 5], [0, 0, -2, 1], [0, 2, 0, 1], [0, 0, 0, 1]])},
    ],
    ids="plain scaled rotated sheared affine".split(),
)
@pytest.mark.parametrize("box", [(2, 3, 5, 9), (0, 0, 12, 14), (11, 13, 12, 14)], ids=str)
def test_a_preview_lies_on_its_mask(placed: dict[str, Any], box: tuple[int, ...]) -> None:
    viewer, image = _viewer(**placed)
    preview = Preview(viewer, image)
    mask = np.zeros((12, 14), bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    for z in (1, 4):
        on_screen = OnScreen(PlaneRef("z", z), 0, (z, None, None), ("z", "y", "x"))
        preview.show(on_screen, mask)
        expected = np.column_stack([np.full(mask.sum(), z), np.argwhere(mask)])
        assert np.array_equal(_shown_at(preview, image), expected)
    preview.clear()
    assert not preview.layer.data.any()


def test_a_preview_is_a_small_part_of_a_large_image() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((2, 1000, 500), np.uint8))
    preview, on_screen = Preview(viewer, image), plane_on_screen(viewer, image)
    mask = np.zeros((1000, 500), bool)
    mask[600, 70] = True
    preview.show(on_screen, mask)
    assert preview.layer.data.shape == (1, 96, 96)
    mask[999, 499] = True
    preview.show(on_screen, mask)
    assert preview.layer.data.shape == (1, 480, 480), "never beyond the border"
    assert _shown_at(preview, image).tolist() == [[0, 600, 70], [0, 999, 499]]
    preview.show(on_screen, np.zeros((1000, 500), bool))
    assert not preview.layer.data.any()


def test_a_preview_along_another_axis_has_the_masks_orientation() -> None:
    viewer, image = _viewer()
    preview = Preview(viewer, image)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 7)
    mask = np.zeros((5, 14), bool)
    mask[1, 9] = True
    preview.show(plane_on_screen(viewer, image), mask)
    assert _shown_at(preview, image).tolist() == [[1, 7, 9]]


def test_points_of_other_objects_are_hidden_and_signs_have_symbols() -> None:
    viewer, image = _viewer()
    points = points_layer(viewer, image)
    style_points(points, 1)  # without points
    for position, identity, sign in (
        ((0, 1, 1), 1, "positive"),
        ((0, 2, 2), 1, "negative"),
        ((0, 3, 3), 2, "positive"),
    ):
        points.feature_defaults = {"object": identity, "label": sign}
        points.add(np.array(position, float))
    style_points(points, 1)
    assert points.shown.tolist() == [True, True, False]
    assert [str(s) for s in points.symbol] == ["disc", "x", "disc"]
    assert not np.allclose(points.face_color[0], points.face_color[1])
    style_points(points, 2)
    assert points.shown.tolist() == [False, False, True]


def test_shapes_of_other_objects_are_hidden() -> None:
    viewer = ViewerModel()
    shapes = boxes_layer(viewer, viewer.add_image(np.zeros((8, 8))))
    style_shapes(shapes, 1)  # without shapes
    box = np.array([[1, 1], [1, 4], [4, 4], [4, 1]], float)
    shapes.add_rectangles([box, box + 2])
    shapes.features = {"object": [1, 2]}
    style_shapes(shapes, 2)
    assert [float(c[3]) for c in shapes.edge_color] == [0, 1]
    style_shapes(shapes, 1)
    assert [float(c[3]) for c in shapes.edge_color] == [1, 0]
    shapes.add_rectangles([box])
    assert shapes.edge_color[-1][3] == 1, "what is drawn next can be seen"


def test_an_empty_preview_is_no_reason_to_warn_in_three_dimensions() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 32, 32)))
    preview = Preview(viewer, image)
    viewer.dims.ndisplay = 3  # warnings are errors here
    preview.show(plane_on_screen(viewer, image), np.eye(32) > 0)
    preview.clear()
    viewer.dims.ndisplay = 2
    preview.show(plane_on_screen(viewer, image), np.eye(32) > 0)
    assert preview.layer.contour > 0
    preview.clear()
    viewer.dims.ndisplay = 3


def test_where_no_point_is_napari_draws_none() -> None:
    # It puts one of no size at the first pixel, which a least size on screen would make visible.
    viewer = ViewerModel()
    points = points_layer(viewer, viewer.add_image(np.zeros((2, 8, 8))))
    size_points(points, False)
    assert points.canvas_size_limits[0] == 0
    size_points(points, True)
    assert tuple(points.canvas_size_limits) == SIZES_PX


def test_everything_drawn_comes_back_as_it_was() -> None:
    viewer, image = _viewer()
    points, boxes = points_layer(viewer, image), boxes_layer(viewer, image)
    empty = Drawn.of(points, boxes)
    points.feature_defaults = {"object": 2, "label": "negative"}
    points.add(np.array([1.0, 2, 3]))
    corners = np.array([[1, 2, 2], [1, 2, 6], [1, 7, 6], [1, 7, 2]], float)
    boxes.feature_defaults = {"object": 2}
    boxes.add_rectangles(corners)
    boxes.add_ellipses(corners)
    drawn = Drawn.of(points, boxes)
    empty.put_back(points, boxes)
    assert len(points.data) == 0 and len(boxes.data) == 0
    drawn.put_back(points, boxes)
    assert points.data.tolist() == [[1, 2, 3]]
    assert points.features["label"].tolist() == ["negative"] and points.features["object"].tolist() == [2]
    assert [str(k) for k in boxes.shape_type] == ["rectangle", "ellipse"]
    assert boxes.features["object"].tolist() == [2, 2]
    assert np.allclose(boxes.data[0], corners)
