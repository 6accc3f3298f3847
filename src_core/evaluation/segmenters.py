"""What is measured: anything that answers prompts about an image, ours or another method's.

`Segmenter.look` sees an image once (a network encodes it); the `View` it returns answers prompts about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from src_core.masks import Box, Mask
from src_core.prompts import Prompts
from src_core.types import Candidates

PredictFunction = Callable[
    [NDArray[Any], NDArray[np.int64], NDArray[np.int64], Box | None, Mask | None], tuple[Any, float | None]
]
"""predict(image, points_yx (N, 2), labels (N,), box, previous mask) -> (mask (H, W), score).

Box, previous mask and score may be None.
"""


@dataclass(frozen=True, eq=False)
class Answer:
    """One answer about one object.

    Attributes
    ----------
    mask
        (H, W) bool.
    score
        The IoU with the true mask that the method itself expects, or None.
    logits
        (h, w) float32 low-resolution logits to feed back with the next click, or None.
    window
        (y0, x0, y1, x1) in pixels that the logits cover, or None.
    """

    mask: Mask
    score: float | None = None
    logits: NDArray[np.float32] | None = None
    window: tuple[float, float, float, float] | None = None


class View(Protocol):
    """An image that has been looked at."""

    def ask(
        self,
        points_yx: NDArray[np.int64],
        labels: NDArray[np.int64],
        box_yxyx: Box | None,
        previous: Answer | None,
    ) -> Answer:
        """Answer all clicks so far, (N, 2) with labels (N,) 1 or 0, or a box, given the previous answer."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A method under test."""

    def look(self, image: NDArray[Any]) -> View:
        """Do what needs doing once per image: (H, W) or (H, W, channels)."""
        ...


@runtime_checkable
class PredictorLike(Protocol):
    """What `PredictorSegmenter` needs of `src_core.predictor.Predictor`."""

    def embed(self, plane: Any) -> Any:
        """Encode a plane or an (H, W[, C]) array."""
        ...

    def predict(self, embedding: Any, prompts: Prompts) -> Candidates:
        """Answer prompts about it."""
        ...


@dataclass(frozen=True)
class FunctionSegmenter:
    """Lets a plain `PredictFunction`, which gets its own previous bool mask back, take part."""

    predict: PredictFunction

    def look(self, image: NDArray[Any]) -> View:
        """Keep the image for every question about it."""
        return _FunctionView(self.predict, image)


@dataclass(frozen=True)
class _FunctionView:
    predict: PredictFunction
    image: NDArray[Any]

    def ask(
        self,
        points_yx: NDArray[np.int64],
        labels: NDArray[np.int64],
        box_yxyx: Box | None,
        previous: Answer | None,
    ) -> Answer:
        before = None if previous is None else previous.mask
        mask, score = self.predict(self.image, points_yx, labels, box_yxyx, before)
        return Answer(np.asarray(mask, np.bool_), None if score is None else float(score))


@dataclass(frozen=True)
class PredictorSegmenter:
    """Lets a predictor take part: one embedding per image, the best candidate's logits fed back."""

    predictor: PredictorLike

    def look(self, image: NDArray[Any]) -> View:
        """Encode the image."""
        return _PredictorView(self.predictor, self.predictor.embed(image))


@dataclass(frozen=True)
class _PredictorView:
    predictor: PredictorLike
    embedding: Any

    def ask(
        self,
        points_yx: NDArray[np.int64],
        labels: NDArray[np.int64],
        box_yxyx: Box | None,
        previous: Answer | None,
    ) -> Answer:
        dense = (None, None) if previous is None else (previous.logits, previous.window)
        found = self.predictor.predict(self.embedding, Prompts(points_yx, labels, box_yxyx, *dense))
        return Answer(found.masks[0], float(found.scores[0]), found.logits[0], found.window)


def as_segmenter(method: Segmenter | PredictorLike | PredictFunction) -> Segmenter:
    """Wrap a predictor or a plain function; a segmenter stays what it is."""
    if isinstance(method, Segmenter):
        return method
    if isinstance(method, PredictorLike):
        return PredictorSegmenter(method)
    return FunctionSegmenter(method)
