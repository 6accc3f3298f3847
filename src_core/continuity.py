"""Does an object go on? What has changed in picture and mask since its anchor and since the plane before.

The network looks at one plane. Whether an object has ended, and how good its mask is, is told better by how it
compares with what it was: contrast that fades, an outline that softens, an area that shrinks and then grows, a
picture that no longer resembles the plane before. A small perceptron weighs these together with what the network
says; `src_core.training.continuity` trains it on walks through synthetic stacks, past the objects' ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import nn

from src_core.judge import FOLDER, Judge
from src_core.masks import Box, Mask, bounds
from src_core.types import Candidates

Picture = Callable[[Box], NDArray[np.uint8]]
"""Returns a rectangle of a plane as the network sees it, (h, w, 3)."""

N_FEATURES = 19
NARROW, WIDER = 0.85, 1.15
"""Areas of a waist against those before it, and of what lies beyond against the waist; chosen on drawn stacks."""
MAX_SIDE = 128
"""Larger objects are looked at reduced to about this many pixels."""


@dataclass(frozen=True)
class Look:
    """What a picture shows of a mask: mean brightness inside and around, deviation inside, gradient on the rim."""

    inside: float
    around: float
    spread: float
    edge: float


@dataclass(frozen=True, eq=False)
class Memory:
    """What a track knows of its object.

    Attributes
    ----------
    anchor, area
        How the object looked on its anchor, and how many pixels it had there.
    low, high, shoulder
        The smallest area since then, the largest, and the largest before the smallest.
    last
        (N_FEATURES,) numbers of the plane before; zeros right after the anchor.
    """

    anchor: Look
    area: int
    low: int
    high: int
    shoulder: int
    last: NDArray[np.float32]

    @classmethod
    def of(cls, picture: Picture, mask: Mask) -> Memory:
        """Begin with the non-empty mask of an anchor."""
        area = int(np.count_nonzero(mask))
        seen = look(*_part(picture, mask, mask))
        return cls(seen, area, area, area, area, np.zeros(N_FEATURES, np.float32))

    def numbers(self) -> NDArray[np.float64]:
        """Return everything as one vector, for storing."""
        a = self.anchor
        areas = [self.area, self.low, self.high, self.shoulder]
        return np.array([a.inside, a.around, a.spread, a.edge, *areas, *self.last.tolist()])

    def is_past_waist(self, area: int) -> bool:
        """Say whether a mask of `area` on the next plane is wider than the object was after it had become narrow."""
        return area > WIDER * self.low and self.low <= NARROW * self.shoulder

    def after(self, found: Candidates, numbers: NDArray[np.float32]) -> Memory:
        """Return the memory for the next plane, of an answer that is not empty and its `features`."""
        area = int(np.count_nonzero(found.masks[0]))
        shoulder = self.high if area < self.low else self.shoulder
        return replace(
            self, low=min(self.low, area), high=max(self.high, area), shoulder=shoulder, last=numbers
        )

    @classmethod
    def from_numbers(cls, numbers: NDArray[np.float64]) -> Memory:
        """Undo `numbers`; raise `ValueError` where there are more of them, or fewer."""
        if len(numbers) != 8 + N_FEATURES:
            raise ValueError(f"expected {8 + N_FEATURES} numbers, got {len(numbers)}")
        inside, around, spread, edge = (float(n) for n in numbers[:4])
        area, low, high, shoulder = (int(n) for n in numbers[4:8])
        last = numbers[8:].astype(np.float32)
        return cls(Look(inside, around, spread, edge), area, low, high, shoulder, last)


class Continuity(Judge):
    """Judges whether an object is still there, and the IoU of its mask if it is: logits (B, 2).

    Its numbers are the plane's and those of the plane before, (B, 2 N_FEATURES).
    """

    weights = FOLDER / "continuity.safetensors"

    def __init__(self) -> None:
        inputs = 2 * N_FEATURES
        super().__init__(
            inputs,
            nn.Linear(inputs, 48),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(48, 32),
            nn.ReLU(),
            nn.Linear(32, 2),
        )

    @torch.inference_mode()
    def revise(
        self, memory: Memory, previous: Mask, found: Candidates, now: Picture, before: Picture
    ) -> tuple[Candidates, Memory]:
        """Judge the network's answer on the next plane.

        Parameters
        ----------
        memory, previous
            Of the object up to the plane before, and its mask there, (H, W) bool, not empty.
        found
            The network's answer; its first candidate is judged.
        now, before
            The pictures of this plane and of the one before.

        Returns
        -------
        The answer with the judged presence and score of its first candidate, and the memory for the next plane.
        An empty mask is left as it is.
        """
        if not found.masks[0].any():
            return found, memory
        numbers = features(memory, previous, found, now, before)
        both = torch.from_numpy(np.concatenate([numbers, memory.last]))[None]
        presence, score = self(both).sigmoid()[0].tolist()
        scores = found.scores.copy()
        scores[0] = score
        return replace(found, scores=scores, presence=presence), memory.after(found, numbers)


def picture_of(seen: NDArray[np.uint8]) -> Picture:
    """Return rectangles of a plane that is in memory, (H, W, 3)."""
    return lambda box: seen[box[0] : box[2], box[1] : box[3]]


def features(
    memory: Memory, previous: Mask, found: Candidates, now: Picture, before: Picture
) -> NDArray[np.float32]:
    """Return (N_FEATURES,) numbers about an answer that is not empty, all of about unit range."""
    mask, logits = found.masks[0], found.logits[0]
    area, was = (int(np.count_nonzero(m)) for m in (mask, previous))
    shared = int(np.count_nonzero(mask & previous))
    grey, own = _part(now, mask, previous)
    earlier, _ = _part(before, mask, previous)
    seen, anchor = look(grey, own), memory.anchor
    contrast, first = seen.inside - seen.around, anchor.inside - anchor.around
    sign = -1.0 if first < 0 else 1.0
    odds = min(max(found.presence, 1e-4), 1 - 1e-4)
    numbers = [
        np.log(odds / (1 - odds)) / 4,
        found.scores[0],
        int(np.count_nonzero(logits > 1)) / max(1, int(np.count_nonzero(logits > -1))),
        shared / (area + was - shared),
        np.log(area / was),
        np.log(area / memory.area),
        np.log(area / memory.low),
        np.log(area / max(memory.high, area)),
        _likeness(grey, earlier),
        min(2.0, _distance(mask, previous) / np.sqrt(area)),
        sign * contrast / (abs(first) + 0.03),
        4 * sign * contrast,
        4 * abs(first),
        4 * (seen.inside - anchor.inside),
        4 * (seen.around - anchor.around),
        np.log((seen.spread + 0.01) / (anchor.spread + 0.01)),
        np.log((seen.edge + 0.003) / (anchor.edge + 0.003)),
        20 * seen.edge,
        np.log(memory.area) / 8,
    ]
    return np.clip(np.array(numbers, np.float32), -8, 8)


def look(grey: NDArray[np.float32], mask: Mask) -> Look:
    """Return what a grey picture, 0 to 1, shows of a non-empty mask on it."""
    reach = _reach(int(np.count_nonzero(mask)))
    distance = ndi.distance_transform_edt(~mask)
    ring = (distance > 0) & (distance <= reach)
    rim = mask & ~ndi.binary_erosion(mask)
    steps = np.gradient(ndi.gaussian_filter(grey, 1)) if min(grey.shape) > 1 else (np.zeros_like(grey),) * 2
    around = float(grey[ring].mean()) if ring.any() else float(grey.mean())
    return Look(
        float(grey[mask].mean()), around, float(grey[mask].std()), float(np.hypot(*steps)[rim].mean())
    )


def _reach(area: int) -> int:
    """How far beyond its rim an object's surroundings go, in pixels."""
    return max(2, round(0.15 * float(np.sqrt(area))))


