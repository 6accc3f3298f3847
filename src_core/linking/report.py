"""What a run over a stack has found."""

from __future__ import annotations

from collections.abc import Mapping
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
    volume_px
        Voxels that were found to be its own.
    side
        How well it fits what is seen from the side, 0 to 1; 1 if nobody has looked.
    """

    scores: dict[int, float] = field(default_factory=dict)
    volume_px: int = 0
    side: float = 1.0

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
        """How sure it is on its slices, on average, and from the side: the lowest is the one to review first."""
        return float(np.mean(list(self.scores.values()))) * self.side

    @property
    def worst(self) -> int:
        """The slice with the lowest confidence."""
        return min(self.scores, key=lambda index: self.scores[index])


def debris(objects: Mapping[int, FoundObject], min_size: float, min_slices: int = 1) -> list[int]:
    """Return the ids of objects on too few slices, or smaller than a part of the usual volume; see `LinkSettings`."""
    if not objects:
        return []
    volumes = np.sort([found.volume_px for found in objects.values()])
    usual = volumes[np.searchsorted(volumes.cumsum(), volumes.sum() / 2)]
    return [
        k
        for k, found in objects.items()
        if found.volume_px < min_size * usual or len(found.scores) < min_slices
    ]


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
