"""How far objects reach across the slices, as planes through them show it before a walk begins.

From slice to slice an end is hardly a change: the object fades, or the one below it takes over. From the side it is an
outline like any other, and two nuclei in a column are two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.masks import Mask, iou, resized
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.propagation.crossing import Crossed, Lane, read_crossing
from src_core.propagation.settings import PropagationSettings
from src_core.types import PlaneRef
from src_core.volumes import Volume
from src_core.volumes.isotropic import Stretched

WORTH_IT = 1.5
"""Slices must lie so many pixels apart: a walk in finer steps sees ends as well as anybody."""
SOFT_PX, LEAST_SOFT = 16, 3.0
"""So far from the end it found, in square pixels, a plane is as sure as it gets; in slices at least."""
MOST = 0.5
"""All planes together count as much as a walk that is half sure; chosen on drawn stacks, as all of these."""
AGREE = 1
"""Where the two planes through the middle see ends so many slices apart at most, they speak for the others, too."""
TOGETHER = 32
"""Objects whose planes are held in memory at once."""
TOUCHING = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class Reach:
    """What one plane across the slices says of an object.

    Attributes
    ----------
    low, high
        The first and the last slice on which it shows the object.
    seen
        The slices it shows.
    weight
        How much that counts, 0 to 1, and more where it speaks for others: predicted IoU, presence, and how well the
        answer fits where it crosses the slice on which the object is known.
    soft
        How many slices from an end it is as sure as it gets.
    """

    low: int
    high: int
    seen: range
    weight: float
    soft: float = LEAST_SOFT

    def vote(self, index: int, direction: int) -> float:
        """Return between -weight, for an object that has long ended before a slice, and +weight."""
        if index not in self.seen:
            return 0.0
        left = self.high - index if direction > 0 else index - self.low
        return self.weight * float(np.clip((left + 0.5) / self.soft, -1, 1))


def has_sides(volume: Volume) -> bool:
    """Say whether a volume can be looked at across its slices: how far apart they are must be known."""
    return len(volume.spatial_axes) == 3 and volume.is_scaled


def worth_it(volume: Volume, axis: str) -> bool:
    """Say whether planes across the slices along an axis show ends better than a walk does, before it begins."""
    return has_sides(volume) and volume.scale[axis] >= WORTH_IT * min(
        volume.scale[a] for a in volume.plane_axes(axis)
    )


def second_look(
    predictor: Predictor, volume: Volume, axis: str, settings: PropagationSettings
) -> tuple[str, ...]:
    """Return the axes along which what a walk has found is looked at again; see `across`."""
    if settings.across is not None:
        return settings.across
    known = settings.sides and predictor.continuity is not None and has_sides(volume)
    return volume.plane_axes(axis) if known else ()


class Reaches:
    """How far objects reach from their last anchors; each is looked at once.

    Parameters
    ----------
    predictor, volume, axis, t, c
        The network, the image, the axis along which the stack is walked, time point and channel.
    """

    def __init__(self, predictor: Predictor, volume: Volume, axis: str, t: int, c: int | None) -> None:
        self._predictor, self._volume, self._axis = predictor, volume, axis
        self._t, self._c = t, c
        self._found: dict[tuple[int, int], tuple[Reach, ...]] = {}

    def look(self, index: int, masks: Mapping[int, Mask]) -> Iterator[None]:
        """Look at objects (id -> (H, W) mask) on an anchor; come back every now and then, so that one may stop."""
        unseen = {k: mask for k, mask in masks.items() if (k, index) not in self._found}
        if not unseen:
            return
        for found in reaches(self._predictor, self._volume, self._axis, index, unseen, t=self._t, c=self._c):
            if found is not None:
                self._found[found[0], index] = found[1]
            yield

    def vote(self, identity: int, anchor: int, index: int, direction: int) -> float:
        """Return what planes through an object on an anchor say about it on another plane; see `together`."""
        return together(self._found.get((identity, anchor), ()), index, direction)


def together(reaches: Iterable[Reach], index: int, direction: int) -> float:
    """Return what planes say together, from `-MOST` to `MOST`: they see the same thing, and err together."""
    return float(np.clip(sum(reach.vote(index, direction) for reach in reaches), -MOST, MOST))


def reaches(
    predictor: Predictor,
    volume: Volume,
    axis: str,
    index: int,
    masks: Mapping[int, Mask],
    *,
    t: int = 0,
    c: int | None = None,
) -> Iterator[tuple[int, tuple[Reach, ...]] | None]:
    """Lay planes through the objects of a slice and click on each where it crosses them.

    Parameters
    ----------
    predictor, volume, t, c
        The network, the image, time point and channel.
    axis, index
        The slice on which the objects are known.
    masks
        Object id -> (H, W) bool mask, not empty.

    Yields
    ------
    tuple
        Object id, and what up to six planes say: through its innermost pixel and halfway to its edges. None at all
        where nothing can be read beyond the slice. None after every slice that is read.
    """
    ids = list(masks)
    for start in range(0, len(ids), TOGETHER):
        pending = {k: Crossed.of(masks[k], volume, axis) for k in ids[start : start + TOGETHER]}
        while pending:
            read = yield from read_crossing(volume, PlaneRef(axis, index, t), c, pending)
            farther: dict[int, Crossed] = {}
            for k, seen in pending.items():
                slices, pictures = read[k]
                found = _looked(predictor, seen, index, slices, pictures)
                low, high = slices.start, slices.stop - 1
                goes_on = any(r.low == low > 0 or r.high == high < volume.n_planes(axis) - 1 for r in found)
                if goes_on and len(slices) > seen.reach < seen.most:
                    farther[k] = replace(seen, reach=min(2 * seen.reach, seen.most))
                else:
                    yield k, tuple(found)
            pending = farther


def _looked(
    predictor: Predictor,
    crossed: Crossed,
    index: int,
    slices: range,
    pictures: Mapping[Lane, NDArray[np.uint8]],
) -> list[Reach]:
    """Click on an object on the planes across the slices."""
    if len(slices) == 1:
        return []
    lines = crossed.cut(crossed.mask)
    soft = max(LEAST_SOFT, SOFT_PX / crossed.stretch[0])

    def seen(lane: Lane) -> Reach | None:
        shape = (crossed.stretch[0], crossed.stretch[2 - lane[0]])
        found = _asked(predictor, pictures[lane], lines[lane], index - slices.start, shape)
        if found is None:
            return None
        low, high, weight = found
        return Reach(slices.start + low, slices.start + high, slices, weight, soft)

    first, second = (seen(lanes[0]) for lanes in crossed.lanes)
    rest = [lane for lanes in crossed.lanes for lane in lanes[1:]]
    if first and second and max(abs(first.low - second.low), abs(first.high - second.high)) <= AGREE:
        return [replace(r, weight=r.weight * (1 + len(rest) / 2)) for r in (first, second)]
    return [r for r in (first, second, *(seen(lane) for lane in rest)) if r is not None]


def _asked(
    predictor: Predictor, picture: NDArray[np.uint8], line: Mask, z: int, stretch: tuple[float, float]
) -> tuple[int, int, float] | None:
    """Click on the object in a picture (n, w, 3) across the slices; `line` (w,) is where it is on slice z of it.

    Returns the first and the last slice of what was clicked on, and how much that counts; None for nothing.
    """
    first, last = _longest_run(line)
    where = (z, (first + last) // 2)
    shape = tuple(max(1, round(n * f)) for n, f in zip(picture.shape, stretch, strict=False))
    square = picture
    for d, length in enumerate(shape):
        if length != picture.shape[d]:
            square = Stretched(square, d, length)[:, :, :]
    click = [(k + 0.5) * m / n - 0.5 for k, m, n in zip(where, shape, picture.shape, strict=False)]
    embedding = predictor.embed(square, lazily=True)
    (found,) = predictor.predict_many(embedding, [Prompts([click])], beside=False)
    best: tuple[float, int, int] | None = None
    for answer, score in zip(found.masks, found.scores, strict=True):
        mask = resized(answer, picture.shape[:2])
        parts, _ = ndi.label(mask, TOUCHING)
        own = parts == parts[where] if mask[where] else mask
        if own.any():
            worth = float(score) * iou(mask[z], line)
            slices = np.flatnonzero(own.any(1))
            if best is None or worth > best[0]:
                best = worth, int(slices[0]), int(slices[-1])
    return None if best is None else (best[1], best[2], float(np.clip(best[0] * found.presence, 0, 1)))


def _longest_run(line: Mask) -> tuple[int, int]:
    """Return the first and the last pixel of the longest run in a line that is not empty."""
    runs, count = ndi.label(line)
    lengths = np.bincount(runs, minlength=count + 1)
    lengths[0] = 0
    pixels = np.flatnonzero(runs == lengths.argmax())
    return int(pixels[0]), int(pixels[-1])
