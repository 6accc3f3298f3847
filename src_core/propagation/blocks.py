"""Small volumes in memory around objects that were found slice by slice, to be walked across the slices."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src_core.errors import VolumeError
from src_core.masks import Box, Mask
from src_core.propagation.tracks import Slabs
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume
from src_core.volumes.isotropic import isotropic

PLANES = 20
"""About so many planes are laid through an object along rows, and along columns."""
BESIDE_PX = 48
"""So much is shown around objects, in square pixels; twice that is hardly better, and takes half as long again."""
STRIDE = 4
"""Planes are so many pixels apart at most; of larger objects, pictures are reduced."""
MOST_BYTES = 256 * 2**20
"""Objects share a block, and their planes are encoded once, as long as it is no larger."""

Span = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""From and to before which slice, row and column."""


def thinning(slabs: Slabs) -> int:
    """Return how many pixels of a slice come to one plane across an object that is not empty: a power of two."""
    return int(2 ** max(0, round(math.log2(longest(slabs) / PLANES))))


def longest(slabs: Slabs) -> int:
    """Return how many rows or columns an object that is not empty covers on a slice at most."""
    return max(max(m.box[2] - m.box[0], m.box[3] - m.box[1]) for m, _ in slabs.values())


@dataclass(eq=False)
class Members:
    """Objects that share a block: what is known of each, and what of the volume is shown."""

    objects: dict[int, Slabs]
    thin: int
    span: Span

    @property
    def planes(self) -> int:
        """How many planes are read and walked at most."""
        deep, tall, wide = (high - low for low, high in self.span)
        return deep + (tall + wide) // self.thin + 2


def grouped(volume: Volume, axis: str, objects: dict[int, Slabs]) -> list[Members]:
    """Put objects (id -> what was found of them, not nothing) together whose surroundings overlap."""
    groups: list[Members] = []
    spans, thins = np.zeros((len(objects), 3, 2), np.int64), np.zeros(len(objects), np.int64)
    most = MOST_BYTES // (3 if volume.rgb else 1)
    for k, slabs in objects.items():
        own, thin, n = np.array(_span(volume, axis, slabs)), thinning(slabs), len(groups)
        both = np.stack([np.minimum(spans[:n, :, 0], own[:, 0]), np.maximum(spans[:n, :, 1], own[:, 1])], -1)
        voxels = _voxels(both, thin)
        fits = (voxels <= _voxels(spans[:n], thin) + _voxels(own, thin)) & (voxels <= most)
        place = next(iter(np.flatnonzero(fits & (thins[:n] == thin))), n)
        if place == n:
            groups.append(Members({}, thin, ((0, 0), (0, 0), (0, 0))))
        groups[place].objects[k] = slabs
        spans[place], thins[place] = own if place == n else both[place], thin
    for group, ((z0, z1), (y0, y1), (x0, x1)) in zip(groups, spans.tolist(), strict=False):
        group.span = (z0, z1), (y0, y1), (x0, x1)
    return groups


