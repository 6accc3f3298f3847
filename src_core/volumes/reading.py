"""Rectangles of one plane, from any level of the pyramid, reading no more than they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.volumes.arrays import LazyArray, chunk_side, read_block

Box = tuple[int, int, int, int]
"""(y0, x0, y1, x1) in pixels, half-open."""

NEARLY = 0.99
"""A level that falls short of the wanted size by a rounded pixel is as good as one that reaches it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PlaneReader:
    """Reads one plane of a volume.

    Attributes
    ----------
    arrays
        The level the plane belongs to, then the coarser ones.
    axes
        The name of every dimension.
    fixed
        The index along every axis but the plane's own two and colour, in the first level.
    rows, columns
        The axes along H and W.
    name
        How to call the image in errors.
    """

    arrays: tuple[LazyArray, ...]
    axes: tuple[str, ...]
    fixed: Mapping[str, int]
    rows: str
    columns: str
    name: str

    def shape(self, level: int = 0) -> tuple[int, int]:
        """Return (H, W) of the plane in a level."""
        sizes = dict(zip(self.axes, self.arrays[level].shape, strict=True))
        return (int(sizes[self.rows]), int(sizes[self.columns]))

    def at(self, level: int) -> dict[str, int]:
        """Return the index along every fixed axis in a level: the slice there that contains this one."""
        sizes = zip(self.axes, self.arrays[0].shape, self.arrays[level].shape, strict=True)
        return {
            a: min(int((self.fixed[a] + 0.5) * coarse / fine), coarse - 1)
            for a, fine, coarse in sizes
            if a in self.fixed
        }

    def read(self, level: int = 0, box: Box | None = None) -> NDArray[Any]:
        """Return a rectangle of the plane in a level, all of it by default: (h, w) or (h, w, 3).

        Raises
        ------
        VolumeError
            The data cannot be decoded.
        """
        y0, x0, y1, x1 = box or (0, 0, *self.shape(level))
        fixed = self.at(level)
        spans = {self.rows: slice(y0, y1), self.columns: slice(x0, x1)}
        index = tuple(fixed[a] if a in fixed else spans.get(a, slice(0, 3)) for a in self.axes)
        where = ", ".join([self.name, *(f"{a}={i}" for a, i in fixed.items())])
        pixels = read_block(self.arrays[level], index, where)
        kept = [a for a in self.axes if a not in fixed]
        return pixels.transpose([kept.index(a) for a in (self.rows, self.columns, "c") if a in kept])

    def level_for(self, box: Box, shape: tuple[int, int]) -> int:
        """Return the coarsest level in which the rectangle `box` still has (h, w) = `shape` pixels.

        Levels that differ in time points, channels or dtype are passed over.
        """
        first, level = self.arrays[0], 0
        full = self.shape()
        for k, array in enumerate(self.arrays[1:], start=1):
            sizes = zip(self.axes, first.shape, array.shape, strict=True)
            alike = all(a == b for axis, a, b in sizes if axis in "tc") and array.dtype == first.dtype
            own = self.shape(k)
            pixels = (n * (box[d + 2] - box[d]) / full[d] for d, n in enumerate(own))
            enough = all(n >= NEARLY * m for n, m in zip(pixels, shape, strict=True))
            if alike and enough and max(own) < max(full) and own[0] <= full[0] and own[1] <= full[1]:
                level = k
        return level

    def in_level(self, box: Box, level: int) -> tuple[float, float, float, float]:
        """Map a rectangle of the plane to pixels of a level."""
        (h, w), (full_h, full_w) = self.shape(level), self.shape()
        y, x = h / full_h, w / full_w
        return (box[0] * y, box[1] * x, box[2] * y, box[3] * x)

    def share(self, box: Box, level: int = 0) -> float:
        """Return how much of the plane the chunks hold that reading a rectangle decodes, 0 to 1."""
        part = 1.0
        for d, axis in enumerate((self.rows, self.columns)):
            length = self.shape(level)[d]
            side = chunk_side(self.arrays[level], self.axes.index(axis)) or 1
            start, stop = box[d] // side * side, min(-(-box[d + 2] // side) * side, length)
            part *= (stop - start) / length
        return part


def outwards(extent: tuple[float, float, float, float], shape: tuple[int, int]) -> Box:
    """Return the whole pixels that hold an extent within (H, W)."""
    y0, x0 = (int(np.floor(v + 1e-6)) for v in extent[:2])
    y1, x1 = (min(int(np.ceil(v - 1e-6)), n) for v, n in zip(extent[2:], shape, strict=True))
    return (y0, x0, max(y1, y0 + 1), max(x1, x0 + 1))
