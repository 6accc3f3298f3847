"""Brush strokes in a labels layer as changes of planes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.layers import OnScreen
from src_core.history import BoxYX
from src_core.types import PlaneRef

PlaneChange = tuple[PlaneRef, BoxYX, NDArray[np.uint32], NDArray[np.uint32]]
Region = tuple[slice, ...]


def patches(data: Any, dabs: Sequence[Any], on_screen: OnScreen) -> list[PlaneChange]:
    """Turn the value of a labels layer's paint event into changed planes: (plane, box, before, after).

    napari has written the stroke already: `after` is read from `data`, `before` is that with the old values put
    back, latest dab first. A stroke in 3-D gives one change per plane along the axis on screen.
    """
    parts = [_dab(dab) for dab in dabs]
    if not parts:
        return []
    bounds = zip(*(region for region, _, _ in parts), strict=True)
    union = tuple(slice(min(s.start for s in along), max(s.stop for s in along)) for along in bounds)
    after = np.asarray(data[union]).astype(np.uint32)
    before = after.copy()
    for region, old_values, mask in reversed(parts):
        here = tuple(slice(s.start - u.start, s.stop - u.start) for s, u in zip(region, union, strict=True))
        before[here][mask] = old_values
    return _planes(union, before, after, on_screen)


def _dab(dab: Any) -> tuple[Region, NDArray[Any], NDArray[np.bool_]]:
    """Return the box of a dab, where in the box it changed something, and the values there before."""
    if hasattr(dab, "slice_key"):
        shape = tuple(s.stop - s.start for s in dab.slice_key)
        mask = np.ones(shape, np.bool_) if dab.mask is None else np.asarray(dab.mask).reshape(shape)
        return dab.slice_key, np.asarray(dab.old_values).reshape(-1), mask
    indices, old_values, _ = dab
    region = tuple(slice(int(i.min()), int(i.max()) + 1) for i in indices)
    shape = tuple(s.stop - s.start for s in region)
    where = tuple(i - s.start for i, s in zip(indices, region, strict=True))
    mask, values = np.zeros(shape, np.bool_), np.zeros(shape, np.asarray(old_values).dtype)
    mask[where], values[where] = True, old_values
    return region, values[mask], mask


def _planes(
    region: Region, before: NDArray[np.uint32], after: NDArray[np.uint32], on_screen: OnScreen
) -> list[PlaneChange]:
    rows, columns = on_screen.kept
    sliced = [d for d in range(len(region)) if d not in (rows, columns)]
    box = (region[rows].start, region[columns].start, region[rows].stop, region[columns].stop)
    found = []
    for position in np.ndindex(*(region[d].stop - region[d].start for d in sliced)):
        key: list[Any] = [slice(None)] * len(region)
        for d, p in zip(sliced, position, strict=True):
            key[d] = p
        old, new = before[tuple(key)], after[tuple(key)]
        if (old != new).any():
            absolute = {d: region[d].start + p for d, p in zip(sliced, position, strict=True)}
            found.append((on_screen.moved(absolute), box, old, new))
    return found