def _voxels(spans: NDArray[np.int64], thin: int) -> NDArray[np.int64]:
    """Return how many voxels blocks have that show spans (..., 3, 2)."""
    deep, tall, wide = np.moveaxis(spans[..., 1] - spans[..., 0], -1, 0)
    return np.asarray(deep * tall * wide // max(1, thin // STRIDE) ** 2)


def _span(volume: Volume, axis: str, slabs: Slabs) -> Span:
    """Return an object's extent and its surroundings."""
    axes = (axis, *volume.plane_axes(axis))
    boxes = np.array([m.box for m, _ in slabs.values()])
    low = (min(slabs), *boxes[:, :2].min(0))
    high = (max(slabs) + 1, *boxes[:, 2:].max(0))
    beside = BESIDE_PX * max(1, thinning(slabs) // STRIDE) * min(volume.scale[a] for a in axes)
    margins = [math.ceil(beside / volume.scale[a]) for a in axes]
    first, second, third = (
        (max(0, int(a) - m), min(volume.sizes[name], int(b) + m))
        for a, b, m, name in zip(low, high, margins, axes, strict=True)
    )
    return first, second, third


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a volume in memory; its slices are called z, rows y and columns x, whatever they are there.

    Attributes
    ----------
    pixels
        (Z, h, w) or (Z, h, w, 3) uint8.
    span
        What of the volume it shows.
    stride
        Of its rows, and of its columns, every so many is a plane that is walked.
    voxel
        Size of a voxel of the volume along z, y and x.
    """

    pixels: NDArray[np.uint8]
    span: Span
    stride: int
    voxel: tuple[float, float, float]
    _walked: dict[str, Volume] = field(default_factory=dict, init=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns."""
        deep, tall, wide = self.pixels.shape[:3]
        return deep, tall, wide

    @property
    def reduced(self) -> tuple[float, float]:
        """How many rows and columns of the volume come to one of the block."""
        (y0, y1), (x0, x1) = self.span[1:]
        return (y1 - y0) / self.shape[1], (x1 - x0) / self.shape[2]

    def across(self, axis: str) -> Volume:
        """Return the planes along "y" or "x" that are walked, with square pixels."""
        if axis not in self._walked:
            d = "zyx".index(axis)
            scale = dict(zip("zyx", (self.voxel[0], *self._voxel_yx()), strict=True))
            thinned = self.pixels[:, :: self.stride] if d == 1 else self.pixels[:, :, :: self.stride]
            volume = open_volume(
                thinned,
                axes="zyx" if self.pixels.ndim == 3 else "zyxc",
                scale=scale,
                contrast_limits=(0, 255),
            )
            self._walked[axis] = isotropic(volume, axis)
        return self._walked[axis]

    def _voxel_yx(self) -> tuple[float, float]:
        fy, fx = self.reduced
        return self.voxel[1] * fy, self.voxel[2] * fx

    def lay(self, slabs: Slabs) -> Mask:
        """Return where an object is in the block, (Z, h, w) bool; what lies beyond it is left out."""
        (z0, z1), (y0, _), (x0, _) = self.span
        found = np.zeros(self.shape, np.bool_)
        fy, fx = self.reduced
        rows = y0 + ((np.arange(self.shape[1]) + 0.5) * fy).astype(np.intp)
        columns = x0 + ((np.arange(self.shape[2]) + 0.5) * fx).astype(np.intp)
        for z, (mask, _) in slabs.items():
            if z0 <= z < z1:
                top, left, bottom, right = mask.box
                own_rows = np.flatnonzero((rows >= top) & (rows < bottom))
                own_columns = np.flatnonzero((columns >= left) & (columns < right))
                if len(own_rows) and len(own_columns):
                    crop = mask.crop()[rows[own_rows] - top][:, columns[own_columns] - left]
                    where = (slice(own_rows[0], own_rows[-1] + 1), slice(own_columns[0], own_columns[-1] + 1))
                    found[z - z0][where] = crop
        return found


def read_block(
    volume: Volume, axis: str, t: int, c: int | None, members: Members
) -> Generator[None, None, Block | None]:
    """Read what members share, and pause after each slice.

    Returns the block, of the slices up to the next that cannot be read; None where that leaves nothing.
    """
    (first, stop), (y0, y1), (x0, x1) = members.span
    reduce = max(1, members.thin // STRIDE)
    shape = (max(1, (y1 - y0) // reduce), max(1, (x1 - x0) // reduce))
    middle = max(first, min(z for slabs in members.objects.values() for z in slabs))
    read: dict[int, NDArray[np.uint8]] = {}
    for order in (range(middle, stop), range(middle - 1, first - 1, -1)):
        for z in order:
            try:
                picture = _picture(volume, PlaneRef(axis, z, t), c, (y0, x0, y1, x1), shape)
            except VolumeError:
                break
            read[z] = picture if volume.rgb else picture[..., 0]
            yield
    if middle not in read:
        return None
    row, column = volume.plane_axes(axis)
    return Block(
        np.stack([read[z] for z in sorted(read)]),
        ((min(read), max(read) + 1), (y0, y1), (x0, x1)),
        min(members.thin, STRIDE),
        (volume.scale[axis], volume.scale[row], volume.scale[column]),
    )


def _picture(
    volume: Volume, where: PlaneRef, c: int | None, box: Box, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return (h, w, 3) of a rectangle of a slice."""
    part, extent = volume.plane_at(where, c).rgb8_part(box, shape)
    if part.shape[:2] == shape:
        return part
    y0, x0, y1, x1 = extent
    size = (shape[1], shape[0])
    return np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)))
