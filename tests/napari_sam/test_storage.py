"""Where labels go, what happens when they cannot, and labels seen through a channel axis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from napari.layers import Image

from napari_sam import storage
from napari_sam.layers import volume_of
from napari_sam.storage import EveryChannel, labels_path, layer_data, open_labels
from src_core.errors import SessionError, VolumeError
from src_core.labels import LabelVolume

SHAPE = (4, 12, 14)


def _from_file(path: Path) -> Image:
    """An image layer that says it was read from a file."""
    from napari.layers._source import layer_source

    tifffile.imwrite(path, np.zeros(SHAPE, np.uint8), photometric="minisblack")
    with layer_source(path=str(path)):
        return Image(tifffile.imread(path))


def _open(image: Image, folder: Path | None = None) -> tuple[LabelVolume, bool]:
    return open_labels(image, volume_of(image), folder)


def test_labels_lie_beside_the_image_and_are_found_again(tmp_path: Path) -> None:
    image = _from_file(tmp_path / "cells.ome.tif")
    labels, existed = _open(image)
    assert labels.path == tmp_path / "cells.sam.zarr" / "labels" / "objects" and not existed
    mask = np.ones(SHAPE[1:], bool)
    labels.write_plane("z", 1, {3: mask})
    again, existed = _open(_from_file(tmp_path / "cells.ome.tif"))
    assert existed and (again.read_plane("z", 1) == 3).all()
    assert again.shape == SHAPE and again.axes == ("z", "y", "x")


def test_a_folder_of_ones_choice_and_odd_names(tmp_path: Path) -> None:
    image = Image(np.zeros(SHAPE), name="my / stack: 1")
    labels, _ = _open(image, tmp_path)
    assert labels.path == tmp_path / "my_stack_1.sam.zarr" / "labels" / "objects"


def test_an_image_in_memory_goes_on_where_it_was_left() -> None:
    image = Image(np.zeros(SHAPE), name="stack")
    labels, existed = _open(image)
    assert not existed and labels.path.is_dir()
    again, existed = _open(image)
    assert existed and again.path == labels.path
    other, existed = _open(Image(np.zeros(SHAPE), name="stack"))
    assert not existed and other.path != labels.path, "another image of the same name has its own"


def test_a_folder_that_cannot_be_written_to_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_writable", lambda _: False)
    first, _ = _open(_from_file(tmp_path / "cells.tif"))
    assert tmp_path / "cache" in first.path.parents
    again, existed = _open(_from_file(tmp_path / "cells.tif"))
    assert existed and again.path == first.path, "the same file finds its labels in the next session"
    assert labels_path(_from_file(tmp_path / "other.tif")) != first.path


def test_nowhere_to_write_says_where_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match=r"file.*make that folder writable"):
        _open(Image(np.zeros(SHAPE)), tmp_path / "file")


def test_labels_of_another_size_are_refused_and_stay(tmp_path: Path) -> None:
    labels, _ = _open(Image(np.zeros(SHAPE), name="a"), tmp_path)
    labels.write_plane("z", 0, {1: np.ones(SHAPE[1:], bool)})
    with pytest.raises(SessionError, match=r"\(4, 12, 14\).*\(5, 12, 14\).*move them away"):
        _open(Image(np.zeros((5, 12, 14)), name="a"), tmp_path)
    assert (LabelVolume.open(labels.path).read_plane("z", 0) == 1).all()


def test_axes_in_another_order_are_refused_with_what_to_do() -> None:
    image = Image(np.zeros((12, 14, 4)), axis_labels=("y", "x", "z"))
    with pytest.raises(VolumeError, match="transpose it"):
        _open(image)


def test_something_else_in_the_place_of_labels_is_an_error_not_overwritten(tmp_path: Path) -> None:
    place = tmp_path / "a.sam.zarr" / "labels" / "objects"
    place.mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    with pytest.raises((SessionError, VolumeError)):
        _open(Image(np.zeros(SHAPE), name="a"), tmp_path)
    assert (place / "notes.txt").read_text() == "mine"


@pytest.fixture
def channels() -> EveryChannel:
    array = zarr.create_array({}, shape=(2, 3, 4, 5), chunks=(1, 1, 4, 5), dtype=np.uint32)
    array[:] = np.arange(120).reshape(2, 3, 4, 5)
    return EveryChannel(array, 1, 6)


KEYS = [
    ...,
    0,
    (0, 5),
    (1, slice(2, 4), 0),
    (slice(None), 3, 2, slice(1, 3)),
    (slice(None), slice(None), 1),
    (0, slice(0, 6, 2), slice(None), 2, slice(0, 3)),
    (Ellipsis, 4),
    (1, 2, Ellipsis, slice(1, 2)),
    (slice(0, 1), slice(1, 2), 0, 0, 0),
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_every_channel_reads_like_an_array_that_repeats_the_labels(
    channels: EveryChannel, key: object
) -> None:
    full = np.repeat(np.arange(120, dtype=np.uint32).reshape(2, 1, 3, 4, 5), 6, axis=1)
    assert channels.shape == full.shape and channels.ndim == 5 and channels.size == full.size
    assert np.array_equal(channels[key], full[key])
    assert np.array_equal(np.asarray(channels), full)


def test_every_channel_writes_to_all(channels: EveryChannel) -> None:
    channels[0, 3, 1, :2] = 999
    channels[1, :, 2, 1:3, 1:3] = np.full((6, 2, 2), 7)
    channels[1, 2:4, 0, 0, 0] = np.array([8, 8])
    data = np.asarray(channels)
    for c in range(6):
        assert (data[0, c, 1, :2] == 999).all()
        assert (data[1, c, 2, 1:3, 1:3] == 7).all()
        assert data[1, c, 0, 0, 0] == 8
    assert data[0, 0, 1, 2, 0] == 30, "what was not written stays"


def test_every_channel_takes_the_indices_a_brush_uses(channels: EveryChannel) -> None:
    at = tuple(np.array(a) for a in ([0, 0], [2, 2], [1, 1], [0, 3], [4, 2]))
    assert channels[at].tolist() == [24, 37]
    channels[at] = 5
    assert (np.asarray(channels)[0, :, 1, [0, 3], [4, 2]] == 5).all()


def test_only_images_with_channels_are_wrapped(tmp_path: Path) -> None:
    plain = Image(np.zeros(SHAPE), name="plain")
    labels, _ = _open(plain, tmp_path)
    assert layer_data(plain, labels) is labels.array
    multi = Image(np.zeros((2, *SHAPE)), name="multi", axis_labels=("c", "z", "y", "x"))
    labels, _ = _open(multi, tmp_path)
    assert labels.shape == SHAPE and layer_data(multi, labels).shape == (2, *SHAPE)
