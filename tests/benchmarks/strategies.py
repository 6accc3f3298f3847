"""Ways to ask about the next slice, and a walk through a stack that tries any of them.

With the strategy `USED` the walk gives what `src_core.propagation.propagate` gives; a test holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core import frames
from src_core.continuity import Memory, picture_of
from src_core.embeddings import EmbeddingCache
from src_core.masks import Box, Mask, bounds, innermost
from src_core.prompts import Prompts
from src_core.propagation import PropagationSettings
from src_core.propagation.motion import GAIN, STILL, Shift, motion, moved, moved_picture
from src_core.propagation.settings import confidence, exclusive, verdict
from src_core.types import Candidates, PlaneRef


@dataclass(frozen=True, eq=False)
class Trail:
    """What a walk knows of its object: the anchor, the answers since then, the mask before, and the motion since."""

    anchor: Mask
    mask: Mask
    answers: tuple[Candidates, ...] = ()
    memory: Memory | None = None
    shift: Shift = STILL

    @property
    def expected(self) -> Mask:
        """Where the mask is expected on this slice."""
        return moved(self.mask, self.shift)

    def dense(self) -> tuple[NDArray, tuple[float, float, float, float] | None]:
        """Return the previous answer as a dense prompt, moved as the picture has."""
        if not self.answers:
            return self.expected, None
        (dy, dx), (y0, x0, y1, x1) = self.shift, self.answers[-1].window
        return self.answers[-1].logits[0], (y0 + dy, x0 + dx, y1 + dy, x1 + dx)


Ask = Callable[[Trail], Prompts]


def dense(trail: Trail) -> Prompts:
    """Ask with the low-resolution logits alone."""
    mask, window = trail.dense()
    return Prompts(mask=mask, mask_window=window)


def binarised(trail: Trail) -> Prompts:
    """Ask with the mask alone, as if it were the user's."""
    return Prompts(mask=trail.expected)


def with_cues(*, box: bool = False, points: int = 0) -> Ask:
    """Add the box of the previous mask, or points well inside it."""

    def ask(trail: Trail) -> Prompts:
        mask, window = trail.dense()
        there = trail.expected
        return Prompts(_inside(there, points) or None, None, bounds(there) if box else None, mask, window)

    return ask


def with_first_click(trail: Trail) -> Prompts:
    """Add the click that the object was begun with, where it was."""
    mask, window = trail.dense()
    return Prompts([innermost(trail.anchor)], None, None, mask, window)


def with_first_box(trail: Trail) -> Prompts:
    """Add the box that the user would have drawn around the object on the slice it was begun on."""
    mask, window = trail.dense()
    return Prompts(None, None, bounds(trail.anchor), mask, window)


def averaged(slices: int) -> Ask:
    """Ask with the mean of the logits of the last slices."""

    def ask(trail: Trail) -> Prompts:
        if not trail.answers:
            return dense(trail)
        last = trail.answers[-1]
        shape = (last.logits.shape[1], last.logits.shape[2])
        parts = [
            frames.resample_logits(a.logits[0], a.window, last.window, shape) for a in trail.answers[-slices:]
        ]
        return Prompts(mask=np.mean(parts, axis=0, dtype=np.float32), mask_window=last.window)

    return ask


def _inside(mask: Mask, count: int) -> list[tuple[int, int]]:
    """Return the innermost pixel, then those farthest from the outline and from the ones before."""
    found: list[tuple[int, int]] = []
    room = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    for _ in range(count):
        y, x = (int(v) for v in np.unravel_index(int(room.argmax()), mask.shape))
        found.append((y, x))
        yy, xx = np.ogrid[: mask.shape[0], : mask.shape[1]]
        room = np.minimum(room, np.hypot(yy - y, xx - x) / 2)
    return found


Choose = Callable[[Candidates, Mask], int]


def by_score(found: Candidates, expected: Mask) -> int:
    """Choose the candidate that the network trusts most."""
    return int(np.argmax(found.scores))


def by_agreement(found: Candidates, expected: Mask) -> int:
    """Choose the candidate that is most like the previous mask."""
    return int(np.argmax([_overlap(m, expected) for m in found.masks]))


def by_both(found: Candidates, expected: Mask) -> int:
    """Choose by score times overlap."""
    return int(np.argmax([s * _overlap(m, expected) for s, m in zip(found.scores, found.masks, strict=True)]))


def _overlap(a: Mask, b: Mask) -> float:
    return float(np.count_nonzero(a & b) / max(1, np.count_nonzero(a | b)))


@dataclass(frozen=True)
class Strategy:
    """A way to propagate: how to ask, how to choose, when to end, what to compare with, how to follow motion."""

    ask: Ask = dense
    choose: Choose | None = None
    settings: PropagationSettings = field(default_factory=PropagationSettings)
    judged: bool = True
    registered: str = ""
    gain: float = GAIN


NO_DRIFT = PropagationSettings(min_overlap=0.0, max_growth=1e9)
NO_LIMITS = PropagationSettings(None, 0.0, -1.0, 0.0, 1e9)