def _part(picture: Picture, mask: Mask, other: Mask) -> tuple[NDArray[np.float32], Mask]:
    """Cut what holds both masks and their surroundings out of a picture, in grey, reduced if it is large."""
    (y0, x0, y1, x1), (v0, u0, v1, u1) = bounds(mask), bounds(other)
    margin = _reach(int(np.count_nonzero(mask))) + 2
    height, width = mask.shape
    box = (
        max(0, min(y0, v0) - margin),
        max(0, min(x0, u0) - margin),
        min(height, max(y1, v1) + margin),
        min(width, max(x1, u1) + margin),
    )
    grey = picture(box).mean(-1, dtype=np.float32) / 255
    own = mask[box[0] : box[2], box[1] : box[3]]
    step = -(-max(own.shape) // MAX_SIDE)
    if step == 1 or min(own.shape) < step:
        return grey, own
    reduced = _means(own.astype(np.float32), step) > 0.5
    return (_means(grey, step), reduced) if reduced.any() else (grey, own)


def _means(values: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """Average blocks of `step` x `step` pixels; incomplete ones at the far sides are dropped."""
    height, width = (n // step * step for n in values.shape)
    blocks = values[:height, :width].reshape(height // step, step, width // step, step)
    return np.asarray(blocks.mean((1, 3)), np.float32)


def _likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the correlation of two pictures, -1 to 1; 0 where one is constant."""
    x, y = (ndi.gaussian_filter(v, 1).ravel() for v in (a, b))
    x, y = x - x.mean(), y - y.mean()
    return float((x @ y) / np.sqrt((x @ x) * (y @ y) + 1e-9))


def _distance(a: Mask, b: Mask) -> float:
    """Return the distance between the centres of two non-empty masks, in pixels."""
    (ay, ax), (by, bx) = (np.argwhere(m).mean(0) for m in (a, b))
    return float(np.hypot(ay - by, ax - bx))
