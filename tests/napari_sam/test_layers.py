"""Planes and volumes from image layers, in world coordinates, without a window."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Points

from napari_sam.layers import axes_of, on_plane, plane_on_screen, to_plane, volume_of
from src_core.errors import VolumeError
from src_core.types import PlaneRef


def _viewer(shape: tuple[int, ...] = (6, 20, 24), **arguments: object) -> tuple[ViewerModel, Image]:
    viewer = ViewerModel()
    return viewer, viewer.add_image(np.zeros(shape, np.uint8), **arguments)


@pytest.mark.parametrize(
    "shape, labels, expected",
    [
        ((4, 5), None, ("y", "x")),
        ((3, 4, 5), None, ("z", "y", "x")),
        ((2, 3, 4, 5), None, ("t", "z", "y", "x")),
        ((2, 2, 3, 4, 5), None, ("t", "c", "z", "y", "x")),
        ((2, 3, 4, 5), ("c", "z", "y", "x"), ("c", "z", "y", "x")),
        ((3, 4, 5), ("T", "Y", "X"), ("z", "y", "x")),
        ((3, 4, 5), ("a", "b", "c"), ("z", "y", "x")),
    ],
)
def test_axes_are_the_layers_own_or_the_usual_ones(
    shape: tuple[int, ...], labels: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    assert axes_of(Image(np.zeros(shape), axis_labels=labels)) == expected


def test_six_dimensions_are_too_many() -> None:
    with pytest.raises(VolumeError, match="6 dimensions"):
        volume_of(Image(np.zeros((1, 1, 1, 1, 4, 5))))


def test_scale_units_and_contrast_reach_the_volume() -> None:
    layer = Image(
        np.zeros((3, 4, 5), np.uint16),
        scale=(2, -0.5, 0.5),
        units=("um", "um", "um"),
        contrast_limits=(10, 900),
    )
    volume = volume_of(layer)
    assert volume.scale == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert set(volume.units.values()) == {"micrometer"}
    assert volume.contrast_limits_of() == (10, 900)


def test_all_levels_of_a_pyramid_reach_the_volume() -> None:
    fine = np.zeros((6, 40, 48), np.uint16)
    layer = Image([fine, fine[:, ::2, ::2], fine[:, ::4, ::4]], multiscale=True, scale=(3, 1, 1))
    volume = volume_of(layer)
    assert volume.levels == ((6, 40, 48), (6, 20, 24), (6, 10, 12)) and volume.scale["z"] == 3
    plane = volume.plane_at(PlaneRef("z", 5))
    assert plane.rgb8_part((0, 0, 40, 48), (10, 12))[0].shape == (10, 12, 3)


def test_the_plane_on_screen_follows_scale_and_translation() -> None:
    viewer, image = _viewer(scale=(2, 0.5, 0.5), translate=(100, 7, 9))
    viewer.dims.set_current_step(0, 4)
    found = plane_on_screen(viewer, image)
    assert found.plane == PlaneRef("z", 4) and found.position == (4, None, None) and found.kept == (1, 2)


@pytest.mark.parametrize(
    "order, plane, kept",
    [
        ((0, 1, 2), PlaneRef("z", 1), (1, 2)),
        ((1, 0, 2), PlaneRef("y", 2), (0, 2)),
        ((2, 0, 1), PlaneRef("x", 3), (0, 1)),
        ((1, 2, 0), PlaneRef("y", 2), (0, 2)),  # transposed on screen, the same plane
    ],
)
def test_any_order_of_axes(order: tuple[int, ...], plane: PlaneRef, kept: tuple[int, int]) -> None:
    viewer, image = _viewer()
    viewer.dims.order = order
    for axis, step in enumerate((1, 2, 3)):
        viewer.dims.set_current_step(axis, step)
    found = plane_on_screen(viewer, image)
    assert found.plane == plane and found.kept == kept


def test_a_two_dimensional_image_beside_a_stack() -> None:
    viewer, flat = _viewer((20, 24))
    viewer.add_image(np.zeros((6, 20, 24)))
    viewer.dims.set_current_step(0, 5)
    found = plane_on_screen(viewer, flat)
    assert found.plane == PlaneRef(None, 0) and found.position == (None, None)


def test_time_and_channel_are_told_apart() -> None:
    viewer, image = _viewer((2, 3, 4, 20, 24), axis_labels=("t", "c", "z", "y", "x"))
    for axis, step in enumerate((1, 2, 3)):
        viewer.dims.set_current_step(axis, step)
    found = plane_on_screen(viewer, image)
    assert found.plane == PlaneRef("z", 3, 1) and found.channel == 2
    assert found.moved({0: 0, 1: 0, 2: 1}) == PlaneRef("z", 1, 0)


def test_the_slider_of_a_larger_layer_can_be_outside() -> None:
    viewer, image = _viewer()
    viewer.add_image(np.zeros((30, 20, 24)))
    viewer.dims.set_current_step(0, 20)
    with pytest.raises(VolumeError, match="outside the image; move it back"):
        plane_on_screen(viewer, image)


def test_time_on_screen_is_refused_with_what_to_do() -> None:
    viewer, image = _viewer((5, 4, 20, 24))
    viewer.dims.order = (1, 2, 0, 3)
    with pytest.raises(VolumeError, match="roll the axes back"):
        plane_on_screen(viewer, image)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # napari's own word about such layers
def test_rotation_in_the_plane_is_fine_and_out_of_it_is_refused() -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0, -1], [1, 0]]
    viewer, image = _viewer(affine=turn)
    found = plane_on_screen(viewer, image)
    assert np.allclose(to_plane(image, found, image, np.array([[0, 3, 5]])), [[3, 5]])
    world = Points(np.array([image.data_to_world((0, 3, 5))]))
    assert np.allclose(to_plane(image, found, world, world.data), [[3, 5]])
    tilt = np.eye(4)
    tilt[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    viewer, image = _viewer(affine=tilt)
    with pytest.raises(VolumeError, match="transform it back"):
        plane_on_screen(viewer, image)


def test_shear_out_of_the_plane_is_refused_and_within_it_is_fine() -> None:
    viewer, image = _viewer(shear=[0, 0, 0.3])  # x along y
    assert plane_on_screen(viewer, image).plane == PlaneRef("z", 2)
    viewer, image = _viewer(shear=[0.5, 0, 0])  # y along z
    with pytest.raises(VolumeError, match="sheared"):
        plane_on_screen(viewer, image)


def test_positions_of_another_layer_are_mapped_through_the_world() -> None:
    viewer, image = _viewer(scale=(2, 0.5, 0.5), translate=(10, 1, 1))
    viewer.dims.set_current_step(0, 3)
    found = plane_on_screen(viewer, image)
    points = Points(np.array([[8.0, 2.0, 3.0], [7.0, 2.0, 3.0]]), scale=(2, 1, 1))
    assert on_plane(image, found, points, points.data).tolist() == [True, False]
    assert np.allclose(to_plane(image, found, points, points.data[:1]), [[2, 4]])


def test_positions_with_fewer_dimensions_lie_on_every_slice() -> None:
    viewer, image = _viewer()
    found = plane_on_screen(viewer, image)
    flat = Points(np.array([[2.0, 3.0]]))
    assert on_plane(image, found, flat, flat.data).all()
    assert np.allclose(to_plane(image, found, flat, flat.data), [[2, 3]])
