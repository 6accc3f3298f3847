"""How masks on slices become objects."""

from __future__ import annotations

from dataclasses import dataclass

from src_core.errors import PromptError


@dataclass(frozen=True)
class LinkSettings:
    """Which masks of neighbouring slices are one object.

    Attributes
    ----------
    method
        "seeds": one slice in `seed_step` is searched, and what is found there is propagated. "link": every slice is
        searched, and the masks are linked.
    min_overlap
        Least IoU of two masks of one object on neighbouring slices, 0 to 1.
    max_gap
        Slices in a row on which an object may be missed; they are filled by propagation.
    min_slices
        Objects on fewer slices are dropped, unless the stack has fewer.
    min_branch
        What splits off for fewer slices is a piece of the object it touches.
    seed_step
        Slices from one searched slice to the next.
    min_confidence
        Of seeds, objects that are less sure than that, on their slices and from the side, are left out, 0 to 1.
    min_size
        Objects of less than this part of the usual volume are dropped as debris, 0 to 1; of an object of the usual
        volume or a larger one is half of all that is found.
    """

    method: str = "seeds"
    min_overlap: float = 0.25
    max_gap: int = 2
    min_slices: int = 2
    min_branch: int = 3
    seed_step: int = 4
    min_confidence: float = 0.3
    min_size: float = 0.05

    def __post_init__(self) -> None:
        if self.method not in ("seeds", "link"):
            raise PromptError(f"the method is seeds or link, got {self.method!r}")
        if not 0 < self.min_overlap <= 1:
            raise PromptError(f"min_overlap must be above 0 and at most 1, got {self.min_overlap!r}")
        for name in ("min_confidence", "min_size"):
            if not 0 <= getattr(self, name) <= 1:
                raise PromptError(f"{name} must be from 0 to 1, got {getattr(self, name)!r}")
        for name, least in (("max_gap", 0), ("min_slices", 1), ("min_branch", 1), ("seed_step", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise PromptError(f"{name} must be a whole number from {least}, got {value!r}")
