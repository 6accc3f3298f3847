"""Objects propagated along several axes, and one mask out of what every axis says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from src_core.embedding import Embedding
from src_core.errors import PromptError
from src_core.masks import Mask, PackedMask, innermost, resized
from src_core.predictor import Predictor
from src_core.propagation.anchors import Anchors
from src_core.propagation.run import propagate
from src_core.propagation.settings import PropagationSettings, Step, exclusive
from src_core.types import Progress
from src_core.volumes import Volume
from src_core.volumes.isotropic import isotropic

AWAY = 0.5
"""How much a plane counts that an object did not reach along an axis; one that it did reach counts as it is sure."""

Slabs = dict[int, tuple[PackedMask, float]]
"""Plane -> the object's mask there and the confidence in it."""


@dataclass
class Walked:
    """What became of one object: along every axis, its masks on the planes of the volume.

    `stops` has (plane, why) of the first axis.
    """

    slabs: dict[str, Slabs] = field(default_factory=dict)
    stops: list[tuple[int, str]] = field(default_factory=list)


def propagate_axes(
    predictor: Predictor,
    volume: Volume,
    anchors: Anchors,
    axes: str,
    *,
    t: int = 0,
    c: int | None = None,
    settings: PropagationSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
    progress: Progress | None = None,
) -> Iterator[Step]:
    """Propagate along several axes and fuse: a voxel belongs to an object if the surer axes say so.

    Along the first axis, objects start from their anchors. Along the others they start from what that run has
    found across the middle of their largest anchor, on planes with square pixels. Every axis then votes on every
    voxel, with the confidence of its plane. All is held in memory, packed, until the last axis is through.

    Parameters
    ----------
    predictor, volume, anchors, t, c, settings
        As in `propagate`; the anchors lie on planes of the first axis.
    axes
        The first axis and the others, for instance "zyx".
    embed
        As in `propagate`, for planes of the first axis.
    progress
        Called as progress(done, total) in axes.

    Yields
    ------
    Step
        The fused masks on the planes of the first axis, in order, without the anchors; each plane once.

    Raises
    ------
    PromptError
        As in `propagate`; or `axes` are not two or three different axes of the volume.
    """
    check_axes(volume, axes)
    first, others = axes[0], axes[1:]
    objects: dict[int, Walked] = {}
    given: dict[int, dict[int, Mask]] = {}
    for step in propagate(predictor, volume, anchors, axis=first, t=t, c=c, settings=settings, embed=embed):
        _collect(objects, first, step, step.masks)
        for k, reason in step.stopped.items():
            objects[k].stops.append((step.index, reason))
        if step.anchor:
            given[step.index] = step.masks
    for done, axis in enumerate(others, start=1):
        if progress is not None:
            progress(done, len(axes))
        _walk(predictor, volume, objects, given, first, axis, t, c, settings)
    yield from _fused(volume, objects, given, first)
    if progress is not None:
        progress(len(axes), len(axes))


def check_axes(volume: Volume, axes: str) -> None:
    """Raise `PromptError` unless `axes` are two or three different spatial axes of a volume."""
    if len(axes) < 2 or len(set(axes)) < len(axes) or set(axes) - set(volume.spatial_axes):
        raise PromptError(
            f"axes to fuse are two or three different ones of {''.join(volume.spatial_axes)}, got {axes!r}"
        )


def _collect(objects: dict[int, Walked], axis: str, step: Step, masks: dict[int, Mask]) -> None:
    for k, mask in masks.items():
        walked = objects.setdefault(k, Walked())
        if mask.any():
            walked.slabs.setdefault(axis, {})[step.index] = (PackedMask.of(mask), step.scores[k])


def _walk(
    predictor: Predictor,
    volume: Volume,
    objects: dict[int, Walked],
    given: dict[int, dict[int, Mask]],
    first: str,
    axis: str,
    t: int,
    c: int | None,
    settings: PropagationSettings | None,
) -> None:
    """Propagate along another axis, and add what that finds."""
    square = isotropic(volume, axis, c)
    starts: dict[int, dict[int, Mask]] = {}
    for k, walked in objects.items():
        anchor = max((masks[k] for masks in given.values() if k in masks), key=np.count_nonzero)
        index = innermost(anchor)[volume.plane_axes(first).index(axis)]
        cut = _across(volume, walked.slabs[first], first, axis, index)
        starts.setdefault(index, {})[k] = resized(cut, square.plane_shape(axis))
    shape = volume.plane_shape(axis)
    alone = replace(settings or PropagationSettings(), sides=False)  # what it goes through are the sides
    for step in propagate(predictor, square, starts, axis=axis, t=t, c=c, settings=alone):
        _collect(objects, axis, step, {k: resized(m, shape) for k, m in step.masks.items()})


