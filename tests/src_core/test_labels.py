"""Label volumes: what is written, what is protected, what survives a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from src_core.errors import SamError, SessionError, VolumeError
from src_core.labels import Change, LabelVolume, files
from src_core.labels.files import register_label
from src_core.volumes import Volume, open_volume
from tests.src_core.image_files import chunk_files, write_ome_zarr

ROOT = Path(__file__).parents[2]


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    data = np.zeros((2, 4, 6, 8), np.uint16)
    return open_volume(
        write_ome_zarr(
            tmp_path / "a.ome.zarr", [data], axes="czyx", scale=[1, 2.0, 0.5, 0.25], translation=[0, 1, 0, 0]
        )
    )


@pytest.fixture
def labels(tmp_path: Path, volume: Volume) -> LabelVolume:
    return LabelVolume.create(tmp_path / "labels.zarr", volume)


def mask(shape: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    result = np.zeros(shape, bool)
    result[rows, columns] = True
    return result


def test_the_group_is_an_ome_label_image_on_the_grid_of_its_volume(
    labels: LabelVolume, volume: Volume
) -> None:
    metadata = json.loads((labels.path / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3 and metadata["node_type"] == "group"
    space = {"type": "space", "unit": "micrometer"}
    assert metadata["attributes"] == {
        "ome": {
            "version": "0.5",
            "multiscales": [
                {
                    "name": "labels",
                    "axes": [{"name": a} | space for a in "zyx"],
                    "datasets": [
                        {
                            "path": "0",
                            "coordinateTransformations": [
                                {"type": "scale", "scale": [2.0, 0.5, 0.25]},
                                {"type": "translation", "translation": [1.0, 0.0, 0.0]},
                            ],
                        }
                    ],
                }
            ],
            "image-label": {"source": {"image": "../a.ome.zarr"}},
        }
    }
    array = json.loads((labels.path / "0" / "zarr.json").read_text())
    assert array["dimension_names"] == ["z", "y", "x"] and array["data_type"] == "uint32"
    assert array["codecs"][-1]["name"] == "zstd" and array["fill_value"] == 0
    assert (labels.path / "../a.ome.zarr").resolve() == volume.path
    assert open_volume(labels.path).scale == {"z": 2.0, "y": 0.5, "x": 0.25}


def test_it_has_the_structure_of_the_real_label_images(shared_data: Path, tmp_path: Path) -> None:
    image = shared_data / "plant_nuclei_1135.ome.zarr"
    theirs = json.loads((image / "labels/ground_truth/zarr.json").read_text())
    ours = LabelVolume.create(tmp_path / "x.zarr", open_volume(image), name="ground_truth")
    metadata = json.loads((ours.path / "zarr.json").read_text())
    source = metadata["attributes"]["ome"]["image-label"].pop("source")
    assert theirs["attributes"]["ome"]["image-label"].pop("source") and source
    assert metadata["attributes"] == theirs["attributes"]
    truth = LabelVolume.open(image / "labels/ground_truth", mode="r")
    ids = truth.object_ids()
    dense = np.asarray(truth.array)
    assert ids == [int(i) for i in np.unique(dense) if i]
    where = np.argwhere(dense == ids[3])
    assert truth.bounding_box(ids[3]) == (tuple(where.min(0)), tuple(where.max(0) + 1))
    with pytest.raises(SessionError, match="reading only"):
        truth.write_plane("z", 0, {1: np.ones((100, 100), bool)})


def test_tiles_suit_planes_and_nothing_unwritten_is_stored(tmp_path: Path) -> None:
    big = open_volume(np.broadcast_to(np.uint8(0), (1000, 5000, 3000)))
    labels = LabelVolume.create(tmp_path / "l.zarr", big)
    assert labels.array.chunks == (1, 1000, 1000)
    assert chunk_files(labels.path) == []
    labels.write_plane("z", 7, {3: mask((5000, 3000), slice(990, 1010), slice(0, 5))})
    assert len(chunk_files(labels.path)) == 2
    assert labels.object_ids() == [3] and labels.bounding_box(3) == ((7, 990, 0), (8, 1010, 5))
    labels.write_plane("z", 7, {3: np.zeros((5000, 3000), bool)})
    assert chunk_files(labels.path) == [] and labels.object_ids() == []


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_planes_along_every_axis(labels: LabelVolume, axis: str) -> None:
    sizes = {"z": 4, "y": 6, "x": 8}
    shape = tuple(n for a, n in sizes.items() if a != axis)
    first = mask(shape, slice(1, 3), slice(2, 4))
    change = labels.write_plane(axis, 2, {5: first})
    assert change == Change(4, (1, 2, 3, 4))
    expected = np.zeros((4, 6, 8), np.uint32)
    np.moveaxis(expected, "zyx".index(axis), 0)[2][first] = 5
    np.testing.assert_array_equal(np.asarray(labels.array), expected)
    plane = labels.read_plane(axis, 2)
    assert plane.dtype == np.uint32
    np.testing.assert_array_equal(plane, np.where(first, 5, 0))
    assert not labels.read_plane(axis, 3).any()


def test_replace_add_overlap_and_no_change(labels: LabelVolume) -> None:
    shape = (6, 8)
    left, right = mask(shape, slice(0, 6), slice(0, 4)), mask(shape, slice(0, 6), slice(3, 6))
    labels.write_plane("z", 0, {1: left, 2: right})
    assert labels.read_plane("z", 0)[0].tolist() == [1, 1, 1, 2, 2, 2, 0, 0]
    labels.write_plane("z", 0, {2: left, 1: right})
    assert labels.read_plane("z", 0)[0].tolist() == [2, 2, 2, 1, 1, 1, 0, 0]
    corner = mask(shape, slice(0, 1), slice(7, 8))
    assert labels.write_plane("z", 0, {1: corner}, replace=False) == Change(1, (0, 7, 1, 8))
    assert labels.read_plane("z", 0)[0].tolist() == [2, 2, 2, 1, 1, 1, 0, 1]
    labels.write_plane("z", 0, {1: corner})
    assert labels.read_plane("z", 0)[0].tolist() == [2, 2, 2, 0, 0, 0, 0, 1]
    assert labels.write_plane("z", 0, {1: corner}) == Change(0, None)
    assert labels.write_plane("z", 0, {}) == Change(0, None)


def test_protected_objects_keep_their_pixels(labels: LabelVolume) -> None:
    shape = (6, 8)
    labels.write_plane("z", 1, {7: mask(shape, slice(0, 6), slice(2, 4))})
    everything = np.ones(shape, bool)
    change = labels.write_plane("z", 1, {8: everything}, protect=[7, 9])
    assert change.n_pixels == 36
    assert labels.read_plane("z", 1)[0].tolist() == [8, 8, 7, 7, 8, 8, 8, 8]
    with pytest.raises(SessionError, match=r"\[7\] are protected"):
        labels.write_plane("z", 1, {7: everything}, protect={7})
    assert (labels.read_plane("z", 1) == 7).sum() == 12


def test_time_points_are_separate(tmp_path: Path) -> None:
    movie = open_volume(np.zeros((3, 2, 4, 5), np.uint8), axes="tcyx")
    labels = LabelVolume.create(tmp_path / "l.zarr", movie)
    assert labels.axes == ("t", "y", "x") and labels.array.chunks == (1, 4, 5)
    labels.write_plane(None, 0, {4: np.ones((4, 5), bool)}, t=2)
    assert not labels.read_plane(None, 0, t=1).any() and labels.read_plane("z", 0, t=2).all()
    assert labels.bounding_box(4) == ((2, 0, 0), (3, 4, 5)) and labels.bounding_box(5) is None
    with pytest.raises(VolumeError, match="t=3"):
        labels.read_plane(None, 0, t=3)


def test_labels_of_an_oddly_ordered_volume(tmp_path: Path) -> None:
    labels = LabelVolume.create(tmp_path / "l.zarr", open_volume(np.zeros((8, 6, 4), np.uint8), axes="xyz"))
    assert labels.axes == ("z", "y", "x") and labels.shape == (4, 6, 8)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({0: None}, "1 to 4294967295"),
        ({-3: None}, "1 to"),
        ({2**32: None}, "1 to"),
        ({1.5: None}, "integer"),
        ({1: np.zeros((8, 6), bool)}, r"\(6, 8\).*\(8, 6\)"),
        ({1: np.zeros((6, 8), np.uint8)}, "bool.*uint8"),
        ({1: [[True]]}, "bool.*list"),
    ],
)
def test_wrong_masks_change_nothing(labels: LabelVolume, masks: dict, words: str) -> None:
    filled = {k: np.ones((6, 8), bool) if v is None else v for k, v in masks.items()}
    with pytest.raises(VolumeError, match=words):
        labels.write_plane("z", 0, {9: np.ones((6, 8), bool)} | filled)
    assert chunk_files(labels.path) == []


def test_wrong_planes(labels: LabelVolume) -> None:
    for axis, index in [("z", 4), ("z", -1), ("q", 0), (None, 0), ("y", 6), ("x", "one")]:
        with pytest.raises(VolumeError):
            labels.read_plane(axis, index)
        with pytest.raises(VolumeError):
            labels.write_plane(axis, index, {})


def test_ids_must_fit_the_dtype(tmp_path: Path, volume: Volume) -> None:
    labels = LabelVolume.create(tmp_path / "l.zarr", volume, dtype=np.uint8)
    everything = np.ones((6, 8), bool)
    labels.write_plane("z", 0, {255: everything})
    with pytest.raises(VolumeError, match=r"256.*1 to 255"):
        labels.write_plane("z", 0, {256: everything})
    assert (labels.read_plane("z", 0) == 255).all()
    for dtype in (float, np.int32, "nonsense"):
        with pytest.raises(VolumeError, match="unsigned"):
            LabelVolume.create(tmp_path / "m.zarr", volume, dtype=dtype)
    big = LabelVolume.create(tmp_path / "n.zarr", volume)
    big.write_plane("z", 0, {2**32 - 1: everything})
    assert big.object_ids() == [2**32 - 1]


def test_an_existing_path_is_not_overwritten_by_accident(
    tmp_path: Path, volume: Volume, labels: LabelVolume
) -> None:
    labels.write_plane("z", 0, {1: np.ones((6, 8), bool)})
    with pytest.raises(SessionError, match="or choose another path"):
        LabelVolume.create(labels.path, volume)
    assert labels.object_ids() == [1]
    assert LabelVolume.create(labels.path, volume, overwrite=True).object_ids() == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.zarr", "labels.zarr"]


def test_only_label_images_are_ever_replaced(tmp_path: Path, volume: Volume, labels: LabelVolume) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(labels.path)
    for path in (tmp_path / "folder", tmp_path / "file", tmp_path / "link", volume.path):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SessionError, match="never replaced"):
            LabelVolume.create(path, volume, overwrite=True)
        assert sorted(tmp_path.rglob("*")) == before


def test_a_failed_overwrite_keeps_the_old_labels(
    tmp_path: Path, volume: Volume, labels: LabelVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.write_plane("z", 0, {1: np.ones((6, 8), bool)})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(SessionError, match="No space left"):
        patch.setattr(zarr.Group, "create_array", full)
        LabelVolume.create(labels.path, volume, overwrite=True)
    assert LabelVolume.open(labels.path).object_ids() == [1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.zarr", "labels.zarr"]


def test_a_path_that_cannot_be_written_leaves_nothing(tmp_path: Path, volume: Volume) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SamError, match="cannot create"):
        LabelVolume.create(tmp_path / "file" / "labels.zarr", volume)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.zarr", "file"]


def test_a_full_disk(tmp_path: Path, volume: Volume, labels: LabelVolume) -> None:
    pytest.importorskip("resource")
    # A limit on file size fails like a full disk does: in the middle of a write.
    script = f"""
