"""A predictor for tests of the automatic search: it answers from a label image instead of a network."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.automatic import MaskRecord
from src_core.embedding import Embedding
from src_core.masks import PackedMask
from src_core.prompts import Prompts
from src_core.tiling import Tiling, whole
from src_core.types import Candidates


def record(mask: NDArray[np.bool_], score: float = 0.9, stability: float = 0.9) -> MaskRecord:
    """Return a (H, W) mask as a record."""
    packed = PackedMask.of(mask)
    return MaskRecord(packed, int(mask.sum()), score, stability, (0.0, 0.0))


def box(y0: int, x0: int, y1: int, x1: int, shape: tuple[int, int] = (40, 60)) -> NDArray[np.bool_]:
    """Return a rectangle as a mask."""
    mask = np.zeros(shape, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


class LabelPredictor:
    """Answers a point with the object of `labels` under it; the background is a poor answer.

    Attributes
    ----------
    asked
        Every point it was asked about.
    """

    def __init__(self, labels: NDArray[Any]) -> None:
        self.labels = labels
        self.model = SimpleNamespace(native_tiles=False)
        self.asked: list[tuple[float, float]] = []

    def embed(self, plane: Any, *, lazily: bool = False) -> Embedding:
        """Return an embedding that shows the labels as a picture."""
        grey = np.where(self.labels > 0, 50 + 40 * (self.labels % 5), 0).astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, 2)
        return Embedding(picture, Tiling(whole(self.labels.shape, 512, 2.0)))

    def predict_many(
        self, embedding: Embedding, prompts: Sequence[Prompts], *, multimask: bool, beside: bool
    ) -> list[Candidates]:
        """Answer from the labels; a box stands for its middle."""
        assert multimask is all(p.box_yxyx is None for p in prompts)
        return [self._answer(p) for p in prompts]

    def _answer(self, prompt: Prompts) -> Candidates:
        if prompt.box_yxyx is None:
            y, x = (float(n) for n in prompt.points_yx[0])
        else:
            y0, x0, y1, x1 = prompt.box_yxyx
            y, x = (y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2
        self.asked.append((y, x))
        k = self.labels[round(y), round(x)]
        mask = self.labels == k
        logits = np.where(mask, 6, -6).astype(np.float32)
        height, width = mask.shape
        score = np.array([0.9 if k else 0.1], np.float32)
        return Candidates(mask[None], score, logits[None], (0.0, 0.0, float(height), float(width)))