def _across(volume: Volume, slabs: Slabs, first: str, axis: str, index: int) -> Mask:
    """Return where planes of the first axis cross a plane of another one."""
    cut = np.zeros(volume.plane_shape(axis), np.bool_)
    across = volume.plane_axes(first).index(axis)
    lines = cut if volume.plane_axes(axis)[0] == first else cut.T
    for plane, (packed, _) in slabs.items():
        lines[plane] = np.take(packed.unpack(), index, across)
    return cut


def _fused(
    volume: Volume, objects: dict[int, Walked], given: dict[int, dict[int, Mask]], first: str
) -> Iterator[Step]:
    fused = {k: _Ballot(volume, walked, first) for k, walked in objects.items()}
    stops = {k: dict(walked.stops) for k, walked in objects.items()}
    for index in range(volume.n_planes(first)):
        own = given.get(index, {})
        masks, scores = {}, {}
        for k, ballot in fused.items():
            if k not in own and (mask := ballot.mask(index)).any():
                masks[k], scores[k] = mask, ballot.confidence(index)
        masks = exclusive(masks, scores, own.values())
        # Where the first axis has ended, the others may go on.
        there = {k for k, mask in (masks | own).items() if mask.any()}
        stopped = {k: reasons[index] for k, reasons in stops.items() if index in reasons and k not in there}
        if masks or stopped:
            yield Step(index, masks, scores, stopped)


class _Ballot:
    """The votes on one object, within the box that holds all its masks; axes first, row and column of planes."""

    def __init__(self, volume: Volume, walked: Walked, first: str) -> None:
        self._shape = volume.plane_shape(first)
        order = (first, *volume.plane_axes(first))
        boxes = [
            _box(order, axis, i, p) for axis, slabs in walked.slabs.items() for i, (p, _) in slabs.items()
        ]
        low, high = np.min([b[0] for b in boxes], 0), np.max([b[1] for b in boxes], 0)
        self._low = low
        votes, support = (np.zeros(high - low, np.float32) for _ in range(2))
        for axis, slabs in walked.slabs.items():
            d = order.index(axis)
            weights = np.full(high[d] - low[d], AWAY, np.float32)
            inside = np.zeros(votes.shape, np.bool_)
            rows, columns = (slice(low[e], high[e]) for e in range(3) if e != d)
            for index, (packed, score) in slabs.items():
                weights[index - low[d]] = score
                mask = packed.unpack()
                # planes have their axes in the order of the volume, the ballot has the first axis first
                own = volume.plane_axes(axis)
                turned = mask if [a for a in order if a != axis] == list(own) else mask.T
                inside[(slice(None),) * d + (index - low[d],)] = turned[rows, columns]
            weights = weights.reshape([-1 if e == d else 1 for e in range(3)])
            votes += np.where(inside, weights, -weights)
            support += np.where(inside, weights, 0) / len(walked.slabs)
        self._inside, self._support = votes > 0, support

    def mask(self, index: int) -> Mask:
        mask = np.zeros(self._shape, np.bool_)
        at = index - self._low[0]
        if 0 <= at < len(self._inside):
            part = self._inside[at]
            (y, x), (h, w) = self._low[1:], part.shape
            mask[y : y + h, x : x + w] = part
        return mask

    def confidence(self, index: int) -> float:
        """Return how sure the axes are of what they say together on a plane, on average over its pixels."""
        at = index - self._low[0]
        return float(self._support[at][self._inside[at]].mean())


def _box(
    order: tuple[str, ...], axis: str, index: int, packed: PackedMask
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the corners of a plane's mask in the axes of the ballot."""
    y0, x0, y1, x1 = packed.box
    own = sorted((a for a in order if a != axis), key="zyx".index)
    spans = {axis: (index, index + 1), own[0]: (y0, y1), own[1]: (x0, x1)}
    return np.array([spans[a][0] for a in order]), np.array([spans[a][1] for a in order])
