"""Masks travel through a stack: each plane's answer is the dense prompt of the next.

From an object's outermost anchors outwards, and between two anchors from both ends, blended by distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core import frames
from src_core.errors import PromptError
from src_core.predictor import Embedding, Predictor
from src_core.prompts import Prompts
from src_core.types import Candidates
from src_core.volumes import Volume

Mask = NDArray[np.bool_]
Anchors = Mapping[int, Mapping[int, Mask]]
"""Plane index -> object id -> (H, W) bool mask that the user made or confirmed."""


@dataclass(frozen=True)
class PropagationSettings:
    """What a step asks and when an object ends.

    Attributes
    ----------
    cues
        What goes with the dense prompt: any of "box" and "point", taken from the previous mask. None for what
        measured best: nothing for networks trained on slices, the box for the others.
    min_presence, min_score
        Below either, the object is taken to have ended or the answer to be a guess.
    min_overlap
        IoU with the previous plane's mask below which the mask is taken to have jumped to something else.
    max_growth
        Ratio of areas from one plane to the next above which the mask is taken to have leaked.
    """

    cues: tuple[str, ...] | None = None
    min_presence: float = 0.5
    min_score: float = 0.35
    min_overlap: float = 0.1
    max_growth: float = 3.0


@dataclass(frozen=True, eq=False)
class Step:
    """What happened on one plane.

    A plane may come several times, each time with other objects.

    Attributes
    ----------
    index
        The plane.
    masks
        Object id -> (H, W) bool mask; masks of one step do not overlap.
    scores
        Object id -> confidence, 0 to 1; 1 for anchors.
    stopped
        Object id -> why it ends before this plane.
    anchor
        True where the masks are the caller's own.
    """

    index: int
    masks: dict[int, Mask]
    scores: dict[int, float]
    stopped: dict[int, str] = field(default_factory=dict)
    anchor: bool = False


@dataclass
class _Track:
    """The state of one object on its way in one direction: the last plane's mask as dense prompt."""

    mask: Mask
    dense: NDArray[np.float32] | None = None
    window: tuple[float, float, float, float] | None = None

    def prompts(self, cues: tuple[str, ...]) -> Prompts:
        rows, columns = np.nonzero(self.mask.any(1))[0], np.nonzero(self.mask.any(0))[0]
        box = (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if "box" in cues else None
        points = [_innermost(self.mask)] if "point" in cues else None
        if self.dense is None:
            return Prompts(points, None, box, self.mask)
        return Prompts(points, None, box, self.dense, self.window)


def propagate(
    predictor: Predictor,
    volume: Volume,
    anchors: Anchors,
    *,
    axis: str = "z",
    start: int | None = None,
    stop: int | None = None,
    t: int = 0,
    c: int | None = None,
    settings: PropagationSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
) -> Iterator[Step]:
    """Carry masks from their anchors through the stack, plane by plane.

    Parameters
    ----------
    predictor, volume
        The network and the image.
    anchors
        Plane index -> object id -> (H, W) bool mask. They are yielded as they are and never changed.
    axis
        The spatial axis to travel along.
    start, stop
        Half-open range of planes to fill; the whole stack by default.
    t, c
        Time point and channel.
    settings
        See `PropagationSettings`.
    embed
        Called with a plane's index instead of `Predictor.embed`, by callers that keep embeddings.

    Yields
    ------
    Step
        As soon as a plane is done. The caller may save, show, or stop at any point.

    Raises
    ------
    PromptError
        An anchor lies outside the stack, is empty, or does not fit the plane.
    """
    run = _Run(
        predictor,
        volume,
        _checked(volume, anchors, axis),
        axis,
        t,
        c,
        settings or PropagationSettings(),
        embed,
    )
    first, last = run.limits(start, stop)
    yield from run.steps(first, last)


def _checked(volume: Volume, anchors: Anchors, axis: str) -> dict[int, dict[int, Mask]]:
    if not any(anchors.values()):
        raise PromptError("nothing to propagate: give the mask of at least one object on one plane")
    count, shape = volume.n_planes(axis), volume.plane_shape(axis)
    checked: dict[int, dict[int, Mask]] = {}
    for index, masks in anchors.items():
        if not 0 <= index < count:
            raise PromptError(f"anchor on plane {axis}={index}, but {axis} runs from 0 to {count - 1}")
        for identity, mask in masks.items():
            array = np.asarray(mask)
            if array.shape != shape:
                raise PromptError(
                    f"the mask of object {identity} on {axis}={index} has shape {array.shape}, the plane {shape}"
                )
            if int(identity) < 1:
                raise PromptError(f"object ids are 1 or more, got {identity}")
            if not array.any():
                raise PromptError(f"the mask of object {identity} on {axis}={index} is empty")
            checked.setdefault(int(index), {})[int(identity)] = array.astype(np.bool_)
    return dict(sorted(checked.items()))


class _Run:
    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        anchors: dict[int, dict[int, Mask]],
        axis: str,
        t: int,
        c: int | None,
        settings: PropagationSettings,
        embed: Callable[[int], Embedding] | None,
    ) -> None:
        self.predictor, self.volume, self.anchors, self.axis = predictor, volume, anchors, axis
        self.t, self.c, self.settings = t, c, settings
        self.embed = embed or self._embed
        native = predictor.model.native_tiles
        self.cues = settings.cues if settings.cues is not None else (() if native else ("box",))
        self.planes: dict[int, list[int]] = {}
        for index, masks in anchors.items():
            for identity in masks:
                self.planes.setdefault(identity, []).append(index)

    def _embed(self, index: int) -> Embedding:
        return self.predictor.embed(self.volume.plane(**{self.axis: index}, t=self.t, c=self.c), lazily=True)

    def limits(self, start: int | None, stop: int | None) -> tuple[int, int]:
        count = self.volume.n_planes(self.axis)
        first, end = start or 0, count if stop is None else stop
        if not (0 <= first < end <= count):
            raise PromptError(f"range {first}..{end} is not within planes 0..{count} along {self.axis}")
        return first, end - 1

    def steps(self, first: int, last: int) -> Iterator[Step]:
        for index, masks in self.anchors.items():
            yield Step(index, dict(masks), dict.fromkeys(masks, 1.0), anchor=True)
        waiting: dict[tuple[int, int], _Crop] = {}
        yield from self._sweep(range(min(self.anchors), last + 1), 1, waiting)
        yield from self._sweep(range(max(self.anchors), first - 1, -1), -1, waiting)

    def _sweep(self, order: range, direction: int, waiting: dict[tuple[int, int], _Crop]) -> Iterator[Step]:
        """Walk `order`; upwards, what lies between two anchors waits for the way back."""
        tracks: dict[int, _Track] = {}
        for index in order:
            for identity, mask in self.anchors.get(index, {}).items():
                tracks[identity] = _Track(mask)
            here = [k for k in tracks if index not in self.planes[k]]
            found = self._ask(index, {k: tracks[k] for k in here})
            masks, scores, stopped = {}, {}, {}
            for k, candidates in found.items():
                between = self.planes[k][0] < index < self.planes[k][-1]
                reason = _verdict(tracks[k].mask, candidates, self.settings)
                other = waiting.pop((k, index), None) if direction < 0 else None
                if reason is not None:
                    del tracks[k]
                    if not between:
                        stopped[k] = reason
                else:
                    tracks[k] = _Track(candidates.masks[0], candidates.logits[0], candidates.window)
                    if between and direction > 0:
                        waiting[k, index] = _Crop.of(candidates)
                        continue
                    if other is not None:
                        candidates = self._blend(k, index, other, candidates)
                    masks[k], scores[k] = candidates.masks[0], _confidence(candidates)
            if direction < 0:  # forward answers whose way back has ended
                for k in [k for k, i in waiting if i == index]:
                    masks[k], scores[k] = (crop := waiting.pop((k, index))).mask(), crop.score
            if masks or stopped:
                yield Step(index, _exclusive(masks, scores), scores, stopped)
            if not tracks and not any(i in self.anchors for i in order[order.index(index) + 1 :]):
                if direction > 0 or not waiting:
                    return

    def _ask(self, index: int, tracks: dict[int, _Track]) -> dict[int, Candidates]:
        if not tracks:
            return {}
        prompts = [track.prompts(self.cues) for track in tracks.values()]
        return dict(
            zip(tracks, self.predictor.predict_many(self.embed(index), prompts, multimask=False), strict=True)
        )

    def _blend(self, identity: int, index: int, forward: _Crop, backward: Candidates) -> Candidates:
        """Weigh the two directions by the distance to the anchor each came from."""
        planes = self.planes[identity]
        below, above = max(p for p in planes if p < index), min(p for p in planes if p > index)
        weight = (index - below) / (above - below)
        shape = backward.logits.shape[1:]
        logits = frames.resample_logits(
            forward.logits(), forward.window, backward.window, (shape[0], shape[1])
        )
        mixed = (1 - weight) * logits + weight * backward.logits[0]
        mask = self.predictor.mask_of(mixed, backward.window, backward.masks.shape[1:])
        score = (1 - weight) * forward.score + weight * _confidence(backward)
        return Candidates(mask[None], np.array([score], np.float32), mixed[None], backward.window)


