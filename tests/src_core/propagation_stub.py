"""A predictor for tests of propagation: it answers by a rule instead of a network, and counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.prompts import Prompts
from src_core.types import Candidates
from src_core.volumes import Plane, Volume, open_volume

Mask = NDArray[np.bool_]
SHAPE = (12, 20)


def answer(mask: Mask, score: float = 0.9, presence: float = 1.0) -> Candidates:
    """Return one candidate whose logits are +6 in `mask` and -6 elsewhere, at the plane's own resolution."""
    logits = np.where(mask, 6, -6).astype(np.float32)
    window = (0.0, 0.0, float(mask.shape[0]), float(mask.shape[1]))
    return Candidates(mask[None], np.array([score], np.float32), logits[None], window, presence)


def box(y0: int, x0: int, y1: int, x1: int, shape: tuple[int, int] = SHAPE) -> Mask:
    """Return a rectangle as a mask."""
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def stack(n: int = 12, shape: tuple[int, int] = SHAPE) -> Volume:
    """Return a volume (z, y, x) whose pixels are of no importance."""
    return open_volume(np.zeros((n, *shape), np.uint8))


class RulePredictor:
    """Answers rule(plane index, previous mask) -> Candidates; by default with the previous mask itself.

    Attributes
    ----------
    embedded
        The planes that were asked for, in order.
    asked
        (plane, prompts) of every batch.
    """

    continuity = None

    def __init__(self, rule: Callable[[int, Mask], Candidates] | None = None, native: bool = True) -> None:
        self.rule = rule or (lambda index, previous: answer(previous))
        self.model = SimpleNamespace(native_tiles=native)
        self.embedded: list[int] = []
        self.axes: set[str | None] = set()
        self.asked: list[tuple[int, list[Prompts]]] = []

    def embed(self, plane: Plane, *, lazily: bool = False) -> Any:
        """Note the plane, and read it as a network would."""
        _ = plane.pixels
        self.embedded.append(plane.index)
        self.axes.add(plane.axis)
        return plane.index

    def predict_many(
        self, embedding: Any, prompts: Sequence[Prompts], *, multimask: bool
    ) -> list[Candidates]:
        """Answer by the rule."""
        assert multimask is False
        self.asked.append((embedding, list(prompts)))
        masks = [p.mask for p in prompts]
        assert all(m is not None for m in masks)
        return [self.rule(embedding, np.asarray(m) > 0) for m in masks]

    def mask_of(self, logits: NDArray[np.float32], window: Any, shape: tuple[int, int]) -> Mask:
        """Return the mask of logits at the plane's own resolution."""
        assert logits.shape == shape
        return logits > 0
