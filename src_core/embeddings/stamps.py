"""Tell without reading a plane that its files are those it was read from before."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash
import zarr

from src_core.types import PlaneRef
from src_core.volumes import Volume
from src_core.volumes.ome_zarr import local_path

MAX_FILES = 4096
RACY_NS = 2 * 10**9
"""A file younger than this may change again without its times showing it."""
STAMP_BYTES = 16


def stamp(volume: Volume, plane: PlaneRef, channel: int) -> bytes | None:
    """Digest size, times and identity of the files that a plane is read from.

    Returns
    -------
    16 bytes; None where there are no such files (an array in memory, a remote image), they are too many, or
    one has changed in the last two seconds. Then only the pixels themselves can tell.
    """
    files = _files(volume, plane, channel)
    if files is None:
        return None
    digest = xxhash.xxh128()
    newest = 0
    for path in files:
        try:
            found = os.stat(path)
        except OSError:  # a chunk that holds nothing but the fill value
            digest.update(b"absent")
            continue
        newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}\n".encode())
    return digest.digest() if newest and newest < time.time_ns() - RACY_NS else None


def _files(volume: Volume, plane: PlaneRef, channel: int) -> list[Path] | None:
    array = volume.array
    if isinstance(array, zarr.Array):
        folder = local_path(array)
        if folder is not None:
            return _chunk_files(array, folder, volume, plane, channel)
    path = volume.path
    return [path] if path is not None and path.is_file() else None


def _chunk_files(
    array: zarr.Array[Any], folder: Path, volume: Volume, plane: PlaneRef, channel: int
) -> list[Path] | None:
    sides = array.shards or array.chunks
    spans = []
    for name, side, length in zip(volume.axes, sides, array.shape, strict=True):
        if name == plane.axis or name == "t":
            at = (plane.index if name == plane.axis else plane.t) // side
            spans.append(range(at, at + 1))
        elif name == "c" and not volume.rgb:
            spans.append(range(channel // side, channel // side + 1))
        else:
            spans.append(range(math.ceil(length / side)))
    if math.prod(len(s) for s in spans) > MAX_FILES:
        return None
    return [
        *_metadata(folder),
        *(folder / array.metadata.encode_chunk_key(at) for at in itertools.product(*spans)),
    ]


def _metadata(folder: Path) -> Iterator[Path]:
    return (folder / name for name in ("zarr.json", ".zarray"))
