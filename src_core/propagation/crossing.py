"""Planes across the slices through objects of one slice: where they are laid, and the pictures they show."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.masks import Box, Mask, bounds, innermost
from src_core.types import PlaneRef
from src_core.volumes import Volume

AROUND, LEAST_PX, MOST_PX = 1.5, 96, 256
"""How far planes are looked at beyond the slice, in diameters of the object and in square pixels."""
BESIDE_PX = 96
"""At least so much is shown beside the object, else as much as it is wide, up to `MOST_PX`."""
READ_WHOLE_PX = 4096 * 4096
"""Of larger slices only what lies around each object is read."""

Lane = tuple[int, int]
"""A plane across the slices: 0 and its row, or 1 and its column."""


@dataclass(frozen=True, eq=False)
class Crossed:
    """An object on its slice, and what is looked at around it.

    Attributes
    ----------
    box, mask
        What is shown of the slice, and where the object is within.
    lanes
        Planes through it: along rows and along columns, those through its innermost pixel first.
    stretch
        How many square pixels a voxel is long across the slices, along rows and along columns.
    reach, most
        How many slices are looked at to either side, and how many at most.
    """

    box: Box
    mask: Mask
    lanes: tuple[tuple[Lane, ...], tuple[Lane, ...]]
    stretch: tuple[float, float, float]
    reach: int
    most: int

    @classmethod
    def of(cls, mask: Mask, volume: Volume, axis: str) -> Crossed:
        """Lay planes through a (H, W) bool mask, not empty, of a slice."""
        axes = (axis, *volume.plane_axes(axis))
        deep, tall, wide = (volume.scale[a] / min(volume.scale[b] for b in axes) for a in axes)
        y0, x0, y1, x1 = bounds(mask)
        dy, dx = (
            math.ceil(np.clip(high - low, BESIDE_PX / f, MOST_PX / f))
            for low, high, f in ((y0, y1, tall), (x0, x1, wide))
        )
        height, width = mask.shape
        box = (max(0, y0 - dy), max(0, x0 - dx), min(height, y1 + dy), min(width, x1 + dx))
        size = math.sqrt(np.count_nonzero(mask) * tall * wide)
        reach, most = (math.ceil(n / deep) for n in (np.clip(AROUND * size, LEAST_PX, MOST_PX), MOST_PX))
        own = mask[box[0] : box[2], box[1] : box[3]].copy()
        return cls(box, own, _lanes(own), (deep, tall, wide), reach, most)

    def cut(self, picture: NDArray[Any]) -> dict[Lane, NDArray[Any]]:
        """Return the lines along which planes cross a picture (h, w[, 3]) of the slice within `box`."""
        return {(across, at): np.take(picture, at, across) for across, at in chain(*self.lanes)}


def _lanes(mask: Mask) -> tuple[tuple[Lane, ...], tuple[Lane, ...]]:
    """Lay planes along rows and columns of a mask: through its innermost pixel, and halfway to its edges."""
    centre, box = innermost(mask), bounds(mask)

    def along(across: int) -> tuple[Lane, ...]:
        middle, first, last = centre[across], box[across], box[2 + across] - 1
        lanes = dict.fromkeys((middle, (middle + first) // 2, (middle + last) // 2))
        return tuple((across, n) for n in lanes if np.take(mask, n, across).any())

    return along(0), along(1)


def read_crossing(
    volume: Volume, where: PlaneRef, c: int | None, objects: Mapping[int, Crossed]
) -> Generator[None, None, dict[int, tuple[range, dict[Lane, NDArray[np.uint8]]]]]:
    """Read planes across the slices around one, and pause after each slice.

    Returns object id -> which slices, and (n, w, 3) uint8 for every lane. What cannot be read ends them. Of each slice
    only lines are kept.
    """
    parts: dict[int, dict[int, dict[Lane, NDArray[np.uint8]]]] = {k: {} for k in objects}
    wanted = dict(objects)
    count, farthest = volume.n_planes(where.axis), max(seen.reach for seen in objects.values())
    for order in (
        range(where.index, min(count, where.index + farthest + 1)),
        range(where.index - 1, max(0, where.index - farthest) - 1, -1),
    ):
        blind: set[int] = set()
        for z in order:
            plane = volume.plane_at(PlaneRef(where.axis, z, where.t), c)
            if len(wanted) > 1 and math.prod(plane.shape) <= READ_WHOLE_PX:
                with suppress(VolumeError):  # a part of it may do
                    _ = plane.pixels  # many objects look at it: decode its chunks once
            for k, seen in wanted.items():
                if k in blind or abs(z - where.index) > seen.reach:
                    continue
                y0, x0, y1, x1 = seen.box
                try:
                    parts[k][z] = seen.cut(plane.rgb8_part(seen.box, (y1 - y0, x1 - x0))[0])
                except VolumeError:  # the walk may never come here
                    blind.add(k)
            yield
            if blind >= wanted.keys():
                break
        wanted = {k: seen for k, seen in wanted.items() if where.index in parts[k]}
    read = {}
    for k, found in parts.items():
        slices = range(min(found, default=where.index), max(found, default=where.index) + 1)
        lanes = chain(*objects[k].lanes) if found else ()
        read[k] = slices, {lane: np.stack([found[z][lane] for z in slices]) for lane in lanes}
    return read
