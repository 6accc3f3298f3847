"""The layers to click and draw in, and the preview."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image

from napari_sam.layers import plane_on_screen
from napari_sam.prompt_layers import Drawn, Preview, boxes_layer, points_layer, style_points


def _viewer(**arguments: object) -> tuple[ViewerModel, Image]:
    viewer = ViewerModel()
    return viewer, viewer.add_image(np.zeros((5, 12, 14), np.uint8), **arguments)


def test_layers_lie_where_the_image_lies() -> None:
    viewer, image = _viewer(scale=(3, 0.5, 0.5), translate=(1, 2, 3), units=("um", "um", "um"))
    for layer in (points_layer(viewer, image), boxes_layer(viewer, image), Preview(viewer, image).layer):
        assert np.allclose(layer.scale, image.scale) and layer.units == image.units
        assert np.allclose(layer.translate, image.translate) and layer.ndim == 3


def test_a_preview_is_one_slice_thick_and_moves() -> None:
    viewer, image = _viewer(scale=(3, 0.5, 0.5))
    preview = Preview(viewer, image)
    mask = np.zeros((12, 14), bool)
    mask[2:5, 3:9] = True
    for z in (1, 4):
        viewer.dims.set_current_step(0, z)
        preview.show(plane_on_screen(viewer, image), mask)
        assert preview.layer.data.shape == (1, 12, 14) and preview.layer.data.sum() == mask.sum()
        assert np.allclose(preview.layer.translate, (3 * z, 0, 0))
    preview.clear()
    assert not preview.layer.data.any()


def test_a_preview_along_another_axis_has_the_masks_orientation() -> None:
    viewer, image = _viewer()
    preview = Preview(viewer, image)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_current_step(1, 7)
    mask = np.zeros((5, 14), bool)
    mask[1, 9] = True
    preview.show(plane_on_screen(viewer, image), mask)
    assert preview.layer.data.shape == (5, 1, 14) and preview.layer.data[1, 0, 9]
    assert np.allclose(preview.layer.translate, (0, 7, 0))


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
