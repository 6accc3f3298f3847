"""Brush strokes in a labels layer as changes of planes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

    napari announces a stroke before or after it writes it, so both sides are made from the dabs themselves:
    their old values put into `data`, latest dab first, then their new ones. A stroke in 3-D gives one change
    per plane along the axis on screen.
    """
    parts = [_dab(dab) for dab in dabs]
    if not parts:
        return []
    bounds = zip(*(region for region, *_ in parts), strict=True)
    union = tuple(slice(min(s.start for s in along), max(s.stop for s in along)) for along in bounds)
    before = np.asarray(data[union]).astype(np.uint32)
    for region, mask, old, _ in reversed(parts):
        before[_within(region, union)][mask] = old
    after = before.copy()
    for region, mask, _, new in parts:
        after[_within(region, union)][mask] = new
    return _planes(union, before, after, on_screen)


@dataclass(frozen=True)
class Refused:
    """Pixels of a stroke that it may not change.

    Attributes
    ----------
    plane, box_yxyx
        Where.
    where
        (h, w) bool, the pixels.
    before, after
        (h, w) uint32, the ids in the box before and after the stroke.
    """

    plane: PlaneRef
    box_yxyx: BoxYX
    where: NDArray[np.bool_]
    before: NDArray[np.uint32]
    after: NDArray[np.uint32]

    @classmethod
    def whole(cls, change: PlaneChange) -> Refused:
        """Refuse all of a stroke on a plane."""
        plane, box, before, after = change
        return cls(plane, box, before != after, before, after)

    def restored(self, now: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the (h, w) ids `now` with the stroke taken back where nobody has changed it since."""
        return np.where(self.where & (now == self.after), self.before, now)


def sort_out(
    changes: Sequence[PlaneChange], protected: Callable[[int], set[int]]
) -> tuple[list[PlaneChange], list[Refused]]:
    """Split strokes into what they may change and what they may not.

    Parameters
    ----------
    changes
        From `patches`.
    protected
        Gives the ids that painting with an id (0 erases) must leave alone.
    """
    kept: list[PlaneChange] = []
    refused: list[Refused] = []
    for plane, box, before, after in changes:
        changed, bad = before != after, np.zeros(before.shape, np.bool_)
        for new in np.unique(after[changed]).tolist():
            ids = protected(new)
            mine = changed & (after == new)
            bad |= mine if new in ids else mine & np.isin(before, np.array(sorted(ids), np.uint32))
        if bad.any():
            refused.append(Refused(plane, box, bad, before, after))
        if (changed & ~bad).any():
            kept.append((plane, box, before, np.where(bad, before, after)))
    return kept, refused


def _within(region: Region, union: Region) -> Region:
    return tuple(slice(s.start - u.start, s.stop - u.start) for s, u in zip(region, union, strict=True))


def _dab(dab: Any) -> tuple[Region, NDArray[np.bool_], NDArray[Any], Any]:
    """Return the box of a dab, where in the box it changes something, and the values there before and after."""
    if hasattr(dab, "slice_key"):
        shape = tuple(s.stop - s.start for s in dab.slice_key)
        mask = np.ones(shape, np.bool_) if dab.mask is None else np.asarray(dab.mask).reshape(shape)
        return dab.slice_key, mask, np.asarray(dab.old_values).reshape(-1), dab.new_value
    indices, old_values, new_values = dab
    region = tuple(slice(int(i.min()), int(i.max()) + 1) for i in indices)
    shape = tuple(s.stop - s.start for s in region)
    where = tuple(i - s.start for i, s in zip(indices, region, strict=True))
    mask = np.zeros(shape, np.bool_)
    mask[where] = True
    old, new = (np.zeros(shape, np.uint32) for _ in range(2))
    old[where], new[where] = old_values, new_values
    return region, mask, old[mask], new[mask]


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
