"""A second look at what a walk has found: across the slices, where ends are outlines like any other.

Objects are walked along rows and along columns, too, from where the slices show them. Then all three vote on every
voxel: the slices are overruled where both others are surer together. Nothing that was found is taken back from a
whole slice; what is added may not be anybody else's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage as ndi

from src_core.masks import Box, Mask, PackedMask, innermost, resized
from src_core.propagation.ballot import Ballot
from src_core.propagation.blocks import Block, Members, grouped, longest, read_block
from src_core.propagation.settings import Step
from src_core.propagation.tracks import PropagationState, Slabs
from src_core.propagation.walk import DENIED, Walk

WORTH = 0.25
"""What slices beyond the end of the walk are worth where all others are sure of them; so it was on drawn stacks."""
LARGEST_PX = 512
"""Objects that are longer on an anchor are not looked at again."""
SMOOTH, SMOOTH_PX = 0.15, 1.5
"""Outlines that the votes have changed are smoothed by so much of a radius, in pixels at most."""
END = "seen from the side, it ends here"


@dataclass(eq=False)
class _Revised:
    """What becomes of objects in one direction: slice -> object id -> mask and confidence, or why it ends before."""

    masks: dict[int, dict[int, tuple[PackedMask, float]]] = field(default_factory=lambda: defaultdict(dict))
    stopped: dict[int, dict[int, tuple[str, float | None]]] = field(default_factory=lambda: defaultdict(dict))


class SecondLook:
    """The second look of one call of `propagate`.

    Parameters
    ----------
    walk
        The walk through the slices, when it has gone through all of them.
    first, last
        The slices that are filled.
    """

    def __init__(self, walk: Walk, first: int, last: int) -> None:
        self._walk, self._first, self._last = walk, first, last
        self._there: dict[int, list[tuple[int, PackedMask]]] = {}
        rows_columns = walk.volume.plane_axes(walk.axis)
        self._axes = ["yx"[rows_columns.index(axis)] for axis in walk.across]  # as blocks name them
        self._settings = replace(walk.settings, sides=False, across=())  # what it goes through are the sides

    def steps(self, done: int = 0) -> Iterator[Step]:
        """Look at one group of objects after the other, but for the first `done`, and tell their states.

        Objects of which nothing is left open are none of them.
        """
        objects: dict[int, Slabs] = {}
        for k in self._walk.placed.objects:
            if any(True for _ in self._open(k)) and longest(slabs := self._known(k)) <= LARGEST_PX:
                objects[k] = slabs
            yield Step(self._first, {}, {}, again=0.0)
        groups = grouped(self._walk.volume, self._walk.axis, objects)
        looked, count = 0, max(1, len(objects))
        for number, members in enumerate(groups, start=1):
            before, looked = looked, looked + len(members.objects)
            if number <= done:
                continue
            revised = yield from self._paused(members, before / count, looked / count)
            if revised is not None:
                yield from self._told(revised, looked / count)
            yield Step(self._first, {}, {}, again=looked / count)
            walk = self._walk
            if walk.checkpoint is not None:
                walk.checkpoint(PropagationState(0, number, {}, {}, walk.found, walk.revised))

    def _paused(
        self, members: Members, low: float, high: float
    ) -> Generator[Step, None, dict[int, _Revised] | None]:
        """Look at members; come back after every plane, with a share of all the work between two."""
        looking, pauses = self._looked(members), 0
        while True:
            try:
                next(looking)
            except StopIteration as end:
                found: dict[int, _Revised] | None = end.value
                return found
            pauses += 1
            share = low + (high - low) * min(1.0, pauses / members.planes)
            yield Step(self._first, {}, {}, again=share)

    def _known(self, identity: int) -> Slabs:
        """Return what is known of an object: its anchors, and what the walk has found."""
        given = {
            z: (PackedMask.of(masks[identity]), 1.0)
            for z, masks in self._walk.anchors.items()
            if identity in masks and masks[identity].any()
        }
        return self._walk.found.get(identity, {}) | given

    def _open(self, identity: int) -> Iterator[range]:
        """Yield the slices from an anchor outwards on which nobody has said where an object is."""
        placed = self._walk.placed
        for anchor in (z for z, masks in self._walk.anchors.items() if identity in masks):
            for direction in (1, -1):
                if not placed.leaves(identity, anchor, direction):
                    continue
                limit = self._last if direction > 0 else self._first
                planes = range(anchor + direction, limit + direction, direction)
                known = (i for i, z in enumerate(planes) if placed.has(identity, z))
                if len(planes := planes[: next(known, len(planes))]):
                    yield planes

    def _looked(self, members: Members) -> Generator[None, None, dict[int, _Revised] | None]:
        """Walk across a block, and return what that makes of its objects upwards and downwards."""
        walk = self._walk
        block = yield from read_block(walk.volume, walk.axis, walk.t, walk.c, members)
        if block is None:
            return None
        across: dict[int, dict[str, Slabs]] = {k: {} for k in members.objects}
        for axis in self._axes:
            found = yield from self._walked(block, axis, members)
            for k in members.objects:
                across[k][axis] = found.get(k, {})
        revised = {1: _Revised(), -1: _Revised()}
        for k, slabs in members.objects.items():
            if any(across[k].values()):
                ballot = Ballot.of(block, block.lay(slabs), across[k])
                for planes in self._open(k):
                    self._revise(revised[planes.step], k, ballot, slabs, planes)
            yield
        return revised

    def _walked(self, block: Block, axis: str, members: Members) -> Generator[None, None, dict[int, Slabs]]:
        """Walk along rows or columns of a block from where its slices show the objects."""
        d, planes = "zyx".index(axis), block.across(axis)
        starts: dict[int, dict[int, Mask]] = defaultdict(dict)
        for k, slabs in members.objects.items():
            mask = block.lay(slabs)  # not kept: objects may be many
            at = _middle(block, d, slabs, mask)
            if at is not None:
                start = resized(np.take(mask, at * block.stride, d), planes.plane_shape(axis))
                if start.any():
                    starts[at][k] = start
        found: dict[int, Slabs] = defaultdict(dict)
        if starts:
            walk = Walk(
                self._walk.predictor, planes, dict(sorted(starts.items())), axis, 0, None, self._settings
            )
            shape = (block.shape[0], block.shape[3 - d])
            for step in walk.steps(0, planes.n_planes(axis) - 1, None):
                for k, mask in step.masks.items():
                    if (seen := resized(mask, shape)).any():
                        found[k][step.index] = PackedMask.of(seen), step.scores[k]
                yield
        return found

    def _revise(self, revised: _Revised, k: int, ballot: Ballot, slabs: Slabs, planes: range) -> None:
        """Let all vote on one object, slice by slice, as far as that goes."""
        last, box = planes[0] - planes.step, ballot.box
        before, shape = slabs[last][0].within(box), slabs[last][0].shape
        least = np.count_nonzero(before)
        for z in planes:
            if z in slabs:
                packed, score = slabs[z]
                was = packed.within(box)
                mask = self._reshaped(ballot, z, k, was, score)
                if (mask != was).any():
                    whole = packed.unpack()
                    whole[box[0] : box[2], box[1] : box[3]] = mask
                    self._note(revised, z, k, PackedMask.of(whole), score)
            else:
                mask = self._added(ballot, z, k, before)
                if not 0 < np.count_nonzero(mask) <= least:  # beyond its end an object only closes
                    break
                sure = WORTH * (2 * ballot.support(z, mask) - 1)
                self._note(revised, z, k, PackedMask.of(mask, box[:2], shape), sure)
            before, last, least = mask, z, min(least, np.count_nonzero(mask))
        # Whoever gets a mask on its last slice goes on after all, unless this is said again.
        if last not in slabs or (last == planes[-1] and k in revised.masks.get(last, {})):
            self._end(revised, k, ballot, before, last, planes)

    def _note(self, revised: _Revised, z: int, k: int, mask: PackedMask, score: float) -> None:
        revised.masks[z][k] = mask, score
        self._walk.revised.setdefault(k, {})[z] = mask, score
        if z in self._there:
            self._there[z].append((k, mask))

    def _reshaped(self, ballot: Ballot, z: int, k: int, was: Mask, score: float) -> Mask:
        """Return what becomes of a mask (h, w) that the walk has found; it does not vanish."""
        if not ballot.shows(z):
            return was
        mask = ballot.on(z, was, score) > 0
        if not mask.any() or (mask == was).all():
            return was
        mask = _smooth(mask)
        mask = self._free(z, k, ballot.box, mask & ~was) | (mask & was)
        return mask if mask.any() else was

    def _added(self, ballot: Ballot, z: int, k: int, before: Mask) -> Mask:
        """Return where an object is on a slice that the walk has not reached, if it goes on from the one before."""
        if not ballot.shows(z):
            return np.zeros_like(before)
        mask = _smooth(ballot.on(z, None, 0.0) > 0)
        return self._free(z, k, ballot.box, _touching(mask, before))

    def _end(self, revised: _Revised, k: int, ballot: Ballot, mask: Mask, last: int, planes: range) -> None:
        """Note why an object whose last slice is new ends after it."""
        beyond = last + planes.step
        if last == planes[-1]:
            denied = self._first <= beyond <= self._last and self._walk.placed.has(k, beyond)
            where, why = (beyond, DENIED) if denied else (last, self._walk.border(last))
            revised.stopped[where][k] = why, None
        else:
            absence = 1 - ballot.support(beyond, mask) if ballot.shows(beyond) else 0.5
            revised.stopped[beyond][k] = END, absence

    def _free(self, z: int, k: int, box: Box, mask: Mask) -> Mask:
        """Leave of what is added in a box of a slice what nobody else has."""
        if self._walk.overlapping or not mask.any():
            return mask
        for other, packed in self._others(z):
            top, left, bottom, right = packed.box
            if other != k and top < box[2] and bottom > box[0] and left < box[3] and right > box[1]:
                mask = mask & ~packed.within(box)
        return mask

    def _others(self, z: int) -> list[tuple[int, PackedMask]]:
        """Return whose masks are on a slice."""
        if z not in self._there:
            given = {k: PackedMask.of(m) for k, m in self._walk.anchors.get(z, {}).items() if m.any()}
            walk = self._walk
            known = [
                (k, slabs[z][0]) for k, slabs in (*walk.found.items(), *walk.revised.items()) if z in slabs
            ]
            self._there[z] = [*known, *given.items()]
        return self._there[z]

    def _told(self, revised: dict[int, _Revised], share: float) -> Iterator[Step]:
        """Yield what has changed on every slice, from the anchors outwards."""
        for direction, what in revised.items():
            within = {z for z in (*what.masks, *what.stopped) if self._first <= z <= self._last}
            for z in sorted(within, key=lambda z: direction * z):
                packed, stopped = what.masks.get(z, {}), what.stopped.get(z, {})
                yield Step(
                    z,
                    {k: mask.unpack() for k, (mask, _) in packed.items()},
                    {k: score for k, (_, score) in packed.items()},
                    {k: why for k, (why, _) in stopped.items()},
                    {k: absence for k, (_, absence) in stopped.items() if absence is not None},
                    again=share,
                )


def _middle(block: Block, d: int, slabs: Slabs, own: Mask) -> int | None:
    """Return which plane along rows (d is 1) or columns (2) goes through the middle of an object, if any meets it."""
    widest, _ = max(slabs.values(), key=lambda slab: (slab[1] == 1, slab[0].area))
    low, factor = block.span[d][0], block.reduced[d - 1]
    inside = innermost(widest.crop())[d - 1] + widest.box[d - 1]
    wanted = (inside - low) / factor / block.stride
    crossed = np.asarray(own.any(tuple({0, 1, 2} - {d})))
    meets = np.flatnonzero(crossed[:: block.stride])
    return int(meets[np.abs(meets - wanted).argmin()]) if len(meets) else None


def _smooth(mask: Mask) -> Mask:
    """Return a mask without the combs that neighbouring planes leave which do not agree; it does not vanish."""
    sigma = min(SMOOTH_PX, SMOOTH * float(np.sqrt(np.count_nonzero(mask) / np.pi)))
    smooth = ndi.gaussian_filter(mask.astype(np.float32), sigma) > 0.5
    return smooth if smooth.any() else mask


def _touching(mask: Mask, other: Mask) -> Mask:
    """Return the parts of a mask that overlap another."""
    parts, _ = ndi.label(mask)
    kept = np.unique(parts[mask & other])
    return np.asarray(np.isin(parts, kept[kept > 0]))
