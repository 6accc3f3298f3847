"""Coarser levels of a label image for viewers: every second pixel of the level before, along rows and columns.

They are brought up to date where labels are written, so a huge volume costs only what was drawn here as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr

HALVED = "yx"
COARSEST_PX = 512
"""The coarsest level has no longer rows and columns than that."""
METHOD = "every second pixel"
"""What the metadata of a pyramid says that `update` keeps up to date."""

Where = tuple[int | slice, ...]


def level_shapes(shape: Sequence[int], axes: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the shape of every level, the finest first."""
    shapes = [tuple(shape)]
    while max(n for a, n in zip(axes, shapes[-1], strict=True) if a in HALVED) > COARSEST_PX:
        shapes.append(tuple(-(-n // 2) if a in HALVED else n for a, n in zip(axes, shapes[-1], strict=True)))
    return shapes


def update(levels: Sequence[zarr.Array[Any]], axes: Sequence[str], where: Where) -> None:
    """Bring the coarser levels up to date where the finest has been written.

    Parameters
    ----------
    levels
        The finest first.
    axes
        Of all of them.
    where
        An index or a half-open slice for every axis, in pixels of the finest level.
    """
    for finer, coarser in itertools.pairwise(levels):
        source: list[int | slice] = []
        target: list[int | slice] = []
        for axis, at in zip(axes, where, strict=True):
            if axis not in HALVED:
                source.append(at)
                target.append(at)
            elif isinstance(at, slice):
                start, stop = -(-at.start // 2), -(-at.stop // 2)
                if start == stop:
                    return
                source.append(slice(2 * start, at.stop, 2))
                target.append(slice(start, stop))
            elif at % 2:
                return
            else:
                source.append(at)
                target.append(at // 2)
        coarser[tuple(target)] = np.asarray(finer[tuple(source)])
        where = tuple(target)


def is_ours(method: object, shapes: Sequence[tuple[int, ...]], axes: Sequence[str]) -> bool:
    """Whether `update` keeps a pyramid up to date: one level alone, or levels made by the same method."""
    return len(shapes) == 1 or (method == METHOD and list(shapes) == level_shapes(shapes[0], axes))
