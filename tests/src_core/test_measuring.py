"""Measurements plane by plane are those of the whole object."""

from __future__ import annotations

import csv
import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.measure import marching_cubes, mesh_surface_area, regionprops

from src_core.errors import VolumeError
from src_core.labels import LabelVolume
from src_core.measuring import Measuring, table
from src_core.session import ObjectState
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume

SCALE = {"z": 2.0, "y": 0.5, "x": 0.25}


def _labels(path: Path, volume: Volume, ids: np.ndarray) -> LabelVolume:
    labels = LabelVolume.create(path, volume)
    labels.array[...] = ids
    return labels


def _measured(volume: Volume, labels: LabelVolume) -> list[Any]:
    measuring = Measuring(volume, labels)
    steps = list(measuring.steps())
    assert steps[-1].done == steps[-1].total == len(steps)
    return measuring.rows()


def _blobs() -> np.ndarray:
    """Two balls that touch, one cut by the border, with a large id; and a speck on one plane."""
    z, y, x = np.indices((9, 30, 40))
    ids = np.zeros((9, 30, 40), np.uint32)
    ids[(z - 4) ** 2 + (y - 12) ** 2 / 4 + (x - 10) ** 2 / 4 < 16] = 3
    ids[(z - 1) ** 2 + (y - 12) ** 2 / 4 + (x - 22) ** 2 / 4 < 16] = 4_000_000
    ids[6, 25:27, 30:33] = 5
    return ids


def test_a_stack_with_channels(tmp_path: Path) -> None:
    ids = _blobs()
    image = np.random.default_rng(0).integers(0, 1000, (2, *ids.shape), np.uint16)
    volume = open_volume(image, axes="czyx", scale=SCALE, units=dict.fromkeys("zyx", "micrometer"))
    rows = _measured(volume, _labels(tmp_path / "l", volume, ids))
    spacing = tuple(SCALE.values())
    expected = {r.label: r for r in regionprops(ids, np.moveaxis(image, 0, -1))}
    assert [r.id for r in rows] == [3, 5, 4_000_000]
    for row in rows:
        whole = expected[row.id]
        assert row.voxels == whole.area and np.allclose(row.centroid, whole.centroid)
        assert np.allclose(row.means, whole.intensity_mean)
        assert row.slices == np.ptp(whole.coords[:, 0]) + 1
        solid = np.pad(ids == row.id, 1).astype(np.float32)
        vertices, faces, *_ = marching_cubes(solid, 0.5, spacing=spacing)
        assert row.surface == pytest.approx(mesh_surface_area(vertices, faces), rel=1e-5)


def test_the_table_has_units_names_and_states(tmp_path: Path) -> None:
    ids = _blobs()
    volume = open_volume(np.ones(ids.shape, np.uint8), scale=SCALE, units=dict.fromkeys("zyx", "micrometer"))
    rows = _measured(volume, _labels(tmp_path / "l", volume, ids))
    state = ObjectState(
        3, name="nucleus, left", done=True, scores={PlaneRef("z", 2): 0.5, PlaneRef("z", 3): 0.25}
    )
    found = list(csv.DictReader(io.StringIO(table(rows, volume, {3: state}))))
    first = found[0]
    assert (
        first["name"] == "nucleus, left" and first["state"] == "done" and first["lowest_confidence"] == "0.25"
    )
    assert float(first["volume_um3"]) == pytest.approx((ids == 3).sum() * 0.25)
    centre = np.argwhere(ids == 3).mean(0) * list(SCALE.values())
    assert [float(first[f"centroid_{a}_um"]) for a in "zyx"] == pytest.approx(centre.tolist(), rel=1e-5)
    assert first["mean_channel_0"] == "1" and int(first["pixels"]) == (ids == 3).sum()
    assert found[1]["name"] == "" and found[1]["slices"] == "1" and "t" not in first


def test_a_single_image_has_areas_and_outlines(tmp_path: Path) -> None:
    ids = np.zeros((20, 30), np.uint32)
    ids[5:15, 5:25] = 7
    volume = open_volume(np.full((20, 30), 9, np.uint8))
    rows = _measured(volume, _labels(tmp_path / "l", volume, ids))
    assert len(rows) == 1 and rows[0].voxels == 200 and rows[0].centroid.tolist() == [9.5, 14.5]
    assert rows[0].surface == pytest.approx(60, abs=3)
    assert "area_px2,outline_px,centroid_y_px" in table(rows, volume).splitlines()[0]


