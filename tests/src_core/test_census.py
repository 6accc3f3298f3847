"""Sizes of objects follow every change, and only changed chunks are read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src_core.labels import LabelVolume
from src_core.labels.census import Census
from src_core.types import PlaneRef
from src_core.volumes import open_volume

SHAPE = (2, 9, 300, 280)


@pytest.fixture
def labels(tmp_path: Path) -> LabelVolume:
    return LabelVolume.create(tmp_path / "labels", open_volume(np.zeros(SHAPE, np.uint8), axes="tzyx"))


def _true(labels: LabelVolume) -> dict[int, int]:
    ids, counts = np.unique(labels.array[:], return_counts=True)
    return {int(i): int(n) for i, n in zip(ids, counts, strict=True) if i}


def _true_slices(labels: LabelVolume) -> dict[int, int]:
    whole = np.asarray(labels.array[:])
    planes = whole.reshape(-1, *whole.shape[-2:])
    return {i: int((planes == i).any((1, 2)).sum()) for i in _true(labels)}


def _count(census: Census) -> int:
    steps = sum(1 for _ in census.steps())
    assert not census.behind
    return steps


def test_sizes_follow_changes_on_planes_of_every_axis(labels: LabelVolume) -> None:
    rng = np.random.default_rng(0)
    labels.array[0, 3] = rng.integers(0, 5, SHAPE[2:])
    census = Census(labels)
    assert census.behind and census.voxels == {}
    _count(census)
    assert (census.voxels, census.slices) == (_true(labels), _true_slices(labels))
    for axis, index, t in (("z", 3, 0), ("z", 8, 1), ("y", 299, 1), ("x", 5, 0)):
        shape = labels.read_plane(axis, index, t).shape
        change = labels.write_plane(axis, index, {7: rng.random(shape) < 0.5}, t=t)
        census.changed(PlaneRef(axis, index, t), change.box_yxyx)
    labels.array[0, 1] = 2
    census.changed(PlaneRef("z", 1, 0))
    assert census.behind
    _count(census)
    assert (census.voxels, census.slices) == (_true(labels), _true_slices(labels))


def test_only_what_has_changed_is_read_again(labels: LabelVolume) -> None:
    labels.array[...] = 1
    census = Census(labels)
    everything = _count(census)
    labels.write_box("z", 4, (10, 10, 14, 14), np.full((4, 4), 2, np.uint32), t=1)
    census.changed(PlaneRef("z", 4, 1), (10, 10, 14, 14))
    assert _count(census) == 1 < everything
    assert census.voxels[2] == 16


def test_a_change_in_mid_count_is_not_missed(labels: LabelVolume) -> None:
    labels.array[...] = 1
    census = Census(labels)
    steps = census.steps()
    next(steps)  # the first chunk has been counted
    labels.write_box("z", 0, (0, 0, 4, 4), np.full((4, 4), 2, np.uint32))
    census.changed(PlaneRef("z", 0), (0, 0, 4, 4))
    for _ in steps:
        pass
    assert census.voxels == _true(labels)


def test_what_is_erased_is_on_no_slice_any_more(labels: LabelVolume) -> None:
    labels.array[0, 2:5, :9, :9] = 3
    census = Census(labels)
    _count(census)
    assert census.slices == {3: 3}
    for z in (2, 3, 4):
        change = labels.write_plane("z", z, {3: np.zeros(SHAPE[2:], np.bool_)})
        census.changed(PlaneRef("z", z), change.box_yxyx)
    _count(census)
    assert census.slices == census.voxels == {}


def test_a_single_plane_has_one_slice(tmp_path: Path) -> None:
    flat = LabelVolume.create(tmp_path / "labels", open_volume(np.zeros((20, 30), np.uint8)))
    flat.array[:5] = 4
    census = Census(flat)
    _count(census)
    assert (census.voxels, census.slices) == ({4: 150}, {4: 1})
