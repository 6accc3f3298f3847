"""How large every object is, kept up to date chunk by chunk."""

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


class Census:
    """Counts the pixels of every object of a label volume.

    Chunks are counted the first time, and again after a change: `changed` may be called from any thread while
    another one counts.

    Parameters
    ----------
    labels
        What is counted.
    """

    def __init__(self, labels: LabelVolume) -> None:
        self.labels = labels
        self._lock = threading.Lock()
        self._counts: dict[Chunk, tuple[NDArray[Any], NDArray[np.int64]]] = {}
        self._waiting: set[Chunk] = set()
        self._scanned = False

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
                if not self._waiting:
                    return
                chunk = self._waiting.pop()
            self._put(chunk, self._read(chunk))
            yield

    def voxels(self) -> dict[int, int]:
        """Return the pixels of every object that has been counted."""
        counted = list(self._counts.values())
        if not counted:
            return {}
        ids, where = np.unique(np.concatenate([ids for ids, _ in counted]), return_inverse=True)
        total = np.bincount(where, np.concatenate([n for _, n in counted]), len(ids))
        return {int(i): int(n) for i, n in zip(ids, total, strict=True) if i}

    def _put(self, chunk: Chunk, block: NDArray[Any]) -> None:
        self._counts[chunk] = np.unique(block, return_counts=True)

    def _read(self, chunk: Chunk) -> NDArray[Any]:
        labels = self.labels
        where = tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(chunk, labels.array.chunks, labels.shape, strict=True)
        )
        return read_block(cast(LazyArray, labels.array), where, str(labels.path))


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
