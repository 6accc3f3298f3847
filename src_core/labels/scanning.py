"""Questions about a whole label array, answered one chunk at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from src_core.volumes.arrays import LazyArray, read_block

Box = tuple[tuple[int, ...], tuple[int, ...]]


def object_ids(array: zarr.Array[Any], folder: Path) -> list[int]:
    """Return the ids other than 0 in `array`, which lies in `folder`, in ascending order."""
    found: set[int] = set()
    for _, block in stored_blocks(array, folder):
        found.update(int(i) for i in np.unique(block))
    return sorted(found - {0})


def bounding_box(array: zarr.Array[Any], folder: Path, object_id: int) -> Box | None:
    """Return the smallest half-open box (start, stop) around an id, one position per axis; None if absent."""
    low: list[int] = []
    high: list[int] = []
    for start, block in stored_blocks(array, folder):
        inside = np.nonzero(block == object_id)
        if inside[0].size:
            first = [s + int(i.min()) for s, i in zip(start, inside, strict=True)]
            last = [s + int(i.max()) + 1 for s, i in zip(start, inside, strict=True)]
            low = [min(a, b) for a, b in zip(low or first, first, strict=True)]
            high = [max(a, b) for a, b in zip(high or last, last, strict=True)]
    return (tuple(low), tuple(high)) if low else None


def stored_blocks(array: zarr.Array[Any], folder: Path) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Yield (start, values) of every chunk that may hold labels.

    Raises
    ------
    VolumeError
        A chunk cannot be decoded.
    """
    chunks, shape = array.chunks, array.shape
    files = array.shards or chunks
    for position in itertools.product(*(range(math.ceil(n / c)) for n, c in zip(shape, chunks, strict=True))):
        start = tuple(p * c for p, c in zip(position, chunks, strict=True))
        key = array.metadata.encode_chunk_key(tuple(s // c for s, c in zip(start, files, strict=True)))
        # A chunk that was never written is background: looking for its file beats asking zarr for zeros.
        if array.fill_value == 0 and not (folder / key).exists():
            continue
        where = tuple(slice(s, min(s + c, n)) for s, c, n in zip(start, chunks, shape, strict=True))
        yield start, read_block(cast(LazyArray, array), where, str(folder / key))
