"""What the network is asked about one object on one slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.prompts import Prompts
from src_core.types import PlaneRef
from src_core.worker import Job

Refined = tuple[NDArray[np.float32], tuple[float, float, float, float]]
"""Logits of an answer and the window they cover."""


@dataclass(eq=False)
class Question:
    """What the network has been asked, and what is to become of its answer.

    Attributes
    ----------
    plane, identity, prompts
        What has been asked.
    job
        The work of answering.
    packed
        The answer as the session keeps it, made by the worker: packing masks takes a while.
    keep
        Whether the user has said already, before seeing it, that the best mask is to be kept.
    then
        What to do once it has been kept.
    """

    plane: PlaneRef
    identity: int
    prompts: Prompts
    job: Job | None = None
    packed: dict[str, Any] | None = None
    keep: bool = False
    then: Callable[[], None] | None = None


def with_mask(prompts: Prompts, feedback: Refined | None, existing: NDArray[np.bool_] | None) -> Prompts:
    """Add the mask to refine: the logits of the last answer, or what the slice holds of the object."""
    if feedback is not None:
        return Prompts(prompts.points_yx, prompts.labels, prompts.box_yxyx, *feedback)
    if existing is not None and existing.any():
        return Prompts(prompts.points_yx, prompts.labels, prompts.box_yxyx, existing)
    return prompts