@dataclass(frozen=True, eq=False)
class _Crop:
    """An answer that waits, kept small: half-precision logits around the object and the mask's bits."""

    values: NDArray[np.float16]
    corner: tuple[int, int]
    low_res: tuple[int, int]
    window: tuple[float, float, float, float]
    bits: NDArray[np.uint8]
    shape: tuple[int, int]
    score: float

    @classmethod
    def of(cls, candidates: Candidates) -> _Crop:
        logits = candidates.logits[0]
        rows, columns = np.nonzero((logits > -4).any(1))[0], np.nonzero((logits > -4).any(0))[0]
        part = logits[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        mask = candidates.masks[0]
        return cls(
            part.astype(np.float16),
            (int(rows[0]), int(columns[0])),
            (logits.shape[0], logits.shape[1]),
            candidates.window,
            np.packbits(mask),
            (mask.shape[0], mask.shape[1]),
            _confidence(candidates),
        )

    def logits(self) -> NDArray[np.float32]:
        out = np.full(self.low_res, -frames.BOOL_LOGIT, np.float32)
        (y, x), (h, w) = self.corner, self.values.shape
        out[y : y + h, x : x + w] = self.values
        return out

    def mask(self) -> Mask:
        height, width = self.shape
        return np.unpackbits(self.bits, count=height * width).reshape(self.shape).astype(np.bool_)


def _confidence(candidates: Candidates) -> float:
    return float(np.clip(candidates.scores[0] * candidates.presence, 0, 1))


def _verdict(previous: Mask, found: Candidates, settings: PropagationSettings) -> str | None:
    """Return why the object ends before this plane, or None if it goes on."""
    mask = found.masks[0]
    area, before = np.count_nonzero(mask), np.count_nonzero(previous)
    if area == 0:
        return "the mask is empty"
    if found.presence < settings.min_presence:
        return f"the object has probably ended (presence {found.presence:.2f})"
    if found.scores[0] < settings.min_score:
        return f"the network is unsure (score {found.scores[0]:.2f})"
    if area > settings.max_growth * before:
        return f"the mask grew {area / before:.1f} times from one plane to the next"
    shared = np.count_nonzero(mask & previous)
    if shared / (area + before - shared) < settings.min_overlap and shared < 0.5 * area:
        return "the mask jumped away from the previous plane's"
    return None


def _exclusive(masks: dict[int, Mask], scores: dict[int, float]) -> dict[int, Mask]:
    """Give pixels that several objects claim to the one with the highest score."""
    taken: Mask | None = None
    out: dict[int, Mask] = {}
    for k in sorted(masks, key=lambda k: -scores[k]):
        out[k] = masks[k] if taken is None else masks[k] & ~taken
        taken = out[k].copy() if taken is None else taken | out[k]
    return {k: out[k] for k in masks}


def _innermost(mask: Mask) -> tuple[int, int]:
    distance = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(y), int(x)
