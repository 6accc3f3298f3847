"""How a plane is searched for objects, and which of the masks found are kept."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from src_core.errors import PromptError


@dataclass(frozen=True)
class SearchSettings:
    """Where the network is asked; another search needs the decoder again.

    Attributes
    ----------
    points_per_side
        Density of the point grid, for each network tile (paper, section 4: 32).
    adaptive
        Begin with points where objects are likely, go on with a coarse grid, and leave out what is inside masks
        that are already certain. False asks at every point of the grid.
    layers
        How many times the plane is also searched in crops: the first in 2 x 2, the second in 4 x 4, each enlarged
        (paper, appendix B). Finds smaller objects, at the price of their embeddings.
    """

    points_per_side: int = 32
    adaptive: bool = True
    layers: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (("points_per_side", 1, 256), ("layers", 0, 4)):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise PromptError(f"{name} must be a whole number from {least} to {most}, got {value!r}")


@dataclass(frozen=True)
class Thresholds:
    """Which of the masks found are kept; changing them needs no decoder.

    Attributes
    ----------
    min_score
        Least predicted IoU, times the probability that there is an object, 0 to 1.
    min_stability
        Least stability, 0 to 1.
    max_overlap
        A mask goes if a larger part of it belongs to better ones, or if it covers that much of a better one, 0 to 1.
    min_area_px
        Smaller masks go; so do holes and separate pieces smaller than that.
    min_contrast
        Least contrast at the outline, as a part of what is usual among the masks of the plane, 0 to 1: fainter ones are
        pieces of background, and so are dark ones among bright ones, or bright ones among dark ones. 0 keeps all.
    max_area
        Largest part of the plane that a mask may cover, 0 to 1: larger ones are the background.
    """

    min_score: float = 0.7
    min_stability: float = 0.15
    max_overlap: float = 0.4
    min_area_px: int = 16
    min_contrast: float = 0.25
    max_area: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            most = np.inf if field.name == "min_area_px" else 1
            if not 0 <= value <= most:  # also refuses nan
                raise PromptError(f"{field.name} must be from 0 to {most:g}, got {value!r}")