STRATEGIES = {
    "dense logits": Strategy(),
    "re-binarised mask": Strategy(binarised),
    "dense + box": Strategy(with_cues(box=True)),
    "dense + point": Strategy(with_cues(points=1)),
    "dense + 3 points": Strategy(with_cues(points=3)),
    "dense + box + point": Strategy(with_cues(box=True, points=1)),
    "dense + the first click": Strategy(with_first_click),
    "dense + the first box": Strategy(with_first_box),
    "best of 3 by score": Strategy(choose=by_score),
    "best of 3 by agreement": Strategy(choose=by_agreement),
    "best of 3 by both": Strategy(choose=by_both),
    "no limit of growth or jumps": Strategy(settings=NO_DRIFT),
    "ends only when empty": Strategy(settings=NO_LIMITS),
    "anchor's appearance not judged": Strategy(judged=False),
    "mean logits of 2 slices": Strategy(averaged(2)),
    "mean logits of 3 slices": Strategy(averaged(3)),
    "moved with the plane": Strategy(registered="plane", gain=0.1),
    "moved with the plane, sure": Strategy(registered="plane"),
    "moved with the object": Strategy(registered="object", gain=0.1),
    "moved with the object, sure": Strategy(registered="object"),
}


USED = STRATEGIES["moved with the plane, sure"]


def around(mask: Mask) -> Box:
    """Return the box of a mask with as much again on every side, at least 12 pixels."""
    y0, x0, y1, x1 = bounds(mask)
    margin = max(12, max(y1 - y0, x1 - x0) // 2)
    height, width = mask.shape
    return max(0, y0 - margin), max(0, x0 - margin), min(height, y1 + margin), min(width, x1 + margin)


def walk(
    cache: EmbeddingCache, labels: NDArray[np.integer], starts: dict[int, int], strategy: Strategy
) -> dict[int, NDArray[np.bool_]]:
    """Propagate objects together from their true slices; return what is found, id -> (Z, Y, X) bool."""
    found = {k: np.zeros(labels.shape, np.bool_) for k in starts}
    for k, z in starts.items():
        found[k][z] = labels[z] == k
    for direction in (1, -1):
        order = range(len(labels)) if direction > 0 else range(len(labels) - 1, -1, -1)
        trails: dict[int, Trail] = {}
        for z in order:
            picture = cache.get(PlaneRef("z", z)).picture if trails or z in starts.values() else None
            answers = _ask(cache, z, direction, trails, strategy)
            masks = {k: answers[k].masks[0] for k in answers}
            own = {k: found[k][z] for k in starts if starts[k] == z}
            seen = exclusive(masks, {k: confidence(a) for k, a in answers.items()}, own.values())
            for k, mask in seen.items():
                found[k][z] = mask
            for k, mask in own.items():
                judge = cache.predictor.continuity if strategy.judged else None
                memory = None if judge is None or picture is None else Memory.of(picture_of(picture), mask)
                trails[k] = Trail(mask, mask, memory=memory)
    return found


def _ask(
    cache: EmbeddingCache, z: int, direction: int, trails: dict[int, Trail], strategy: Strategy
) -> dict[int, Candidates]:
    """Ask about all objects on a slice; trails go on, or end and are taken out."""
    if not trails:
        return {}
    embedding = cache.get(PlaneRef("z", z))
    now, before = embedding.picture, cache.get(PlaneRef("z", z - direction)).picture
    whole = motion(before, now, strategy.gain) if strategy.registered == "plane" else STILL
    for k, trail in trails.items():
        of_object = strategy.registered == "object"
        shift = motion(*_crops(before, now, trail.mask), strategy.gain) if of_object else whole
        trails[k] = replace(trail, shift=shift)
    asked = [strategy.ask(trail) for trail in trails.values()]
    many = cache.predictor.predict_many(embedding, asked, multimask=strategy.choose is not None)
    answers = {}
    for k, found in zip(list(trails), many, strict=True):
        trail = trails[k]
        if strategy.choose is not None:
            best = strategy.choose(found, trail.expected)
            found = replace(
                found, masks=found.masks[[best]], scores=found.scores[[best]], logits=found.logits[[best]]
            )
        memory = trail.memory
        if memory is not None and cache.predictor.continuity is not None:
            found, memory = cache.predictor.continuity.revise(
                memory,
                trail.expected,
                found,
                picture_of(now),
                moved_picture(picture_of(before), trail.shift, embedding.shape),
            )
        if verdict(trail.expected, found, strategy.settings) is not None:
            del trails[k]
            continue
        answers[k] = found
        trails[k] = Trail(trail.anchor, found.masks[0], (*trail.answers[-2:], found), memory)
    return answers


def _crops(before: NDArray[np.uint8], now: NDArray[np.uint8], mask: Mask) -> list[NDArray[np.uint8]]:
    y0, x0, y1, x1 = around(mask)
    return [picture[y0:y1, x0:x1] for picture in (before, now)]
