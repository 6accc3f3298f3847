"""Coarser levels of labels always are every second pixel of the finer ones, and foreign ones are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from src_core.errors import VolumeError
from src_core.labels import LabelVolume, create_labels
from src_core.labels.pyramid import level_shapes
from src_core.volumes import open_volume
from tests.src_core.image_files import chunk_files, write_ome_zarr

SHAPE = (3, 1300, 701)


@pytest.fixture
def labels(tmp_path: Path) -> LabelVolume:
    volume = open_volume(np.zeros(SHAPE, np.uint8), scale={"z": 2, "y": 0.5, "x": 0.5})
    return create_labels(volume, tmp_path / "cells.labels.ome.zarr", pyramid=True)


def check(labels: LabelVolume) -> None:
    """Every level is what striding over the finest gives."""
    finest = labels.array[:]
    for k, level in enumerate(labels.levels):
        np.testing.assert_array_equal(level[:], finest[..., :: 2**k, :: 2**k])


def test_levels_halve_rows_and_columns_until_they_are_small(labels: LabelVolume) -> None:
    assert [a.shape for a in labels.levels] == [SHAPE, (3, 650, 351), (3, 325, 176)]
    assert level_shapes((20000, 1), "yx")[-1] == (313, 1)
    assert level_shapes((5, 512, 512), "zyx") == [(5, 512, 512)]
    assert not chunk_files(labels.path), "an empty pyramid costs nothing"


@pytest.mark.parametrize(("axis", "shape"), [("z", SHAPE[1:]), ("y", (3, 701)), ("x", (3, 1300))])
def test_what_is_written_along_any_axis_is_in_every_level(
    labels: LabelVolume, axis: str, shape: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    for n in range(12):
        mask = np.zeros(shape, np.bool_)
        (y0, y1), (x0, x1) = (np.sort(rng.choice(side, 2, replace=False)) for side in shape)
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
        labels.write_plane(axis, int(rng.integers(labels.shape["zyx".index(axis)])), {n % 4 + 1: mask})
        check(labels)
    assert labels.levels[-1][:].any()


def test_undo_and_single_pixels_reach_every_level(labels: LabelVolume) -> None:
    for y, x in ((0, 0), (1, 1), (4, 8), (1299, 700), (1296, 700)):
        mask = np.zeros(SHAPE[1:], np.bool_)
        mask[y, x] = True
        change = labels.write_plane("z", 1, {5: mask})
        check(labels)
        assert change.box_yxyx is not None and change.before is not None
        labels.write_box("z", 1, change.box_yxyx, change.before)
        check(labels)
    assert not labels.levels[-1][:].any()


def test_it_is_opened_again_for_writing_and_by_viewers(labels: LabelVolume) -> None:
    again = LabelVolume.open(labels.path)
    again.write_plane("z", 0, {1: np.ones(SHAPE[1:], np.bool_)})
    check(again)
    seen = open_volume(labels.path)
    assert seen.levels == tuple(a.shape for a in labels.levels)
    ome = zarr.open_group(labels.path, mode="r").attrs["ome"]["multiscales"][0]
    scales = [d["coordinateTransformations"][0]["scale"] for d in ome["datasets"]]
    assert scales == [[2, 0.5, 0.5], [2, 1, 1], [2, 2, 2]]


def test_pyramids_that_others_made_are_only_read(tmp_path: Path) -> None:
    levels = [np.zeros((1, n, n), np.uint32) for n in (1200, 600, 300)]
    path = write_ome_zarr(tmp_path / "theirs.ome.zarr", levels, extra={"image-label": {}})
    with pytest.raises(VolumeError, match="3 pyramid levels"):
        LabelVolume.open(path)
    assert len(LabelVolume.open(path, "r").levels) == 3


def test_without_asking_there_is_one_level(tmp_path: Path) -> None:
    volume = open_volume(np.zeros(SHAPE, np.uint8))
    assert len(create_labels(volume, tmp_path / "a.ome.zarr").levels) == 1
