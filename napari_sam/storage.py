"""Where labels live on disk, and how a labels layer sees them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pooch

from napari_sam.layers import array_of, axes_of
from src_core.beside import image_stem
from src_core.errors import SessionError, VolumeError
from src_core.labels import LabelVolume
from src_core.volumes import Volume

if TYPE_CHECKING:
    from napari.layers import Image


REMEMBERED = "napari_sam_labels"
"""Key of `Layer.metadata` that holds the folder of a layer's labels."""


def labels_path(image: Image, folder: Path | None = None) -> Path:
    """Return where the labels of an image go: `<image>.sam.zarr/labels/objects` beside it, or in `folder`.

    An image in a folder that cannot be written to, or one that is only in memory, gets a folder of its own in
    the user's data. The layer remembers it, so that work on it can go on.
    """
    source = getattr(image.source, "path", None)
    stem = image_stem(Path(source).name if source else image.name)
    if folder is not None:
        return folder / f"{stem}.sam.zarr" / "labels" / "objects"
    if REMEMBERED in image.metadata:
        return Path(image.metadata[REMEMBERED])
    own = Path(pooch.os_cache("napari-sam")) / "labels"
    if source and Path(source).exists():
        if _writable(Path(source).parent):
            return Path(source).parent / f"{stem}.sam.zarr" / "labels" / "objects"
        # The same file finds its labels again in the next session.
        stamp = hashlib.sha256(str(Path(source).absolute()).encode()).hexdigest()[:12]
    else:
        stamp = time.strftime("%Y%m%d-%H%M%S") + f"-{time.time_ns() % 10**6:06d}"
    return own / f"{stem}-{stamp}.sam.zarr" / "labels" / "objects"


def open_labels(image: Image, volume: Volume, folder: Path | None = None) -> tuple[LabelVolume, bool]:
    """Open the labels of an image, or make them; say also whether they were there before.

    Raises
    ------
    VolumeError
        The image's axes are in an order that labels cannot follow.
    SessionError
        The labels on disk belong to an image of another size, or cannot be made.
    """
    path = labels_path(image, folder)
    expected = tuple(a for a in axes_of(image) if a != "c")
    if expected != tuple(a for a in ("t", "z", "y", "x") if a in expected):
        raise VolumeError(f"the image's axes are {', '.join(axes_of(image))}; transpose it to t, c, z, y, x")
    try:
        existed = path.exists()
        if not existed:
            path.parent.mkdir(parents=True, exist_ok=True)
            LabelVolume.create(path, volume, name="objects")
    except OSError as error:
        raise SessionError(
            f"labels cannot be written to {path}: {error.strerror or error}; make that folder writable, "
            "or move the image to one that is"
        ) from error
    labels = LabelVolume.open(path)
    wanted = tuple(volume.sizes[a] for a in labels.axes if a in volume.sizes)
    if labels.shape != wanted:
        raise SessionError(
            f"{path} holds labels of {labels.shape} pixels, the image has {wanted}; move them away to start anew"
        )
    image.metadata[REMEMBERED] = str(path)
    return labels, existed


def layer_data(image: Image, labels: LabelVolume) -> Any:
    """Return what a labels layer edits: the zarr array itself, or one that repeats it along the channels."""
    axes = axes_of(image)
    if "c" not in axes:
        return labels.array
    channel = axes.index("c")
    return EveryChannel(labels.array, channel, int(array_of(image).shape[channel]))


class EveryChannel:
    """Labels without a channel axis, seen as if they had one: the same on every channel."""

    def __init__(self, array: Any, axis: int, size: int) -> None:
        self._array, self._axis, self._size = array, axis, size
        self.dtype = array.dtype
        self.shape = (*array.shape[:axis], size, *array.shape[axis:])
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> np.ndarray:
        own, channel = self._split(key)
        block = np.asarray(self._array[own])
        if isinstance(channel, slice):
            at = sum(isinstance(k, slice) for k in own[: self._axis])
            count = len(range(*channel.indices(self._size)))
            return np.repeat(np.expand_dims(block, at), count, axis=at)
        return block

    def __setitem__(self, key: Any, value: Any) -> None:
        own, channel = self._split(key)
        if isinstance(channel, slice) and np.ndim(value):
            value = np.take(value, 0, axis=sum(isinstance(k, slice) for k in own[: self._axis]))
        self._array[own] = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def _split(self, key: Any) -> tuple[tuple[Any, ...], Any]:
        keys = key if isinstance(key, tuple) else (key,)
        # By identity: a brush asks with arrays of indices, which do not compare to one truth value.
        if (at := next((n for n, k in enumerate(keys) if k is Ellipsis), None)) is not None:
            keys = (*keys[:at], *[slice(None)] * (self.ndim - len(keys) + 1), *keys[at + 1 :])
        keys = (*keys, *[slice(None)] * (self.ndim - len(keys)))
        return (*keys[: self._axis], *keys[self._axis + 1 :]), keys[self._axis]


def _writable(folder: Path) -> bool:
    probe = folder / f".napari-sam-{time.time_ns()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True
