"""What a volume is and reads: axes, planes, scale, contrast, for arrays and zarr."""

from __future__ import annotations

import json
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import zarr

from src_core.errors import VolumeError
from src_core.volumes import Plane, Volume, open_volume
from tests.src_core.image_files import chunk_files, write_ome_zarr


class CountingArray:
    """A minimal lazy array that notes what is read from it."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data
        self.shape, self.dtype = data.shape, data.dtype
        self.pixels_read = 0

    def __getitem__(self, index: object) -> np.ndarray:
        block = self.data[index]
        self.pixels_read += block.size
        return block


@pytest.fixture
def stack() -> np.ndarray:
    return np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)


@pytest.mark.parametrize(
    "kind", ["numpy", "dask", "zarr array", "zarr v2", "zarr v3", "minimal", "ome group"]
)
def test_every_source_gives_the_same_planes(kind: str, stack: np.ndarray, tmp_path: Path) -> None:
    def on_disk(zarr_format: int) -> zarr.Array:
        array = zarr.create_array(
            tmp_path / "a.zarr",
            shape=stack.shape,
            chunks=(2, 3, 8),
            dtype=stack.dtype,
            zarr_format=zarr_format,
        )
        array[:] = stack
        return array

    source = {
        "numpy": lambda: stack,
        "dask": lambda: da.from_array(stack, chunks=(1, 6, 4)),
        "zarr array": lambda: on_disk(3),
        "zarr v2": lambda: on_disk(2) and tmp_path / "a.zarr",
        "zarr v3": lambda: on_disk(3) and str(tmp_path / "a.zarr"),
        "minimal": lambda: CountingArray(stack),
        "ome group": lambda: zarr.open_group(write_ome_zarr(tmp_path / "g.zarr", [stack]), mode="r"),
    }[kind]()
    volume = open_volume(source)
    assert volume.axes == volume.spatial_axes == ("z", "y", "x")
    assert volume.shape == stack.shape and volume.dtype == stack.dtype and volume.ndim == 3
    assert volume.levels == (stack.shape,)
    np.testing.assert_array_equal(volume.plane(z=3).pixels, stack[3])
    np.testing.assert_array_equal(volume.plane(y=2).pixels, stack[:, 2])
    np.testing.assert_array_equal(volume.plane(x=np.int64(7)).pixels, stack[:, :, 7])
    assert isinstance(volume.plane(z=0).pixels, np.ndarray)
    low, high = volume.contrast_limits_of()
    assert 0 <= low < 5 and 185 < high <= 191


def test_a_plane_says_what_it_is(stack: np.ndarray) -> None:
    volume = open_volume(stack, scale={"z": 2.0, "y": 0.5, "x": 0.25})
    plane = volume.plane(y=5)
    assert (plane.axis, plane.index, plane.row_axis, plane.column_axis) == ("y", 5, "z", "x")
    assert plane.scale_yx == (2.0, 0.25) and plane.shape == (4, 8) and (plane.t, plane.c) == (0, 0)
    assert [volume.n_planes(a) for a in "zyx"] == [4, 6, 8]
    assert [volume.plane_shape(a) for a in "zyx"] == [(6, 8), (4, 8), (4, 6)]


def test_axes_in_any_order_come_out_as_z_y_x() -> None:
    data = np.random.default_rng(0).integers(0, 99, (8, 2, 6, 4, 3)).astype(np.uint16)
    volume = open_volume(data, axes="xcyzt")
    assert volume.spatial_axes == ("z", "y", "x")
    np.testing.assert_array_equal(volume.plane(z=3, t=2, c=1).pixels, data[:, 1, :, 3, 2].T)
    np.testing.assert_array_equal(volume.plane(x=7, t=0).pixels, data[7, 0, :, :, 0].T)


@pytest.mark.parametrize(
    ("shape", "dtype", "axes", "rgb"),
    [
        ((5, 6), "u2", "yx", False),
        ((4, 5, 6), "u2", "zyx", False),
        ((4, 5, 3), "u2", "zyx", False),
        ((2, 4, 5, 6), "u2", "czyx", False),
        ((2, 3, 4, 5, 6), "u2", "tczyx", False),
        ((5, 6, 3), "u1", "yxc", True),
        ((5, 6, 4), "u1", "yxc", True),
        ((7, 5, 6, 3), "u1", "zyxc", True),
    ],
)
def test_guessed_axes(shape: tuple[int, ...], dtype: str, axes: str, rgb: bool) -> None:
    volume = open_volume(np.zeros(shape, dtype))
    assert volume.axes == tuple(axes) and volume.rgb is rgb


@pytest.mark.parametrize("shape", [(20, 30, 5, 6), (5, 4, 5, 6), (7,), (1, 1, 1, 1, 5, 6)])
def test_ambiguous_dimensions_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(VolumeError, match=r"axes|at least"):
        open_volume(np.zeros(shape, np.uint16))


def test_axes_argument_decides_whether_colour() -> None:
    data = np.zeros((5, 6, 3), np.uint8)
    assert open_volume(data, axes="zyx").rgb is False
    assert open_volume(data, axes=["row", "column", "channel"]).rgb is True
    assert open_volume(data.transpose(2, 0, 1), axes="cyx").rgb is False


def test_two_dimensional_images() -> None:
    data = np.arange(30, dtype=np.uint8).reshape(5, 6)
    volume = open_volume(data)
    assert volume.spatial_axes == ("y", "x")
    for plane in (volume.plane(), volume.plane(z=0)):
        np.testing.assert_array_equal(plane.pixels, data)
        assert plane.axis is None and plane.index == 0
    assert volume.n_planes(None) == volume.n_planes("z") == 1 and volume.plane_shape(None) == (5, 6)
    for bad in ({"z": 1}, {"y": 0}, {"z": 0, "x": 1}):
        with pytest.raises(VolumeError):
            volume.plane(**bad)
    with pytest.raises(VolumeError, match="2-D"):
        volume.n_planes("y")


def test_out_of_range_and_missing_positions(stack: np.ndarray) -> None:
    volume = open_volume(np.stack([stack, stack]), axes="czyx")
    for bad, words in [
        ({"z": 4}, "z=4.*0 to 3"),
        ({"z": -1}, "z=-1.*0 to 3"),
        ({"x": 8}, "0 to 7"),
        ({"z": 0, "c": 2}, "c=2.*0 to 1"),
        ({"z": 0, "t": 1}, "t=1.*0 to 0.*no axis t"),
        ({"z": 1.0}, "integer"),
        ({}, "exactly one"),
        ({"z": 0, "y": 0}, "exactly one.*z, y"),
    ]:
        with pytest.raises(VolumeError, match=words):
            volume.plane(**bad)


def test_a_single_pixel_is_an_image() -> None:
    volume = open_volume(np.full((1, 1, 1), 7, np.int32))
    assert volume.plane().pixels.tolist() == [[7]]
    assert volume.plane(x=0).rgb8().tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", ">u2", "i2", "u4", ">i4", "u8", "i8", "f2", ">f4", "f8"])
def test_every_dtype_shows(dtype: str) -> None:
    data = np.zeros((3, 16, 16), dtype)
    data[:, 8:] = 1
    plane = open_volume(data).plane(z=1)
    assert plane.pixels.dtype == np.dtype(dtype).newbyteorder("=")
    picture = plane.rgb8()
    assert picture.dtype == np.uint8 and picture.shape == (16, 16, 3)
    assert (picture[:8] == 0).all() and (picture[8:] == 255).all()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.complex64),
        np.zeros((4, 4), object),
        np.full((4, 4), "a"),
        np.zeros((4, 4), "M8[s]"),
    ],
    ids=lambda a: str(a.dtype),
)
def test_other_dtypes_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(VolumeError, match="dtype"):
        open_volume(bad)


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 4), (0, 0)])
def test_empty_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(VolumeError, match="length 0"):
        open_volume(np.zeros(shape, np.uint8), axes="zyx"[-len(shape) :])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"axes": "yx"}, "2 dimensions.*has 3"),
        ({"axes": "yyx"}, "twice"),
        ({"axes": "qyx"}, "unknown"),
        ({"axes": "tcz"}, "lack y or x"),
        ({"axes": 3}, "names"),
        ({"scale": [1, 2]}, "2 values"),
        ({"scale": {"q": 1}}, "unknown axes"),
        ({"scale": [1, 1, 0]}, "above 0"),
        ({"scale": [1, 1, "wide"]}, "number"),
        ({"scale": [1, float("nan"), 1]}, "finite"),
        ({"level": 1}, "level=1.*0 to 0"),
        ({"level": "1"}, "level='1'.*0 to 0"),
        ({"level": None}, "level=None"),
        ({"channel": 1}, "channel=1"),
        ({"contrast_limits": (5, 5)}, "low < high"),
        ({"contrast_limits": (0, float("inf"))}, "finite"),
        ({"contrast_limits": 3}, "two numbers"),
        ({"contrast_limits": {4: (0, 1)}}, "channels"),
    ],
)
def test_wrong_arguments(stack: np.ndarray, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(VolumeError, match=words):
        open_volume(stack, **arguments)


def test_scale_and_units_forms(stack: np.ndarray) -> None:
    data = np.stack([stack, stack])
    for scale in (2.0, [2, 2, 2], [1, 2, 2, 2], {"z": 2, "y": 2, "x": 2}):
        volume = open_volume(data, scale=scale, units="micrometer")
        assert dict(volume.scale) == {"c": 1.0, "z": 2.0, "y": 2.0, "x": 2.0}
        assert dict(volume.units) == {"c": None, "z": "micrometer", "y": "micrometer", "x": "micrometer"}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(version: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    fine = rng.integers(0, 4000, (2, 3, 8, 8)).astype(np.uint16)
    path = write_ome_zarr(
        tmp_path / "cells.ome.zarr",
        [fine, fine[:, :, ::2, ::2]],
        version=version,
        axes="czyx",
        scale=[1, 3.0, 0.5, 0.25],
        translation=[0, 1.0, 2.0, 3.0],
    )
    volume = open_volume(path, channel=1)
    assert volume.axes == ("c", "z", "y", "x") and volume.name == "cells.ome.zarr" and volume.path == path
    assert dict(volume.scale) == {"c": 1.0, "z": 3.0, "y": 0.5, "x": 0.25}
    assert dict(volume.translate) == {"c": 0.0, "z": 1.0, "y": 2.0, "x": 3.0}
    assert volume.units["z"] == "micrometer" and volume.units["c"] is None
    assert volume.levels == ((2, 3, 8, 8), (2, 3, 4, 4))
    np.testing.assert_array_equal(volume.plane(z=2).pixels, fine[1, 2])
    coarse = open_volume(path, level=1, scale={"x": 1.0})
    assert coarse.shape == (2, 3, 4, 4)
    assert (coarse.scale["y"], coarse.scale["x"]) == (1.0, 2.0)
    np.testing.assert_array_equal(coarse.plane(z=0, c=1).pixels, fine[1, 0, ::2, ::2])


def test_the_finest_level_is_the_first_wherever_the_metadata_has_it(tmp_path: Path) -> None:
    fine = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    path = write_ome_zarr(tmp_path / "cells.ome.zarr", [fine, fine[:, ::2, ::2]], scale=[1, 0.5, 0.5])
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["ome"]["multiscales"][0]["datasets"].reverse()
    (path / "zarr.json").write_text(json.dumps(metadata))
    volume = open_volume(path)
    assert volume.levels == ((2, 8, 8), (2, 4, 4)) and volume.scale["y"] == 0.5
    np.testing.assert_array_equal(volume.plane(z=1).pixels, fine[1])


def test_dimension_names_of_a_bare_array(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(20, 30, 4, 5), dtype="u1", dimension_names=["time", "z", "y", "x"])
    assert open_volume(path).axes == ("t", "z", "y", "x")
    named = tmp_path / "b.zarr"
    zarr.create_array(named, shape=(4, 5), dtype="u1", dimension_names=["a", "b"])
    with pytest.raises(VolumeError, match="unknown"):
        open_volume(named)
    assert open_volume(named, axes="yx").axes == ("y", "x")


def test_opening_reads_no_pixel_and_a_plane_reads_its_own(stack: np.ndarray) -> None:
    source = CountingArray(stack)
    volume = open_volume(source)
    assert source.pixels_read == 0
    plane = volume.plane(y=1)
    assert source.pixels_read == 4 * 8
    assert len(plane.contrast_limits) == 2 and source.pixels_read > 4 * 8


def test_a_plane_reads_only_its_chunks(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", [np.ones((4, 8, 8), np.uint8)])
    for damaged in chunk_files(path)[1:]:
        damaged.write_bytes(b"")
    volume = open_volume(path)
    assert (volume.plane(z=0).pixels == 1).all()
    with pytest.raises(VolumeError, match=r"z=1.*truncated or damaged"):
        volume.plane(z=1)
    assert volume.contrast_limits_of() == (1.0, 2.0)  # from the chunk that can be read


def test_never_written_chunks_are_the_fill_value(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a.zarr", shape=(50_000, 40_000, 40_000), chunks=(1, 512, 512), dtype="u2", fill_value=9
    )
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.contrast_limits_of() == (9.0, 10.0)
    assert volume.n_planes("z") == 50_000


def test_the_same_contrast_on_every_plane_per_channel() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(100, 10, (2, 40, 64, 64)).astype(np.float32)
    data[1] += 1000
    data[0, 5] += 500
    volume = open_volume(data)
    first = volume.contrast_limits_of(0)
    assert volume.plane(z=5).contrast_limits == volume.plane(z=30).contrast_limits == first
    truth = np.percentile(data[0], [0.5, 99.8])
    assert abs(first[0] - truth[0]) < 5 and first[1] > 500
    assert 1000 < volume.contrast_limits_of(1)[0] < 1100
    assert volume.contrast_limits_of(0) == open_volume(data).contrast_limits_of(0)


def test_contrast_of_awkward_images() -> None:
    data = np.full((3, 32, 32), np.nan, np.float32)
    assert open_volume(data).contrast_limits_of() == (0.0, 1.0)
    assert not open_volume(data).plane(z=0).rgb8().any()
    data[:, :16] = 5
    data[0, 0, 0], data[0, 0, 1] = np.inf, -np.inf
    volume = open_volume(data)
    assert volume.contrast_limits_of() == (5.0, 6.0)
    picture = volume.plane(z=0).rgb8()
    assert picture[0, 0, 0] == 255 and picture[0, 1, 0] == 0 and not picture[1:].any()
    sparse = np.zeros((3, 200, 200), np.uint16)
    sparse[1, 50, 50] = 900
    assert open_volume(sparse).contrast_limits_of() == (0.0, 900.0)
    huge = np.array([[-1.7e308, 1.7e308]])
    assert open_volume(huge, contrast_limits=(-1.7e308, 1.7e308)).plane().rgb8()[0, :, 0].tolist() == [0, 255]
    low, high = open_volume(np.full((2, 2), 2**63, np.uint64)).contrast_limits_of()
    assert low == 2**63 < high


def test_the_callers_contrast_is_honoured(stack: np.ndarray) -> None:
    source = CountingArray(stack)
    plane = open_volume(source, contrast_limits=(32, 42)).plane(z=0)
    assert plane.rgb8()[4, :4, 0].tolist() == [0, 26, 51, 76] and plane.rgb8()[5, 7, 1] == 255
    assert source.pixels_read == 48
    volume = open_volume(np.stack([stack, stack]), contrast_limits={1: (0, 10)})
    assert volume.contrast_limits_of(1) == (0.0, 10.0) and volume.contrast_limits_of(0)[1] > 180


def test_the_callers_contrast_counts_for_colour_too() -> None:
    data = np.array([[[0, 10, 20], [30, 40, 200]]], np.uint8)
    plane = open_volume(data, contrast_limits=(10, 40)).plane()
    assert plane.rgb8().tolist() == [[[0, 0, 85], [170, 255, 255]]]


def test_contrast_reads_a_bounded_sample_of_the_coarsest_level(tmp_path: Path) -> None:
    source = CountingArray(np.zeros((200, 512, 512), np.uint8))
    open_volume(source).contrast_limits_of()
    assert source.pixels_read <= 64 * 2**16
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 100, (4, 256, 256)).astype(np.uint8)
    path = write_ome_zarr(tmp_path / "a.zarr", [fine, np.full((4, 128, 128), 50, np.uint8)])
    assert open_volume(path).contrast_limits_of() == (50.0, 51.0)


def test_colour_passes_unchanged() -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 5, 6, 4)).astype(np.uint8)
    volume = open_volume(data)
    assert isinstance(volume, Volume)
    plane = volume.plane(z=2)
    assert isinstance(plane, Plane) and plane.contrast_limits == (0.0, 255.0)
    np.testing.assert_array_equal(plane.pixels, data[2, :, :, :3])
    np.testing.assert_array_equal(plane.rgb8(), data[2, :, :, :3])
    np.testing.assert_array_equal(volume.plane(x=1).rgb8(), data[:, :, 1, :3])
    with pytest.raises(VolumeError, match="c=1"):
        volume.plane(z=0, c=1)


def test_real_volumes(shared_data: Path) -> None:
    image = open_volume(shared_data / "plant_nuclei_1135.ome.zarr")
    truth = open_volume(shared_data / "plant_nuclei_1135.ome.zarr" / "labels" / "ground_truth")
    assert image.shape == truth.shape == (100, 100, 100)
    assert image.scale == truth.scale and image.units["z"] == "micrometer"
    inside = truth.plane(y=50).pixels > 0
    picture = image.plane(y=50).rgb8()[..., 0]
    assert picture[inside].mean() > 2 * picture[~inside].mean()


def test_a_scale_of_one_pixel_is_not_known() -> None:
    pixels = np.zeros((3, 4, 5), np.uint8)
    assert not open_volume(pixels).is_scaled
    assert not open_volume(pixels, scale=1.0, units="pixel").is_scaled
    assert open_volume(pixels, scale=1.0, units="micrometer").is_scaled
    assert open_volume(pixels, scale={"z": 4.0}).is_scaled
    assert not open_volume(pixels[0]).is_scaled


def test_slices_whose_distance_nobody_told_do_not_compare_with_pixels_of_a_known_size() -> None:
    pixels = np.zeros((3, 4, 5), np.uint8)
    size = {"y": 0.2, "x": 0.2}
    units = {"z": None, "y": "micrometer", "x": "micrometer"}
    assert not open_volume(pixels, scale=size, units=units).is_scaled
    assert open_volume(pixels, scale={**size, "z": 2.0}, units=units).is_scaled, (
        "told, in the same unit surely"
    )
    assert open_volume(pixels[0], scale=size, units=dict.fromkeys("yx", "micrometer")).is_scaled


def test_a_coarser_level_of_an_image_without_a_size_has_none_either(tmp_path: Path) -> None:
    levels = [np.zeros(shape, np.uint8) for shape in ((3, 101, 64), (3, 51, 32))]
    image = write_ome_zarr(tmp_path / "cells.ome.zarr", levels)
    for source in (levels, image):
        coarse = open_volume(source, level=1, units=dict.fromkeys("zyx"))
        assert coarse.scale["x"] == 2
        assert not coarse.is_scaled
        assert open_volume(source, level=1, scale=0.5, units=dict.fromkeys("zyx")).is_scaled
