"""TIFF in its dialects, read lazily."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from src_core.errors import VolumeError
from src_core.volumes import open_volume
from tests.src_core.image_files import write_ome_tiff_set

STACK = np.random.default_rng(0).integers(0, 4000, (5, 32, 40)).astype(np.uint16)
TWO = np.stack([STACK, STACK + 1])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"metadata": None},
        {"bigtiff": True, "byteorder": ">", "tile": (16, 16), "compression": "zlib"},
        {"rowsperstrip": 3},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
    ],
    ids=str,
)
def test_dialects(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, **options)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.axes == ("z", "y", "x") and volume.shape == STACK.shape
    assert volume.name == "a.tif" and volume.path == tmp_path / "a.tif"
    np.testing.assert_array_equal(volume.plane(z=4).pixels, STACK[4])
    np.testing.assert_array_equal(volume.plane(y=31).pixels, STACK[:, 31])
    assert volume.plane(z=0).pixels.dtype == np.uint16 and volume.plane(z=0).pixels.dtype.isnative


def test_imagej_axes_and_scale(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        TWO.transpose(1, 0, 2, 3),
        imagej=True,
        resolution=(4, 5),
        metadata={"axes": "ZCYX", "spacing": 3.0, "unit": "um"},
    )
    volume = open_volume(tmp_path / "a.tif")
    assert volume.axes == ("z", "c", "y", "x")
    assert dict(volume.scale) == pytest.approx({"z": 3.0, "c": 1.0, "y": 0.2, "x": 0.25})
    assert volume.units["y"] == volume.units["z"] == "micrometer"
    np.testing.assert_array_equal(volume.plane(x=3, c=1).pixels, TWO[1, :, :, 3])


def test_ome_axes_and_scale(tmp_path: Path) -> None:
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeY": 0.3,
        "PhysicalSizeZ": 900,
        "PhysicalSizeZUnit": "nm",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", TWO, metadata=metadata)
    volume = open_volume(str(tmp_path / "a.ome.tif"))
    assert volume.axes == ("c", "z", "y", "x")
    assert [volume.scale[a] for a in "zyx"] == pytest.approx([0.9, 0.3, 0.2])
    assert {volume.units[a] for a in "zyx"} == {"micrometer"}, "one unit for all"


def test_pyramid(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(STACK, subifds=1, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5})
        writer.write(STACK[:, ::2, ::2], subfiletype=1)
    volume = open_volume(tmp_path / "a.ome.tif", level=1)
    assert volume.levels == ((5, 32, 40), (5, 16, 20)) and volume.scale["x"] == 1.0
    np.testing.assert_array_equal(volume.plane(z=1).pixels, STACK[1, ::2, ::2])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colour(tmp_path: Path, planar: str) -> None:
    data = np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8)
    stored = data if planar == "contig" else np.ascontiguousarray(data.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    volume = open_volume(tmp_path / "a.tif")
    assert volume.rgb and volume.spatial_axes == ("y", "x")
    np.testing.assert_array_equal(volume.plane().rgb8(), data)


def test_colour_stack_and_deep_colour(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 60000, (4, 32, 40, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb")
    volume = open_volume(tmp_path / "a.tif")
    assert volume.rgb and volume.axes == ("z", "y", "x", "c")
    assert volume.plane(z=3).pixels.shape == (32, 40, 3)
    assert volume.plane(z=3).rgb8().std() > 50


def test_unnamed_axes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", TWO)
    assert open_volume(tmp_path / "a.tif").axes == ("c", "z", "y", "x")
    many = np.zeros((12, 13, 16, 16), np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", many)
    with pytest.raises(VolumeError, match="axes='tzyx'"):
        open_volume(tmp_path / "b.tif")


def test_unknown_axes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "HYX"})
    with pytest.raises(VolumeError, match="HYX"):
        open_volume(tmp_path / "a.tif")
    assert open_volume(tmp_path / "a.tif", axes="tyx").sizes == {"t": 5, "y": 32, "x": 40}


@pytest.mark.parametrize(
    "options", [{}, {"metadata": None, "compression": "zlib"}, {"tile": (16, 16), "bigtiff": True}], ids=str
)
def test_truncated_file(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VolumeError, match=r"truncated|damaged"):
        open_volume(path).plane(z=4)
    path.write_bytes(content[:12])
    with pytest.raises(VolumeError, match=r"truncated|damaged|half written"):
        open_volume(path)


def test_truncated_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0], contiguous=True)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(VolumeError, match="truncated"):
        open_volume(path).plane()


def test_the_file_is_closed_with_its_last_array(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK)
    volume = open_volume(path)
    array = volume.array
    del volume
    gc.collect()
    np.testing.assert_array_equal(array[1], STACK[1])
    del array
    gc.collect()  # an unclosed file would raise a ResourceWarning here
    if (descriptors := Path("/proc/self/fd")).is_dir():
        assert path not in [p.resolve() for p in descriptors.iterdir() if p.exists()]


def test_a_stack_of_imagej_that_is_cut_off_is_no_single_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((5, 32, 40), 3, np.uint8)
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZYX"}, truncate=True)
    assert open_volume(path).shape == pixels.shape
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(VolumeError, match="truncated or damaged"):
        open_volume(path)


def test_a_file_missing_of_a_set_is_not_zeros(tmp_path: Path) -> None:
    write_ome_tiff_set(tmp_path, np.repeat(np.uint16([7, 8]), 2 * 32 * 40).reshape(4, 32, 40))
    volume = open_volume(tmp_path / "0.ome.tif")
    assert volume.plane(z=3).pixels.min() == 8
    assert [f.name for f in volume.files] == ["0.ome.tif", "1.ome.tif"] and all(
        f.exists() for f in volume.files
    )
    (tmp_path / "1.ome.tif").unlink()
    with pytest.raises(VolumeError, match="truncated or damaged"):
        open_volume(tmp_path / "0.ome.tif")
