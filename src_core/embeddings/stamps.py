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

from src_core.volumes import Plane
from src_core.volumes.ome_zarr import local_path
from src_core.volumes.reading import PlaneReader

MAX_FILES = 4096
RACY_NS = 2 * 10**9
"""A file younger than this may change again without its times showing it."""
STAMP_BYTES = 16


def stamp(plane: Plane, path: Path | None, level: int = 0) -> bytes | None:
    """Digest size, times and identity of the files that a plane is read from.

    Parameters
    ----------
    plane
        Of the image at `path`.
    path
        None for an image that is no file.
    level
        Which pyramid level is read, from 0, the plane's own.

    Returns
    -------
    16 bytes; None where there are no such files (an array in memory, a remote image), they are too many, or
    one has changed in the last two seconds. Then only the pixels themselves can tell.
    """
    files = _files(plane.reader, path, level)
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


def _files(reader: PlaneReader, path: Path | None, level: int) -> list[Path] | None:
    array = reader.arrays[level]
    if isinstance(array, zarr.Array):
        folder = local_path(array)
        if folder is not None:
            return _chunk_files(array, folder, reader, level)
    return [path] if path is not None and path.is_file() else None


def _chunk_files(array: zarr.Array[Any], folder: Path, reader: PlaneReader, level: int) -> list[Path] | None:
    sides, fixed = array.shards or array.chunks, reader.at(level)
    spans = [
        range(fixed[axis] // side, fixed[axis] // side + 1)
        if axis in fixed
        else range(math.ceil(length / side))
        for axis, side, length in zip(reader.axes, sides, array.shape, strict=True)
    ]
    if math.prod(len(s) for s in spans) > MAX_FILES:
        return None
    return [
        *_metadata(folder),
        *(folder / array.metadata.encode_chunk_key(at) for at in itertools.product(*spans)),
    ]


def _metadata(folder: Path) -> Iterator[Path]:
    return (folder / name for name in ("zarr.json", ".zarray"))
