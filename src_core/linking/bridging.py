"""Slices on which an object was missed, filled by propagation from both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.automatic.records import MaskRecord
from src_core.labels import LabelVolume
from src_core.linking.graph import Node
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.propagation import propagate
from src_core.volumes import Volume

MAX_BYTES = 2**27
"""Masks of whole planes that are in memory at a time."""
Gap = tuple[int, int]
"""The slices before and after it, on which the object is."""


def gaps(chains: Mapping[int, list[Node]]) -> dict[Gap, list[int]]:
    """Return between which slices objects (id -> masks in order) are missed, and which."""
    found: dict[Gap, list[int]] = {}
    for identity, chain in chains.items():
        slices = sorted({index for index, _ in chain})
        for before, after in pairwise(slices):
            if after - before > 1:
                found.setdefault((before, after), []).append(identity)
    return dict(sorted(found.items()))


def bridge(
    predictor: Predictor,
    volume: Volume,
    labels: LabelVolume,
    gap: Gap,
    masks: Callable[[int, int], Mask],
    ids: list[int],
    *,
    axis: str,
    t: int,
    c: int | None,
    **options: Any,
) -> Iterator[tuple[int, dict[int, float], dict[int, int]]]:
    """Fill one gap of some objects in the labels.

    A filled mask takes free pixels, and those of others that belong to the object on both sides of the gap: there a
    mask has swallowed it. `masks(slice, id)` gives the (H, W) masks at the gap's ends.

    Yields
    ------
    Each slice on which something was filled: its index, id -> confidence, and id -> pixels won or lost.
    """
    before, after = gap
    ends = labels.read_plane(axis, before, t), labels.read_plane(axis, after, t)
    step = max(1, MAX_BYTES // (4 * ends[0].size))
    for first in range(0, len(ids), step):
        part = ids[first : first + step]
        anchors = {index: {k: masks(index, k) for k in part} for index in gap}
        run = propagate(
            predictor, volume, anchors, axis=axis, start=before, stop=after + 1, t=t, c=c, **options
        )
        for found in run:
            if found.anchor or not found.masks:
                continue
            plane = labels.read_plane(axis, found.index, t)
            was, scores = plane.copy(), {}
            for k, mask in found.masks.items():
                taken = mask & ((plane == 0) | ((ends[0] == k) & (ends[1] == k)))
                if taken.any():
                    plane[taken] = k
                    scores[k] = found.scores[k]
            if scores:
                labels.write_box(axis, found.index, (0, 0, *plane.shape), plane, t=t)
                yield found.index, scores, _won(was, plane)


def _won(before: NDArray[np.uint32], after: NDArray[np.uint32]) -> dict[int, int]:
    """Return how many pixels every object has more than before, or fewer."""
    changed = before != after
    won: Counter[int] = Counter()
    for ids, sign in ((before, -1), (after, 1)):
        for k, n in zip(*np.unique(ids[changed], return_counts=True), strict=True):
            won[int(k)] += sign * int(n)
    del won[0]
    return dict(won)


def drawn(records: list[MaskRecord], positions: list[int]) -> Mask:
    """Return the union of some masks of a slice as (H, W) bool."""
    mask: NDArray[np.bool_] = np.zeros(records[positions[0]].mask.shape, np.bool_)
    for i in positions:
        mask[records[i].mask.where] |= records[i].mask.crop()
    return mask
