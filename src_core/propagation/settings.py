"""What a step of a propagation asks, what it answers, and when an object ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from src_core.errors import PromptError
from src_core.masks import Mask
from src_core.types import Candidates

ALMOST = 1e-6
"""Probabilities closer to 0 or 1 count as this far from them: their logits are finite."""
SURE = 3.0
"""The walk is as sure as it gets of the presence so many logits above or below the least it believes."""


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
    follow
        Whether masks follow the picture where all of it jumps from one plane to the next.
    sides
        Whether planes across the stack have a say: in where an object ends, where the planes lie far apart, and in a
        second look at all that was found. Only networks with a `Predictor.continuity` are asked, and only where the
        file says how large voxels are.
    across
        Along which axes the second look goes; None for what `sides` says, () for none at all.
    waists
        Whether what had grown again before an object ended is taken back, and its last mask closes; see `held`. Only
        with a `Predictor.continuity`.
    interpolate_below
        Between two anchors, planes of which the network is less sure, 0 to 1, or that it did not reach, get the
        outline drawn from one anchor to the other; 0 for none.
    """

    cues: tuple[str, ...] | None = None
    min_presence: float = 0.5
    min_score: float = 0.1
    min_overlap: float = 0.1
    max_growth: float = 3.0
    follow: bool = True
    sides: bool = True
    across: tuple[str, ...] | None = None
    waists: bool = True
    interpolate_below: float = 0.35

    def __post_init__(self) -> None:
        unknown = set(self.cues or ()) - {"box", "point"}
        if unknown:
            raise PromptError(f"unknown cues {sorted(unknown)}; known are box and point")
        for name in ("min_presence", "min_score", "min_overlap", "max_growth", "interpolate_below"):
            if np.isnan(getattr(self, name)):
                raise PromptError(f"{name} must be a number, got nan")
        if self.max_growth <= 0:
            raise PromptError(f"max_growth is a ratio of areas above 0, got {self.max_growth:g}")


@dataclass(frozen=True, eq=False)
class Step:
    """What happened on one plane.

    A plane may come several times, each time with other objects, or without any: where nothing came of it, or
    where answers wait for those from the other side, or to be sure that they are not taken back. In the second look
    it comes again with objects whose masks it changes, or which now end elsewhere.

    Attributes
    ----------
    index
        The plane.
    masks
        Object id -> (H, W) bool mask; masks of one step overlap neither each other nor the plane's anchors.
    scores
        Object id -> confidence, 0 to 1; 1 for anchors.
    stopped
        Object id -> why it ends before this plane, or on it at the end of the stack or the range.
    ends
        Object id -> how sure it is, 0 to 1, that the object is not on this plane, where propagation found so.
    anchor
        True where the masks are the caller's own.
    again
        In the second look, how much of it is done, 0 to 1; else None.
    """

    index: int
    masks: dict[int, Mask]
    scores: dict[int, float]
    stopped: dict[int, str] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)
    anchor: bool = False
    again: float | None = None


def confidence(candidates: Candidates) -> float:
    """Return the predicted IoU of the best candidate times the probability that the object is there."""
    return float(np.clip(candidates.scores[0] * candidates.presence, 0, 1))


def absence(candidates: Candidates) -> float:
    """Return how sure it is that the object is not on a plane on which it ended, 0 to 1.

    A mask that was not believed may be bad and the object there all the same: where the network says whether it
    is, that counts alone, and the score only where it does not.
    """
    there = candidates.presence if candidates.presence < 1 else candidates.scores[0]
    return float(np.clip(1 - there, 0, 1))


def verdict(
    previous: Mask, found: Candidates, settings: PropagationSettings, sides: float = 0.0
) -> str | None:
    """Return why the object ends before this plane, or None if it goes on.

    `sides` is what planes across the stack say, above 0 for an object that goes on, in votes like the walk's own:
    that counts from -1, where the walk is sure of an end or its mask cannot be right, to 1.
    """
    if not found.masks[0].any():
        return "the mask is empty"
    wrong = _wrong(previous, found, settings)
    own = -1.0 if wrong else float(np.clip(_beyond(found.presence, settings.min_presence) / SURE, -1, 1))
    faded = found.presence < settings.min_presence
    if own + sides > 0 or not (wrong or faded or sides):
        return None
    if faded:
        return f"the object has probably ended (presence {found.presence:.2f})"
    return wrong or "seen from the side, the object has ended"


def _beyond(presence: float, least: float) -> float:
    """Return by how much a probability is above another one, in logits."""
    both = np.clip((presence, least), ALMOST, 1 - ALMOST)
    return float(np.subtract(*np.log(both / (1 - both))))


def _wrong(previous: Mask, found: Candidates, settings: PropagationSettings) -> str | None:
    """Return why a mask that is not empty cannot be that of the object, if it is there at all."""
    mask = found.masks[0]
    area, before = np.count_nonzero(mask), np.count_nonzero(previous)
    if found.scores[0] < settings.min_score:
        return f"the network is unsure (score {found.scores[0]:.2f})"
    if area > settings.max_growth * before:
        return f"the mask grew {area / before:.1f} times from one plane to the next"
    shared = np.count_nonzero(mask & previous)
    if shared / (area + before - shared) < settings.min_overlap and shared < 0.5 * area:
        return "the mask jumped away from the previous plane's"
    return None


def exclusive(masks: dict[int, Mask], scores: dict[int, float], anchors: Iterable[Mask]) -> dict[int, Mask]:
    """Give pixels that several objects claim to the one with the highest score, but never an anchor's."""
    taken: Mask | None = None
    for anchor in anchors:
        taken = anchor if taken is None else taken | anchor
    out: dict[int, Mask] = {}
    for k in sorted(masks, key=lambda k: -scores[k]):
        out[k] = masks[k] if taken is None else masks[k] & ~taken
        taken = out[k] if taken is None else taken | out[k]
    return {k: out[k] for k in masks}
