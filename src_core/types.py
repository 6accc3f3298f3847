"""Small value types shared by every layer of the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]
"""Called as progress(done, total) from the thread that works."""

Cancelled = Callable[[], bool]
"""Returns True once the caller wants the work to stop."""


@dataclass(frozen=True)
class PlaneRef:
    """Which plane: the spatial axis it is perpendicular to (None in 2-D), its index, and the time point."""

    axis: str | None
    index: int
    t: int = 0


@dataclass(frozen=True, eq=False)
class Candidates:
    """The masks the decoder offers for one object on one plane, best first.

    Attributes
    ----------
    masks
        (K, H, W) bool, at the size of the plane.
    scores
        (K,) float32, the IoU with the true mask that the network predicts for each.
    logits
        (K, h, w) float32 low-resolution logits: the dense prompt of the next question about this object.
    window
        (y0, x0, y1, x1) in pixels of the plane that `logits` cover; it may reach beyond the plane.
    presence
        Probability, 0 to 1, that the object is on the plane at all; 1 where the network cannot tell.
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]
    window: tuple[float, float, float, float]
    presence: float = 1.0

    def __len__(self) -> int:
        return len(self.scores)
