"""What a run over a stack has found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from src_core.labels import LabelVolume


@dataclass
class FoundObject:
    """One object of a stack.

    Attributes
    ----------
    scores
        Slice -> confidence there, 0 to 1.
    """

    scores: dict[int, float] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The first slice it is on."""
        return min(self.scores)

    @property
    def last(self) -> int:
        """The last slice it is on."""
        return max(self.scores)

    @property
    def confidence(self) -> float:
        """Mean of the confidences on its slices: the lowest is the one to review first."""
        return float(np.mean(list(self.scores.values())))

    @property
    def worst(self) -> int:
        """The slice with the lowest confidence."""
        return min(self.scores, key=lambda index: self.scores[index])


@dataclass(frozen=True)
class StackReport:
    """The labels, the objects in them by id, and how the run went.

    Attributes
    ----------
    calls
        Prompts that the decoder answered in this run while searching.
    resumed
        Whether it went on from an unfinished run.
    complete
        False if it was cancelled: asked again for the same, it goes on.
    """

    labels: LabelVolume
    objects: dict[int, FoundObject]
    calls: int
    resumed: bool
    complete: bool
