"""What points, shapes and painted regions say about one object on one plane."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes

from napari_sam.layer_prompts import along, ellipse_outline, prompts_on_plane
from napari_sam.layers import OnScreen, plane_on_screen
from src_core.errors import PromptError
from src_core.prompts import Prompts

SHAPE = (20, 24)


@pytest.fixture
def scene() -> tuple[Image, OnScreen]:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((6, *SHAPE), np.uint8))
    viewer.dims.set_current_step(0, 2)
    return image, plane_on_screen(viewer, image)


def _ask(scene: tuple[Image, OnScreen], **layers: object) -> Prompts | None:
    return prompts_on_plane(*scene, SHAPE, **layers)  # type: ignore[arg-type]


def _corners(z: float, y0: float, x0: float, y1: float, x1: float) -> np.ndarray:
    return np.array([[z, y0, x0], [z, y0, x1], [z, y1, x1], [z, y1, x0]])


def test_nothing_drawn_is_no_prompt(scene: tuple[Image, OnScreen]) -> None:
    assert _ask(scene) is None
    assert _ask(scene, points=Points(ndim=3), shapes=Shapes(ndim=3)) is None
    assert _ask(scene, labels=Labels(np.zeros((6, *SHAPE), int))) is None


def test_points_of_other_slices_and_objects_are_left_out(scene: tuple[Image, OnScreen]) -> None:
    points = Points(
        np.array([[2, 4, 5], [2, 6, 7], [2, 8, 9], [3, 1, 1]], float),
        features=pd.DataFrame({"object": [1, 1, 2, 1], "label": ["positive", "negative"] * 2}),
    )
    found = _ask(scene, points=points, identity=1)
    assert found is not None
    assert found.points_yx.tolist() == [[4, 5], [6, 7]] and found.labels.tolist() == [1, 0]
    assert found.box_yxyx is None and found.mask is None
    other = _ask(scene, points=points, identity=2)
    assert other is not None and other.points_yx.tolist() == [[8, 9]]
    assert _ask(scene, points=points, identity=3) is None
    everyone = _ask(scene, points=points)
    assert everyone is not None and len(everyone.points_yx) == 3


def test_points_without_features_are_positive(scene: tuple[Image, OnScreen]) -> None:
    found = _ask(scene, points=Points(np.array([[2.0, 4, 5]])), identity=7)
    assert found is not None and found.labels.tolist() == [1]


def test_a_rectangle_is_a_box_also_when_drawn_backwards(scene: tuple[Image, OnScreen]) -> None:
    for corners in (_corners(2, 3, 4, 9, 12), _corners(2, 9, 12, 3, 4)):
        found = _ask(scene, shapes=Shapes([corners], shape_type="rectangle"))
        assert found is not None and found.box_yxyx == (3, 4, 9, 12) and found.mask is None


def test_a_rectangle_without_area_is_one_pixel_wide(scene: tuple[Image, OnScreen]) -> None:
    found = _ask(scene, shapes=Shapes([_corners(2, 3, 4, 3, 4)], shape_type="rectangle"))
    assert found is not None and found.box_yxyx == (3, 4, 4, 5)


def test_an_ellipse_and_a_polygon_are_masks_with_their_box(scene: tuple[Image, OnScreen]) -> None:
    corners = _corners(2, 4, 4, 14, 18)
    ellipse = _ask(scene, shapes=Shapes([corners], shape_type="ellipse"))
    polygon = _ask(scene, shapes=Shapes([corners], shape_type="polygon"))
    assert ellipse is not None and polygon is not None
    assert ellipse.mask is not None and polygon.mask is not None
    assert polygon.mask.sum() == pytest.approx(10 * 14, rel=0.2)
    assert ellipse.mask.sum() == pytest.approx(np.pi / 4 * 10 * 14, rel=0.15)
    assert not (ellipse.mask & ~polygon.mask).any()
    assert np.allclose(ellipse.box_yxyx, (4, 4, 14, 18), atol=0.1)


@pytest.mark.parametrize("kind", ["path", "line"])
def test_a_stroke_is_points_along_it(scene: tuple[Image, OnScreen], kind: str) -> None:
    stroke = np.array([[2, 5, 2], [2, 5, 10]], float)
    found = _ask(scene, shapes=Shapes([stroke], shape_type=kind))
    assert found is not None
    assert found.points_yx.tolist() == [[5, x] for x in (2, 4, 6, 8, 10)] and found.labels.all()


def test_shapes_on_other_slices_and_of_other_objects_are_left_out(scene: tuple[Image, OnScreen]) -> None:
    shapes = Shapes(
        [_corners(3, 3, 4, 9, 12), _corners(2, 1, 1, 5, 5), _corners(2, 6, 6, 9, 9)],
        shape_type="rectangle",
        features=pd.DataFrame({"object": [1, 1, 2]}),
    )
    found = _ask(scene, shapes=shapes, identity=1)
    assert found is not None and found.box_yxyx == (1, 1, 5, 5)


def test_a_painted_region_is_a_mask_whatever_the_layers_scale(scene: tuple[Image, OnScreen]) -> None:
    painted = np.zeros((3, 10, 12), int)
    painted[1, 2:5, 3:6] = 4  # every pixel is two by two by two of the image
    found = _ask(scene, labels=Labels(painted, scale=(2, 2, 2), translate=(0.5, 0.5, 0.5)))
    assert found is not None and found.mask is not None
    expected = np.zeros(SHAPE, bool)
    expected[4:10, 6:12] = True
    assert np.array_equal(found.mask, expected)
    assert _ask(scene, labels=Labels(painted, scale=(2, 2, 2)), identity=5) is None


def test_a_painted_region_of_a_smaller_layer_elsewhere(scene: tuple[Image, OnScreen]) -> None:
    painted = Labels(np.ones((1, 4, 4), int), translate=(2, 18, 22))
    found = _ask(scene, labels=painted)
    assert found is not None and found.mask is not None
    assert found.mask.sum() == 4 and found.mask[18:, 22:].all(), "what lies outside the image is cut off"
    assert _ask(scene, labels=Labels(np.ones((1, 4, 4), int), translate=(2, 90, 90))) is None


def test_two_dimensional_labels_speak_about_every_slice(scene: tuple[Image, OnScreen]) -> None:
    painted = np.zeros(SHAPE, int)
    painted[3:6, 3:6] = 1
    found = _ask(scene, labels=Labels(painted))
    assert found is not None and found.mask is not None and found.mask.sum() == 9


def test_points_outside_the_image_are_refused_with_where(scene: tuple[Image, OnScreen]) -> None:
    with pytest.raises(PromptError, match=r"y=50.*outside the plane of 20 x 24"):
        _ask(scene, points=Points(np.array([[2.0, 50, 5]])))
    with pytest.raises(PromptError, match="outside"):
        _ask(scene, shapes=Shapes([_corners(2, 40, 40, 50, 50)], shape_type="rectangle"))


def test_prompts_in_a_transposed_view_keep_rows_and_columns() -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((6, *SHAPE), np.uint8))
    viewer.dims.order = (1, 2, 0)
    viewer.dims.set_current_step(1, 7)
    on_screen = plane_on_screen(viewer, image)
    found = prompts_on_plane(image, on_screen, (6, 24), Points(np.array([[3.0, 7, 11]])))
    assert found is not None and found.points_yx.tolist() == [[3, 11]]


def test_helpers_for_strokes_and_ellipses() -> None:
    assert along(np.array([[1.0, 1.0], [1.0, 1.0]])).tolist() == [[1, 1]]
    bent = along(np.array([[0.0, 0.0], [0.0, 4.0], [4.0, 4.0]]))
    assert bent.tolist() == [[0, 0], [0, 2], [0, 4], [2, 4], [4, 4]]
    outline = ellipse_outline(np.array([[0.0, 0.0], [0.0, 8.0], [4.0, 8.0], [4.0, 0.0]]))
    assert np.allclose(((outline - (2, 4)) ** 2 / (4, 16)).sum(1), 1)
