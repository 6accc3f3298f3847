"""Objects seen from the side: a column that goes on where the object does not is rated lower."""

from __future__ import annotations

import numpy as np
import pytest

from src_core.masks import Mask, PackedMask, innermost
from src_core.predictor import Predictor
from src_core.propagation.sides import Seen, SideView, _surroundings
from src_core.volumes import Volume, open_volume

SHAPE = (24, 96, 96)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("nano", "cpu")


def ball(radius: float, step: float = 1.0) -> Mask:
    z, y, x = np.indices(SHAPE)
    return np.asarray((step * (z - 12)) ** 2 + (y - 40) ** 2 + (x - 50) ** 2 <= radius**2)


def image(truth: Mask) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.clip(40 + 120 * truth + rng.normal(0, 8, SHAPE), 0, 255).astype(np.uint8)


def seen(predictor: Predictor, volume: Volume, found: Mask, axis: str = "z") -> Seen:
    planes = np.moveaxis(found, volume.spatial_axes.index(axis), 0)
    view = SideView(innermost(planes[planes.any((1, 2)).nonzero()[0].mean().astype(int)]))
    for index, plane in enumerate(planes):
        if plane.any():
            view.add(index, PackedMask.of(plane))
    return view.seen(predictor, volume, axis)


@pytest.mark.parametrize("step", [1.0, 2.5])
@pytest.mark.parametrize("axis", ["z", "y"])
def test_a_column_is_rated_lower_than_the_object(predictor: Predictor, step: float, axis: str) -> None:
    truth = ball(10.0, step)
    volume = open_volume(image(truth), scale={"z": step, "y": 1.0, "x": 1.0})
    along = volume.spatial_axes.index(axis)
    column = np.repeat(truth.any(along, keepdims=True), SHAPE[along], along)
    right, leaked = (seen(predictor, volume, found, axis) for found in (truth, column))
    assert right.fit > 0.8 > leaked.fit + 0.1, (right, leaked)
    there = set(np.flatnonzero(truth.any(tuple({0, 1, 2} - {along}))).tolist())
    assert len(right.denied) <= 2, "an end may be"
    assert len(leaked.denied & there) <= 2


def test_only_what_lies_around_the_object_is_shown() -> None:
    assert _surroundings((10, 20, 20, 120), np.array((4.0, 1.0)), (0, 0, 100, 1000)) == (0, 0, 120, 220)
    assert _surroundings((50, 500, 52, 510), np.array((1.0, 1.0)), (0, 0, 400, 1000)) == (18, 468, 84, 542)
    assert _surroundings((50, 500, 52, 510), np.array((2.5, 1.0)), (45, 0, 55, 1000)) == (112, 468, 138, 542)


@pytest.mark.parametrize("axis", ["z", "y"])
def test_an_object_that_goes_on_beyond_the_range_is_rated_within_it(predictor: Predictor, axis: str) -> None:
    truth = ball(11.0, 1.5)
    volume = open_volume(image(truth), scale={"z": 1.5, "y": 1.0, "x": 1.0})
    along = volume.spatial_axes.index(axis)
    middle = (np.flatnonzero(truth.any(tuple({0, 1, 2} - {along}))).mean()).astype(int)
    start, stop = int(middle) - 2, int(middle) + 3
    planes = np.moveaxis(truth, along, 0)
    view = SideView(innermost(planes[start]))
    for index in range(start, stop):
        view.add(index, PackedMask.of(planes[index]))
    within = view.seen(predictor, volume, axis, start=start, stop=stop).fit
    assert within > 0.75 and within > view.seen(predictor, volume, axis).fit + 0.1
    one = view.seen(predictor, volume, axis, start=start, stop=start + 1)
    assert one.fit == 1.0, "from the side, one slice is a line"


def test_an_object_that_the_planes_miss_is_rated_nothing(predictor: Predictor) -> None:
    volume = open_volume(image(ball(10.0)))
    view = SideView((3, 3))
    assert view.seen(predictor, volume, "z").fit == 0.0
    hollow = np.zeros(SHAPE[1:], np.bool_)
    hollow[[0, 6], :7] = hollow[:7, [0, 6]] = True
    hollow[3, [0, 6]] = hollow[[0, 6], 3] = False
    within = SideView((3, 3))
    within.add(12, PackedMask.of(hollow))
    assert within.seen(predictor, volume, "z") == Seen(0.0), "its box has them, the object has not"


def test_an_object_on_one_slice_and_one_pixel_wide_is_rated_all_the_same(predictor: Predictor) -> None:
    volume = open_volume(image(ball(10.0)))
    line = np.zeros(SHAPE, np.bool_)
    line[12, 40, 45:56] = True
    assert 0.0 <= seen(predictor, volume, line).fit <= 1.0


def test_what_the_planes_do_not_meet_is_not_denied(predictor: Predictor) -> None:
    z, y, x = np.indices(SHAPE)
    slanted = (np.abs(y - 40) <= 4) & (np.abs(x - 20 - 3 * z) <= 4)
    view = SideView((60, 56))  # its row meets nothing, its column a few slices
    for index, plane in enumerate(slanted):
        view.add(index, PackedMask.of(plane))
    met = {i for i, plane in enumerate(slanted) if plane[:, 56].any()}
    assert len(met) < 5
    assert view.seen(predictor, open_volume(image(slanted)), "z").denied <= met
