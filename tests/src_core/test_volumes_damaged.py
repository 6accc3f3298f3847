"""Zarrs that are missing, half written or hold something else: each gets a clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from src_core.errors import VolumeError
from src_core.volumes import open_volume
from tests.src_core.image_files import chunk_files, write_ome_zarr


@pytest.fixture
def image(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return write_ome_zarr(tmp_path / "a.ome.zarr", [rng.integers(0, 999, (2, 16, 16)).astype(np.uint16)])


def edit_ome(path: Path, change: Callable[[dict], None]) -> None:
    metadata = json.loads((path / "zarr.json").read_text())
    change(metadata["attributes"]["ome"])
    (path / "zarr.json").write_text(json.dumps(metadata))


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="does not exist"):
        open_volume(tmp_path / "nope.zarr")


def test_folder_without_metadata(image: Path, tmp_path: Path) -> None:
    (image / "zarr.json").unlink()
    with pytest.raises(VolumeError, match="half written"):
        open_volume(image)
    with pytest.raises(VolumeError, match="without a zarr"):
        open_volume(tmp_path)


@pytest.mark.parametrize("text", ['{"zarr_form', "[]", '{"zarr_format": 3, "node_type": "array"}', "", "{}"])
def test_damaged_metadata(image: Path, text: str) -> None:
    (image / "zarr.json").write_text(text)
    with pytest.raises(VolumeError, match=r"half written|without an image"):
        open_volume(image)


@pytest.mark.parametrize("name", [".zattrs", ".zgroup", "0/.zarray"])
def test_damaged_v2_metadata(tmp_path: Path, name: str) -> None:
    path = write_ome_zarr(tmp_path / "b.zarr", [np.ones((2, 4, 4), np.uint8)], version="0.4")
    (path / name).write_text('{"zarr_format": 2,')
    with pytest.raises(VolumeError, match="half written"):
        open_volume(path)


def test_missing_level(image: Path) -> None:
    (image / "0" / "zarr.json").unlink()
    with pytest.raises(VolumeError, match=r"pyramid level '0'.*half written"):
        open_volume(image)


def test_level_with_damaged_metadata(image: Path) -> None:
    (image / "0" / "zarr.json").write_text('{"zarr_format": 3')
    with pytest.raises(VolumeError, match="half written"):
        open_volume(image)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda o: o["multiscales"][0].pop("datasets"), "datasets"),
        (lambda o: o["multiscales"][0].update(datasets=[]), "empty"),
        (lambda o: o["multiscales"][0].update(axes=[{"name": "y"}, {"name": "x"}]), "2 dimensions"),
        (lambda o: o["multiscales"][0].update(axes=[{"name": n} for n in "abc"]), "unknown.*--image-axes"),
        (
            lambda o: o["multiscales"][0].update(
                axes=[*({"name": n, "type": "space"} for n in "ab"), {"name": "c"}]
            ),
            "unknown.*--image-axes",
        ),
        (lambda o: o["multiscales"][0]["datasets"][0].update(path="7"), "'7'"),
        (
            lambda o: o["multiscales"][0]["datasets"][0]["coordinateTransformations"][0].update(scale=[1]),
            "fit 3",
        ),
        (
            lambda o: o["multiscales"][0]["datasets"][0]["coordinateTransformations"][0].update(
                scale=[1, 0, 1]
            ),
            "positive",
        ),
        (lambda o: o.update(multiscales="yes"), "valid"),
        (lambda o: o.update(multiscales=[]), "without an image"),
    ],
)
def test_damaged_multiscales(image: Path, change: Callable[[dict], None], words: str) -> None:
    edit_ome(image, change)
    with pytest.raises(VolumeError, match=words):
        open_volume(image)


def test_groups_that_are_no_image(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g.zarr")
    with pytest.raises(VolumeError, match="without an image"):
        open_volume(tmp_path / "g.zarr")
    group.create_array("raw", shape=(4, 4), dtype="u1")
    with pytest.raises(VolumeError, match="raw"):
        open_volume(tmp_path / "g.zarr")
    zarr.create_group(tmp_path / "l.zarr", attributes={"ome": {"version": "0.5", "labels": ["nuclei"]}})
    with pytest.raises(VolumeError, match=r"only label images \(nuclei\)"):
        open_volume(tmp_path / "l.zarr")
    zarr.create_group(tmp_path / "i.zarr").create_group("labels")
    with pytest.raises(VolumeError, match="only label images"):
        open_volume(tmp_path / "i.zarr")
    zarr.create_group(tmp_path / "p.zarr", attributes={"ome": {"version": "0.5", "plate": {}}})
    with pytest.raises(VolumeError, match="plate"):
        open_volume(tmp_path / "p.zarr")


def test_one_image_inside_a_converted_file(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "b.zarr", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    write_ome_zarr(tmp_path / "b.zarr" / "0", [np.ones((2, 4, 4), np.uint8)], version="0.4")
    assert open_volume(tmp_path / "b.zarr").shape == (2, 4, 4)
    write_ome_zarr(tmp_path / "b.zarr" / "1", [np.ones((2, 4, 4), np.uint8)], version="0.4")
    with pytest.raises(VolumeError, match="2 images"):
        open_volume(tmp_path / "b.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("compressors", ["auto", None])
@pytest.mark.parametrize("kept", [0, 10, -1])
def test_truncated_chunk(tmp_path: Path, zarr_format: int, compressors: str | None, kept: int) -> None:
    path = tmp_path / "a.zarr"
    data = np.random.default_rng(0).integers(0, 999, (3, 16, 16)).astype(np.uint16)
    array = zarr.create_array(
        path,
        shape=data.shape,
        chunks=(1, 16, 16),
        dtype=data.dtype,
        zarr_format=zarr_format,
        compressors=compressors,
    )
    array[:] = data
    chunk = chunk_files(path)[1]
    chunk.write_bytes(chunk.read_bytes()[:kept])
    volume = open_volume(path)
    with pytest.raises(VolumeError, match=r"a\.zarr, z=1: .*truncated"):
        volume.plane(z=1)
    np.testing.assert_array_equal(volume.plane(z=2).pixels, data[2])


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("dtype", ["complex64", str])
def test_zarr_of_no_numbers(tmp_path: Path, dtype: object) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), dtype=dtype)
    with pytest.raises(VolumeError, match="dtype"):
        open_volume(tmp_path / "a.zarr")


def test_what_is_no_image(tmp_path: Path, image: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(VolumeError, match="not a supported image"):
        open_volume(tmp_path / "notes.txt")
    with pytest.raises(VolumeError, match="open the folder"):
        open_volume(image / "zarr.json")
    for thing in ([[1, 2]], None, 5):
        with pytest.raises(VolumeError, match="cannot open an object"):
            open_volume(thing)


def test_addresses_without_their_package_say_so() -> None:
    with pytest.raises(VolumeError, match="cannot open"):
        open_volume("nosuchprotocol://host/a.zarr")
