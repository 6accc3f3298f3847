"""Seeds, then propagation: some slices are searched, and what is new on them travels through the stack.

Every seed's way through the stack is a candidate for an object, whatever others have found there; `contest` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.automatic.records import MaskRecord
from src_core.labels import LabelVolume
from src_core.linking.bridging import MAX_BYTES
from src_core.linking.graph import overlaps
from src_core.linking.report import FoundObject
from src_core.linking.settings import LinkSettings
from src_core.linking.shelf import RecordShelf
from src_core.masks import PackedMask, innermost
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings, propagate
from src_core.propagation.sides import SideView
from src_core.volumes import Volume

KNOWN = 0.7
"""From this IoU on, a mask on a slice is a candidate that is there already."""


def seed_slices(first: int, stop: int, step: int) -> range:
    """Return the slices to search: each in the middle of the `step` slices it speaks for."""
    return range(min(first + step // 2, stop - 1), stop, step)


def new_objects(records: list[MaskRecord], there: Iterable[PackedMask]) -> list[MaskRecord]:
    """Return the masks of a slice that none of those `there` resembles."""
    known = list(there)
    alike = {
        i
        for i, j, shared in overlaps([r.mask for r in records], known)
        if shared >= KNOWN * (records[i].mask.area + known[j].area - shared)
    }
    return [r for i, r in enumerate(records) if i not in alike]


def grow(
    predictor: Predictor,
    volume: Volume,
    shelf: RecordShelf,
    index: int,
    seeds: list[MaskRecord],
    next_id: int,
    settings: LinkSettings,
    *,
    axis: str,
    start: int,
    stop: int,
    t: int,
    c: int | None,
    **options: Any,
) -> Iterator[tuple[int, dict[int, FoundObject]]]:
    """Propagate seeds of one slice, and look at what comes of them from the side.

    All of it goes to the shelf. Yields how many more seeds are through, and what has come of them, a few at a time;
    (0, {}) in between. Objects on fewer than `min_slices` slices, and those that are not sure enough, are none.
    """
    step = max(1, MAX_BYTES // (4 * int(np.prod(volume.plane_shape(axis)))))
    least = min(settings.min_slices, stop - start)
    for first in range(0, len(seeds), step):
        part = dict(enumerate(seeds[first : first + step], start=next_id + first))
        group = min(part)
        found = {k: FoundObject() for k in part}
        anchors = {index: {k: r.mask.unpack() for k, r in part.items()}}
        sides = {k: SideView(innermost(mask)) for k, mask in anchors[index].items()}
        areas: dict[int, dict[int, int]] = {k: {} for k in part}
        for walked in propagate(
            predictor,
            volume,
            anchors,
            axis=axis,
            start=start,
            stop=stop,
            t=t,
            c=c,
            overlapping=True,
            # what comes of a seed is looked at from the side below, its ends as well
            settings=PropagationSettings(sides=False, waists=False),
            **options,
        ):
            here = {k: PackedMask.of(mask) for k, mask in walked.masks.items() if mask.any()}
            for k, mask in here.items():
                sides[k].add(walked.index, mask)
                found[k].scores[walked.index] = part[k].score if walked.anchor else walked.scores[k]
                areas[k][walked.index] = mask.area
            if here:
                shelf.put_walked(walked.index, group, here)
            yield 0, {}
        sure: dict[int, FoundObject] = {}
        for k, candidate in found.items():
            if len(candidate.scores) >= least and candidate.confidence >= settings.min_confidence:
                seen = sides[k].seen(predictor, volume, axis, start=start, stop=stop, t=t, c=c)
                scores = _without_denied_ends(candidate.scores, index, seen.denied)
                candidate = FoundObject(scores, sum(areas[k][z] for z in scores), seen.fit)
                if len(scores) >= least and candidate.confidence >= settings.min_confidence:
                    sure[k] = candidate
            yield 0, {}
        shelf.put_candidates(group, sure)
        yield len(part), sure


def _without_denied_ends(scores: dict[int, float], index: int, denied: frozenset[int]) -> dict[int, float]:
    """Return the slices of a candidate up to the last on either side of its seed that is not denied from the side."""
    last = max(z for z in scores if z >= index and (z == index or z not in denied))
    first = min(z for z in scores if z <= index and (z == index or z not in denied))
    return {z: score for z, score in scores.items() if first <= z <= last}


def drop(
    labels: LabelVolume, objects: dict[int, FoundObject], ids: Sequence[int], *, axis: str, t: int
) -> None:
    """Take objects out again, of the labels too."""
    slices = {z for k in ids for z in objects.pop(k).scores}
    erase(labels, lambda plane: np.isin(plane, ids), slices, axis=axis, t=t)


def erase(
    labels: LabelVolume,
    which: Callable[[NDArray[np.uint32]], NDArray[np.bool_]],
    slices: Iterable[int],
    *,
    axis: str,
    t: int,
) -> None:
    """Clear the pixels of some slices that `which` chooses by their ids."""
    for z in sorted(slices):
        plane = labels.read_plane(axis, z, t)
        gone = which(plane)
        if gone.any():
            plane[gone] = 0
            labels.write_box(axis, z, (0, 0, *plane.shape), plane, t=t)
