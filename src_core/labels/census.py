"""How large every object is and on how many slices, kept up to date chunk by chunk."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from src_core.labels.label_volume import LabelVolume
from src_core.labels.planes import plane_index
from src_core.types import PlaneRef
from src_core.volumes.arrays import LazyArray, read_block

Chunk = tuple[int, ...]
Counted = tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.int64]]
"""Of a chunk: ids, the planes (y, x) they are on, numbered through the volume, and their pixels there."""


class Census:
    """Counts the pixels and the slices of every object of a label volume.

    Chunks are counted the first time, and again after a change: `changed` may be called from any thread while
    another one counts.

    Parameters
    ----------
    labels
        What is counted.

    Attributes
    ----------
    voxels
        Pixels of every object, as of the end of the latest count.
    slices
        On how many planes (y, x) it is, over all time points.
    """

    def __init__(self, labels: LabelVolume) -> None:
        self.labels = labels
        self._lock = threading.Lock()
        self._counts: dict[Chunk, Counted] = {}
        self._waiting: set[Chunk] = set()
        self._scanned = False
        self.voxels: dict[int, int] = {}
        self.slices: dict[int, int] = {}

    @property
    def behind(self) -> bool:
        """Whether something has to be counted."""
        return bool(self._waiting) or not self._scanned

    def changed(self, plane: PlaneRef, box_yxyx: tuple[int, int, int, int] | None = None) -> None:
        """Take note that a box of a plane has changed, or all of it."""
        labels = self.labels
        part = (slice(None),) * 2 if box_yxyx is None else _slices(box_yxyx)
        where, _ = plane_index(labels.axes, labels.shape, plane.axis, plane.index, plane.t, part)
        spans = [
            range(start // c, math.ceil(stop / c))
            for c, (start, stop) in zip(labels.array.chunks, _spans(where, labels.shape), strict=True)
        ]
        with self._lock:
            self._waiting.update(itertools.product(*spans))

    def steps(self) -> Iterator[None]:
        """Count, a chunk at a time: the whole volume at first, then what has changed since."""
        if not self._scanned:
            chunks = self.labels.array.chunks
            for start, block in self.labels.stored():
                self._put(tuple(s // c for s, c in zip(start, chunks, strict=True)), block)
                yield
            self._scanned = True
        while True:
            with self._lock:
                chunk = self._waiting.pop() if self._waiting else None
            if chunk is None:
                return self._add_up()
            self._put(chunk, self._read(chunk))
            yield

    def _add_up(self) -> None:
        """Bring what was counted together; of thousands of objects that takes a moment, so it is part of a step."""
        counted = list(self._counts.values())
        if not counted:
            return
        ids, planes, pixels = (np.concatenate(parts) for parts in zip(*counted, strict=True))
        self.voxels = _by_id(ids, pixels)
        there = np.unique(ids.astype(np.int64) << 32 | planes)  # a plane may be in several chunks
        self.slices = _by_id(there >> 32, np.ones(len(there), np.int64))

    def _put(self, chunk: Chunk, block: NDArray[Any]) -> None:
        leading = self.labels.shape[:-2]
        first = [i * c for i, c in zip(chunk[:-2], self.labels.array.chunks[:-2], strict=True)]
        found = []
        for index in np.ndindex(block.shape[:-2]):
            ids, pixels = np.unique(block[index], return_counts=True)
            at = [f + i for f, i in zip(first, index, strict=True)]
            number = int(np.ravel_multi_index(at, leading)) if leading else 0
            found.append((ids.astype(np.uint32), np.full(len(ids), number, np.int32), pixels))
        ids, planes, pixels = (np.concatenate(parts) for parts in zip(*found, strict=True))
        there = ids > 0
        self._counts[chunk] = (ids[there], planes[there], pixels[there])

    def _read(self, chunk: Chunk) -> NDArray[Any]:
        labels = self.labels
        where = tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(chunk, labels.array.chunks, labels.shape, strict=True)
        )
        return read_block(cast(LazyArray, labels.array), where, str(labels.path))


def _by_id(ids: NDArray[Any], values: NDArray[np.int64]) -> dict[int, int]:
    """Add up values of the same id."""
    different, where = np.unique(ids, return_inverse=True)
    total = np.bincount(where, values, len(different))
    return {int(i): int(n) for i, n in zip(different, total, strict=True)}


def _slices(box_yxyx: tuple[int, int, int, int]) -> tuple[slice, slice]:
    y0, x0, y1, x1 = box_yxyx
    return slice(y0, y1), slice(x0, x1)


def _spans(where: tuple[Any, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    for at, size in zip(where, shape, strict=True):
        if isinstance(at, slice):
            start, stop, _ = at.indices(size)
            yield start, stop
        else:
            yield int(at), int(at) + 1
