"""What a propagation remembers from plane to plane, kept small enough to be written to disk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from src_core import frames
from src_core.continuity import Memory
from src_core.masks import Mask, PackedMask, bounds, innermost
from src_core.prompts import Prompts
from src_core.propagation.motion import STILL, Shift, moved
from src_core.propagation.settings import confidence
from src_core.tiles import Extent
from src_core.types import Candidates

FAINT_LOGIT = -4.0
"""Logits below it are as good as background and are not kept while an answer waits."""


@dataclass(frozen=True, eq=False)
class Track:
    """One object on its way in one direction: the last plane's answer, or the anchor it starts from.

    Attributes
    ----------
    packed
        The mask, not empty, kept small: there may be hundreds of objects on planes of many megapixels.
    dense, window
        The low-resolution logits and the window they cover; None at an anchor.
    memory
        What `Continuity` compares the next plane with; None for networks without it.
    """

    packed: PackedMask
    dense: NDArray[np.float32] | None = None
    window: Extent | None = None
    memory: Memory | None = None

    @classmethod
    def start(cls, mask: Mask, memory: Memory | None = None) -> Track:
        """Begin with the (H, W) bool mask of an anchor."""
        return cls(PackedMask.of(mask), memory=memory)

    @classmethod
    def after(cls, found: Candidates, memory: Memory | None = None) -> Track:
        """Go on with the first candidate of an answer, not empty."""
        return cls(PackedMask.of(found.masks[0]), found.logits[0], found.window, memory)

    def prompts(self, cues: tuple[str, ...], shift: Shift = STILL) -> Prompts:
        """Return what to ask on the next plane, if the picture has moved there by `shift`."""
        mask = self.expected(shift)
        box = bounds(mask) if "box" in cues else None
        points = [innermost(mask)] if "point" in cues else None
        if self.dense is None or self.window is None:
            return Prompts(points, None, box, mask)
        (dy, dx), (y0, x0, y1, x1) = shift, self.window
        return Prompts(points, None, box, self.dense, (y0 + dy, x0 + dx, y1 + dy, x1 + dx))

    def expected(self, shift: Shift = STILL) -> Mask:
        """Return the (H, W) mask where it is expected if the picture has moved by `shift`."""
        return moved(self.packed.unpack(), shift)


@dataclass(frozen=True, eq=False)
class Crop:
    """An answer of the way up that waits for the way down: half-precision logits around the object."""

    values: NDArray[np.float16]
    corner: tuple[int, int]
    low_res: tuple[int, int]
    window: Extent
    mask: PackedMask
    score: float

    @classmethod
    def of(cls, candidates: Candidates) -> Crop:
        """Keep what blending needs of the best candidate."""
        logits = candidates.logits[0]
        y0, x0, y1, x1 = bounds(logits > FAINT_LOGIT)
        return cls(
            logits[y0:y1, x0:x1].astype(np.float16),
            (y0, x0),
            (logits.shape[0], logits.shape[1]),
            candidates.window,
            PackedMask.of(candidates.masks[0]),
            confidence(candidates),
        )

    def logits(self) -> NDArray[np.float32]:
        """Return all the low-resolution logits, background where none were kept."""
        out = np.full(self.low_res, -frames.BOOL_LOGIT, np.float32)
        (y, x), (h, w) = self.corner, self.values.shape
        out[y : y + h, x : x + w] = self.values
        return out


Waiting = dict[tuple[int, int], Crop]
"""(object id, plane) -> the answer that waits there."""
Slabs = dict[int, tuple[PackedMask, float]]
"""Plane -> an object's mask there, and the confidence in it, 0 to 1."""


@dataclass(frozen=True, eq=False)
class PropagationState:
    """Where a propagation is, complete enough to go on from there with the same results.

    Attributes
    ----------
    direction, index
        1 on the way up, -1 on the way down, and the last plane that is done; or 0 in the second look, and how many
        groups of objects are done.
    tracks
        Object id -> the object on its way.
    waiting
        Answers of the way up between two anchors that the way down has not reached.
    found, revised
        Object id -> what was found beside its anchors, where a second look will need it, and what that has made of it.
    """

    direction: int
    index: int
    tracks: dict[int, Track]
    waiting: Waiting
    found: dict[int, Slabs] = field(default_factory=dict)
    revised: dict[int, Slabs] = field(default_factory=dict)