import resource, signal, sys
import numpy as np
from src_core.errors import SessionError
from src_core.labels import LabelVolume
from src_core.volumes import open_volume
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
labels = LabelVolume.open({str(labels.path)!r})
labels.write_plane("z", 0, {{1: np.ones((6, 8), bool)}})
resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))
for act in (
    lambda: labels.write_plane("z", 0, {{2: np.random.default_rng(0).random((6, 8)) < 0.5}}),
    lambda: LabelVolume.create({str(tmp_path / "new" / "l.zarr")!r}, open_volume({str(volume.path)!r})),
):
    try:
        act()
    except SessionError:
        continue
    sys.exit("no error")
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)
    assert (LabelVolume.open(labels.path).read_plane("z", 0) == 1).all()
    assert len(chunk_files(labels.path)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.zarr", "labels.zarr"]


def test_labels_inside_an_image(tmp_path: Path, volume: Volume) -> None:
    before = {f: f.read_bytes() for f in volume.path.rglob("*") if f.is_file()}
    LabelVolume.create_in(volume, "nuclei")
    second = LabelVolume.create_in(volume, "cells")
    assert second.path == volume.path / "labels" / "cells"
    listing = json.loads((volume.path / "labels" / "zarr.json").read_text())
    assert listing["attributes"] == {"ome": {"version": "0.5", "labels": ["nuclei", "cells"]}}
    metadata = json.loads((second.path / "zarr.json").read_text())
    assert metadata["attributes"]["ome"]["image-label"] == {"source": {"image": "../../"}}
    assert {f: f.read_bytes() for f in before} == before
    with pytest.raises(SessionError, match="already exists"):
        LabelVolume.create_in(volume, "cells")
    LabelVolume.create_in(volume, "cells", overwrite=True)
    assert zarr.open_group(volume.path / "labels").attrs["ome"]["labels"] == ["nuclei", "cells"]
    for name in ("", "a/b", "..", ".hidden", "__x"):
        with pytest.raises(VolumeError, match="cannot name"):
            LabelVolume.create_in(volume, name)


def test_runs_that_list_different_labels_in_one_image_at_the_same_time_lose_none(
    tmp_path: Path, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    LabelVolume.create_in(volume, "first")
    read = files.ome_attributes

    def slowly(group: zarr.Group) -> Any:
        found = read(group)
        time.sleep(0.2)
        return found

    monkeypatch.setattr(files, "ome_attributes", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: register_label(volume.path, name), ("nuclei", "cells")))
    listed = zarr.open_group(volume.path / "labels").attrs["ome"]["labels"]
    assert sorted(listed) == ["cells", "first", "nuclei"]
    assert sorted(os.listdir(volume.path / "labels")) == ["first", "zarr.json"]


def test_labels_go_into_current_images_only(tmp_path: Path) -> None:
    data = np.zeros((4, 6, 8), np.uint16)
    old = open_volume(write_ome_zarr(tmp_path / "old.zarr", [data], version="0.4"))
    with pytest.raises(VolumeError, match=r"0\.4.*beside"):
        LabelVolume.create_in(old)
    with pytest.raises(VolumeError, match="not a file"):
        LabelVolume.create_in(open_volume(data))
    bare = zarr.create_array(tmp_path / "bare.zarr", shape=(4, 4), dtype="u1")
    with pytest.raises(VolumeError, match="not an OME-Zarr image"):
        LabelVolume.create_in(open_volume(bare))
    assert not (tmp_path / "old.zarr" / "labels").exists()


def test_open_refuses_what_is_no_label_image(tmp_path: Path, volume: Volume) -> None:
    with pytest.raises(VolumeError, match="not a label image"):
        LabelVolume.open(volume.path)
    with pytest.raises(VolumeError, match="bare array"):
        LabelVolume.open(volume.path / "0")
    with pytest.raises(VolumeError, match="does not exist"):
        LabelVolume.open(tmp_path / "nope")
    with pytest.raises(VolumeError, match="mode"):
        LabelVolume.open(volume.path, mode="w")
    floats = write_ome_zarr(tmp_path / "f.zarr", [np.zeros((4, 4, 4), np.float32)], extra={"image-label": {}})
    with pytest.raises(VolumeError, match="float32"):
        LabelVolume.open(floats)
    ids = np.ones((2, 4, 4), np.uint16)
    pyramid = write_ome_zarr(tmp_path / "p.zarr", [ids, ids[:, ::2, ::2]], extra={"image-label": {}})
    with pytest.raises(VolumeError, match="2 pyramid levels"):
        LabelVolume.open(pyramid)
    assert LabelVolume.open(pyramid, mode="r").object_ids() == [1]
    older = write_ome_zarr(tmp_path / "o.zarr", [ids], version="0.4", extra={"image-label": {}})
    opened = LabelVolume.open(older)
    opened.write_plane("z", 1, {600: np.ones((4, 4), bool)})
    assert LabelVolume.open(older).object_ids() == [1, 600]


def test_a_damaged_chunk_is_reported(labels: LabelVolume) -> None:
    labels.write_plane("z", 2, {1: np.ones((6, 8), bool)})
    (chunk,) = chunk_files(labels.path)
    chunk.write_bytes(chunk.read_bytes()[:-5])
    for act in (lambda: labels.read_plane("z", 2), labels.object_ids, lambda: labels.bounding_box(1)):
        with pytest.raises(VolumeError, match="truncated"):
            act()


WRITER = """
import itertools, sys
import numpy as np
from src_core.labels import LabelVolume
labels = LabelVolume.open(sys.argv[1])
for k in itertools.count(1):
    noise = np.random.default_rng(k % 8).random((600, 600)) < 0.5
    for z in range(3):
        labels.write_plane("z", z, {k: noise, k + 1: ~noise}, replace=False)
    if k == 1:
        print("ready", flush=True)
"""


def test_a_killed_writer_leaves_whole_chunks(tmp_path: Path) -> None:
    labels = LabelVolume.create(tmp_path / "l.zarr", open_volume(np.zeros((3, 600, 600), np.uint8)))
    delays = np.random.default_rng(0).uniform(0.0, 0.15, 15)
    for delay in delays:
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(labels.path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
            time.sleep(delay)
            writer.kill()
        for z in range(3):
            plane = labels.read_plane("z", z)
            k = int(plane.min())
            assert k >= 1
            noise = np.random.default_rng(k % 8).random((600, 600)) < 0.5
            np.testing.assert_array_equal(plane, np.where(noise, k, k + 1))


def test_foreign_labels_with_columns_before_rows(tmp_path: Path) -> None:
    ids = np.zeros((8, 6, 4), np.uint16)
    labels = LabelVolume.open(
        write_ome_zarr(tmp_path / "l.zarr", [ids], axes="xyz", extra={"image-label": {}})
    )
    drawn = mask((6, 8), slice(1, 2), slice(3, 7))
    labels.write_plane("z", 2, {4: drawn})
    np.testing.assert_array_equal(np.asarray(labels.array)[:, :, 2].T, np.where(drawn, 4, 0))
    np.testing.assert_array_equal(labels.read_plane("z", 2), np.where(drawn, 4, 0))
