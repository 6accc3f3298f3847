"""Seeds, then propagation: some slices are searched, and what is new on them travels through the stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.automatic.records import MaskRecord
from src_core.labels import LabelVolume
from src_core.linking.bridging import MAX_BYTES
from src_core.linking.report import FoundObject
from src_core.linking.settings import LinkSettings
from src_core.predictor import Predictor
from src_core.propagation import propagate
from src_core.volumes import Volume

KNOWN = 0.5
"""A mask is of an object that is there already from this part of it on."""


def seed_slices(first: int, stop: int, step: int) -> range:
    """Return the slices to search: each in the middle of the `step` slices it speaks for."""
    return range(min(first + step // 2, stop - 1), stop, step)


def new_objects(records: list[MaskRecord], labels: NDArray[np.uint32]) -> list[MaskRecord]:
    """Return the masks that lie on no object of the plane's labels."""
    return [r for r in records if np.count_nonzero(labels[r.mask.where][r.mask.crop()]) < KNOWN * r.area]


def grow(
    predictor: Predictor,
    volume: Volume,
    labels: LabelVolume,
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
) -> Iterator[dict[int, FoundObject]]:
    """Propagate seeds of one slice into the free pixels of the labels; yields new objects, a few at a time.

    Objects on fewer than `min_slices` slices, and those that mostly lie on others, are taken out again.
    """
    step = max(1, MAX_BYTES // (4 * labels.read_plane(axis, index, t).size))
    least = min(settings.min_slices, stop - start)
    for first in range(0, len(seeds), step):
        part = seeds[first : first + step]
        ids = range(next_id, next_id + len(part))
        next_id += len(part)
        found = {k: FoundObject() for k in ids}
        areas = dict.fromkeys(ids, 0)
        anchors = {index: {k: r.mask.unpack() for k, r in zip(ids, part, strict=True)}}
        scores = {k: r.score for k, r in zip(ids, part, strict=True)}
        for walked in propagate(
            predictor, volume, anchors, axis=axis, start=start, stop=stop, t=t, c=c, **options
        ):
            if not walked.masks:
                continue
            plane = labels.read_plane(axis, walked.index, t)
            for k, mask in walked.masks.items():
                free = mask & (plane == 0)
                areas[k] += int(np.count_nonzero(mask))
                n = int(np.count_nonzero(free))
                found[k].volume_px += n
                if n:
                    plane[free] = k
                    found[k].scores[walked.index] = scores[k] if walked.anchor else walked.scores[k]
            labels.write_box(axis, walked.index, (0, 0, *plane.shape), plane, t=t)
        spurious = [k for k in ids if len(found[k].scores) < least or found[k].volume_px < KNOWN * areas[k]]
        drop(labels, found, spurious, axis=axis, t=t)
        yield found


def drop(
    labels: LabelVolume, objects: dict[int, FoundObject], ids: Sequence[int], *, axis: str, t: int
) -> None:
    """Take objects out again, of the labels too."""
    slices = {z for k in ids for z in objects.pop(k).scores}
    erase(labels, lambda plane: np.isin(plane, ids), slices, axis=axis, t=t)


def erase(
    labels: LabelVolume,
    which: Callable[[NDArray[np.uint32]], NDArray[np.bool_]],
    slices: set[int] | range,
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
