"""Tell without reading a plane that its files are those it was read from before."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import xxhash
import zarr

from src_core.volumes import Plane
from src_core.volumes.ome_zarr import local_path
from src_core.volumes.reading import PlaneReader

MAX_FILES = 4096
RACY_NS = 2 * 10**9
"""A file younger than this may change again without its times showing it."""
STAMP_BYTES = 16


def stamp(plane: Plane, files: Sequence[Path] = (), level: int = 0) -> bytes | None:
    """Digest size, times and identity of the files that a plane is read from.

    Parameters
    ----------
    plane
        Of a zarr array, or of an image in `files`.
    files
        All files of an image that has no file for each chunk, whichever of them the plane is in.
    level
        Which pyramid level is read, from 0, the plane's own.

    Returns
    -------
    16 bytes; None where there are no such files (an array in memory, a remote image), they are too many, or
    one has changed in the last two seconds. Then only the pixels themselves can tell.
    """
    read = _chunk_files(plane.reader, level) or files
    digest = xxhash.xxh128()
    newest = 0
    for path in read:
        try:
            found = os.stat(path)
        except OSError:  # a chunk that holds nothing but the fill value
            digest.update(b"absent")
            continue
        newest = max(newest, found.st_mtime_ns, found.st_ctime_ns)
        digest.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}\n".encode())
    return digest.digest() if newest and newest < time.time_ns() - RACY_NS else None


def _chunk_files(reader: PlaneReader, level: int) -> list[Path]:
    """Return metadata and chunks of a plane of a zarr array on disk; nothing for other arrays, or too many chunks."""
    array = reader.arrays[level]
    if not isinstance(array, zarr.Array) or (folder := local_path(array)) is None:
        return []
    sides, fixed = array.shards or array.chunks, reader.at(level)
    spans = [
        range(fixed[axis] // side, fixed[axis] // side + 1)
        if axis in fixed
        else range(math.ceil(length / side))
        for axis, side, length in zip(reader.axes, sides, array.shape, strict=True)
    ]
    if math.prod(len(s) for s in spans) > MAX_FILES:
        return []
    return [
        *(folder / name for name in ("zarr.json", ".zarray")),
        *(folder / array.metadata.encode_chunk_key(at) for at in itertools.product(*spans)),
    ]