def test_time_points_and_colours(tmp_path: Path) -> None:
    ids = np.zeros((3, 4, 10, 10), np.uint32)
    ids[1, :, 2:5, 2:5] = 1
    ids[2, 1:3, 2:5, 2:5] = 1
    movie = open_volume(np.zeros(ids.shape, np.uint8), axes="tzyx")
    rows = _measured(movie, _labels(tmp_path / "m", movie, ids))
    assert [(r.t, r.id, r.voxels, r.slices) for r in rows] == [(1, 1, 36, 4), (2, 1, 18, 2)]
    found = list(csv.DictReader(io.StringIO(table(rows, movie))))
    assert [r["t"] for r in found] == ["1", "2"]
    colour = open_volume(np.broadcast_to(np.uint8([1, 2, 3]), (10, 10, 3)), axes="yxc")
    rows = _measured(colour, _labels(tmp_path / "c", colour, ids[1, 0]))
    assert rows[0].means.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ({"z": 4, "y": 12, "x": 12}, {"z": 4, "y": 10, "x": 10}),
        ({"z": 4, "y": 12, "x": 10}, {"z": 4, "y": 10, "x": 12}),
        ({"t": 2, "z": 4, "y": 10, "x": 10}, {"z": 4, "y": 10, "x": 10}),
        ({"z": 4, "y": 10, "x": 10}, {"t": 2, "z": 4, "y": 10, "x": 10}),
        ({"z": 4, "y": 10, "x": 10}, {"t": 4, "y": 10, "x": 10}),
        ({"z": 4, "y": 10, "x": 10}, {"y": 10, "x": 10}),
    ],
)
def test_labels_that_are_not_those_of_the_image_are_refused(
    tmp_path: Path, image: dict[str, int], labels: dict[str, int]
) -> None:
    measured, drawn = (
        open_volume(np.zeros(tuple(s.values()), np.uint8), axes="".join(s)) for s in (image, labels)
    )
    there, wanted = (", ".join(f"{a}={n}" for a, n in s.items()) for s in (labels, image))
    words = f"the labels have {there}, the image has {wanted}. Choose the labels"
    with pytest.raises(VolumeError, match=words):
        Measuring(measured, LabelVolume.create(tmp_path / "l", drawn))


def test_a_single_time_point_may_be_an_axis_or_not(tmp_path: Path) -> None:
    stack, film = (
        open_volume(np.ones(shape, np.uint8), axes=axes)
        for shape, axes in (((4, 10, 10), "zyx"), ((1, 4, 10, 10), "tzyx"))
    )
    for name, image, other in (("a", stack, film), ("b", film, stack)):
        (row,) = _measured(image, _labels(tmp_path / name, other, np.uint32(1)))
        assert row.voxels == 400


def test_nothing_to_measure(tmp_path: Path) -> None:
    volume = open_volume(np.zeros((4, 10, 10), np.uint8))
    rows = _measured(volume, LabelVolume.create(tmp_path / "l", volume))
    assert rows == [] and table(rows, volume).count("\n") == 1


def test_memory_is_that_of_planes_not_of_the_object(tmp_path: Path) -> None:
    shape = (60, 256, 256)
    volume = open_volume(np.broadcast_to(np.uint8(1), shape))
    labels = LabelVolume.create(tmp_path / "l", volume)
    for z in range(shape[0]):
        labels.write_plane("z", z, {1: np.ones(shape[1:], bool)})
    measuring = Measuring(volume, labels)
    steps = measuring.steps()
    next(steps)
    tracemalloc.start()
    for _ in steps:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert measuring.rows()[0].voxels == np.prod(shape)
    assert peak < 60 * shape[1] * shape[2] * 4, "less than the volume's ids"


@pytest.mark.parametrize(("dtype", "value"), [(np.float16, 1000.0), (np.float16, 2.5), (np.uint8, 200)])
def test_means_do_not_overflow(tmp_path: Path, dtype: type, value: float) -> None:
    volume = open_volume(np.full((3, 300, 300), value, dtype), contrast_limits=(0, 1000))
    (row,) = _measured(volume, _labels(tmp_path / "l", volume, np.ones((3, 300, 300), np.uint32)))
    assert row.means[0] == value


def test_columns_say_px_only_where_there_is_no_scale_and_positions_are_not_rounded(tmp_path: Path) -> None:
    ids = _blobs()
    image = np.ones(ids.shape, np.uint8)
    for scale, unit in (((1, 1, 1), "px"), ((1000000, 0.25, 0.25), "unit")):
        volume = open_volume(image, scale=scale)
        found = table(_measured(volume, _labels(tmp_path / unit, volume, ids)), volume).splitlines()
        assert f"volume_{unit}3" in found[0] and f"centroid_x_{unit}" in found[0]
    first = next(csv.DictReader(io.StringIO("\n".join(found))))
    assert (
        abs(
            float(first["centroid_z_unit"])
            - 1e6 * _measured(volume, _labels(tmp_path / "l", volume, ids))[0].centroid[0]
        )
        < 0.01
    )
    partly = open_volume(image, scale=SCALE, units={"y": "micrometer", "x": "micrometer"})
    assert "volume_unit3" in table([], partly)


def test_axes_in_different_units_are_measured_in_that_of_x(tmp_path: Path) -> None:
    ids = _blobs()
    image, found = np.ones(ids.shape, np.uint8), []
    for n, (z, unit) in enumerate(((0.3, "micrometer"), (300, "nanometer"))):
        units = {"z": unit, "y": "nanometer", "x": "nanometer"}
        volume = open_volume(image, scale=(z, 100, 100), units=units)
        assert volume.scale["z"] == pytest.approx(300) and set(volume.units.values()) == {"nanometer"}
        found.append(table(_measured(volume, _labels(tmp_path / f"{n}", volume, ids)), volume))
    assert found[0] == found[1] and "volume_nm3" in found[0]
