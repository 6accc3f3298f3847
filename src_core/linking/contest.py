"""Candidates for the same object contest it: the surest stay, and what is left of the others' masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Mapping

import numpy as np

from src_core.labels import LabelVolume
from src_core.linking.graph import overlaps
from src_core.linking.report import FoundObject
from src_core.linking.shelf import RecordShelf

TAKEN = 0.5
"""A candidate of which this part belongs to surer ones is none."""
Pair = tuple[int, int]


def winners(candidates: Mapping[int, FoundObject], shared: Mapping[Pair, int]) -> list[int]:
    """Return the candidates that stay, the surest first.

    Parameters
    ----------
    candidates
        By id.
    shared
        Voxels that two of them share, (smaller id, larger id) -> number.
    """
    rivals: dict[int, list[tuple[int, int]]] = {}
    for (a, b), n in shared.items():
        rivals.setdefault(a, []).append((b, n))
        rivals.setdefault(b, []).append((a, n))
    stay: dict[int, None] = {}
    for k in sorted(candidates, key=lambda k: (-candidates[k].confidence, k)):
        taken = sum(n for rival, n in rivals.get(k, []) if rival in stay)
        if taken <= TAKEN * candidates[k].volume_px:
            stay[k] = None
    return list(stay)


def contest(
    shelf: RecordShelf,
    labels: LabelVolume,
    candidates: Mapping[int, FoundObject],
    slices: Iterable[int],
    *,
    axis: str,
    t: int,
) -> Generator[tuple[int, int], None, dict[int, FoundObject]]:
    """Decide between candidates whose masks are on the shelf, and draw those that stay.

    Yields (done, total) in slices, each of which it goes through twice. Returns the objects by their ids in the labels,
    which are 1 to N, the surest first.
    """
    slices = [index for index in slices if any(index in found.scores for found in candidates.values())]
    shared: Counter[Pair] = Counter()
    for done, index in enumerate(slices, start=1):
        masks = shelf.walked(index, candidates)
        ids = list(masks)
        for i, j, n in overlaps(list(masks.values()), list(masks.values())):
            if i < j:
                shared[ids[i], ids[j]] += n
        yield done, 2 * len(slices)
    ids_of = {k: n for n, k in enumerate(winners(candidates, shared), start=1)}
    objects = {n: FoundObject(side=candidates[k].side) for k, n in ids_of.items()}
    for done, index in enumerate(slices, start=len(slices) + 1):
        masks = shelf.walked(index, candidates)
        here = [k for k in ids_of if k in masks]
        if here:
            plane = np.zeros(masks[here[0]].shape, np.uint32)
            for k in reversed(here):
                plane[masks[k].where][masks[k].crop()] = ids_of[k]
            labels.write_box(axis, index, (0, 0, *plane.shape), plane, t=t)
        for k in here:
            if voxels := int(np.count_nonzero(plane[masks[k].where] == ids_of[k])):
                objects[ids_of[k]].scores[index] = candidates[k].scores[index]
                objects[ids_of[k]].volume_px += voxels
        yield done, 2 * len(slices)
    return objects
