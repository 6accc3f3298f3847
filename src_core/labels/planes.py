"""Where one plane lies in a label array, and which ids its dtype can hold."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import numpy as np

from src_core.errors import VolumeError
from src_core.volumes.arrays import Index
from src_core.volumes.axes import SPATIAL

MAX_ID = 2**32 - 1


def plane_axes(axes: tuple[str, ...], axis: str | None) -> tuple[str, str]:
    """Return the names of the axes along rows and columns of the planes perpendicular to `axis`.

    Raises
    ------
    VolumeError
        There is no such spatial axis.
    """
    spatial = tuple(a for a in SPATIAL if a in axes)
    if len(spatial) == 2 and axis in (None, "z"):
        return (spatial[0], spatial[1])
    if len(spatial) == 2 or axis not in spatial:
        raise VolumeError(f"no planes along {axis!r}; the spatial axes are {', '.join(spatial)}")
    row, column = (a for a in spatial if a != axis)
    return (row, column)


def plane_index(
    axes: tuple[str, ...],
    shape: tuple[int, ...],
    axis: str | None,
    index: SupportsIndex,
    t: SupportsIndex,
    box: tuple[slice, slice] = (slice(None), slice(None)),
) -> tuple[Index, bool]:
    """Return the index of (a box of) one plane, and whether rows come before columns in the array.

    Raises
    ------
    VolumeError
        The plane lies outside the array.
    """
    kept = plane_axes(axes, axis)
    positions: dict[str, int] = {}
    for name, value in {axis or "z": index, "t": t}.items():
        size = shape[axes.index(name)] if name in axes else 1
        try:
            positions[name] = operator.index(value)
        except TypeError as error:
            raise VolumeError(f"{name} must be an integer from 0 to {size - 1}, got {value!r}") from error
        if not 0 <= positions[name] < size:
            raise VolumeError(f"{name}={positions[name]} is out of range: expected 0 to {size - 1}")
    where = tuple(box[kept.index(a)] if a in kept else positions[a] for a in axes)
    return (where, axes.index(kept[0]) < axes.index(kept[1]))


def checked_id(value: SupportsIndex, dtype: np.dtype[Any]) -> int:
    """Return `value` as an object id.

    Raises
    ------
    VolumeError
        It is not an integer from 1 to the largest that fits both uint32 and `dtype`.
    """
    largest = min(MAX_ID, int(np.iinfo(dtype).max))
    try:
        number = operator.index(value)
    except TypeError as error:
        raise VolumeError(f"an object id must be an integer from 1 to {largest}, got {value!r}") from error
    if not 1 <= number <= largest:
        raise VolumeError(f"object id {number} is out of range: labels of {dtype} hold 1 to {largest}")
    return number
