"""From what a user says about objects to the masks that a propagation starts from."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from src_core.embedding import Embedding
from src_core.errors import PromptError, VolumeError
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.types import Candidates
from src_core.volumes import Plane, Volume

Anchors = Mapping[int, Mapping[int, Mask]]
"""Plane index -> object id -> (H, W) bool mask that the user made or confirmed; empty: the object is not there."""
PromptsByPlane = Mapping[int, Mapping[int, Prompts]]
"""Plane index -> object id -> what the user says about it there."""


def anchor_masks(
    predictor: Predictor,
    volume: Volume,
    prompts: PromptsByPlane,
    *,
    axis: str = "z",
    t: int = 0,
    c: int | None = None,
    embed: Callable[[int], Embedding] | None = None,
) -> dict[int, dict[int, Mask]]:
    """Answer the prompts, each with its best candidate that is not empty: the anchors of a propagation.

    Prompts whose answer is empty are left out; `unanswered` says which. `embed` is called with a plane's index
    instead of `Predictor.embed`.

    Raises
    ------
    PromptError
        A prompt lies outside its plane, or all answers are empty.
    VolumeError
        No such plane, or one without any contrast.
    """
    anchors: dict[int, dict[int, Mask]] = {}
    for index, asked in sorted(prompts.items()):
        plane = volume.plane(**{axis: index}, t=t, c=c)
        check_contrast(plane, volume.name)
        for prompt in asked.values():
            prompt.check_inside(plane.shape)
        embedding = predictor.embed(plane, lazily=True) if embed is None else embed(index)
        answers = predictor.predict_many(embedding, list(asked.values()))
        for identity, found in zip(asked, answers, strict=True):
            mask = _first_seen(found)
            if mask is not None:
                anchors.setdefault(index, {})[identity] = mask
    if not anchors:
        asked_for = ", ".join(f"object {k} on {axis}={i}" for i, k in unanswered(prompts, anchors))
        raise PromptError(f"the network sees nothing at the prompts ({asked_for}); give a box or more points")
    return anchors


def unanswered(prompts: PromptsByPlane, anchors: Mapping[int, Mapping[int, Mask]]) -> list[tuple[int, int]]:
    """Return (plane index, object id) of the prompts for which there is no anchor, in ascending order."""
    return sorted((i, k) for i, asked in prompts.items() for k in asked if k not in anchors.get(i, {}))


def best_mask(found: Candidates, where: str) -> Mask:
    """Return the best candidate that is not empty.

    Raises
    ------
    PromptError
        All are empty.
    """
    mask = _first_seen(found)
    if mask is None:
        raise PromptError(f"the network sees nothing at {where}; give a box or more points")
    return mask


def _first_seen(found: Candidates) -> Mask | None:
    return next((mask for mask in found.masks if mask.any()), None)


def check_contrast(plane: Plane, name: str) -> None:
    """Raise `VolumeError` if every pixel of a plane has the same value, or none is a number."""
    pixels = plane.pixels[np.isfinite(plane.pixels)]
    where = name if plane.axis is None else f"{plane.axis}={plane.index} of {name}"
    if not pixels.size:
        raise VolumeError(f"{where} has no pixel that is a finite number: there is nothing to segment")
    if pixels.min() == pixels.max():
        raise VolumeError(
            f"{where} is constant (every pixel is {pixels.min():g}): there is nothing to segment. "
            "Check the channel and the time point"
        )


def checked_anchors(volume: Volume, anchors: Anchors, axis: str) -> dict[int, dict[int, Mask]]:
    """Return anchors in the order of their planes; raise `PromptError` for those that `propagate` refuses."""
    if not isinstance(anchors, Mapping) or not all(isinstance(m, Mapping) for m in anchors.values()):
        raise PromptError("anchors map a plane's index to objects: {50: {1: mask}}")
    if not any(len(masks) for masks in anchors.values()):
        raise PromptError("nothing to propagate: give the mask of at least one object on one plane")
    count, shape = volume.n_planes(axis), volume.plane_shape(axis)
    given = {
        _whole(index, "planes"): {_whole(k, "object ids"): np.asarray(mask) for k, mask in masks.items()}
        for index, masks in anchors.items()
    }
    somewhere = {k for masks in given.values() for k, array in masks.items() if array.any()}
    checked: dict[int, dict[int, Mask]] = {}
    for index, masks in given.items():
        if not 0 <= index < count:
            raise PromptError(f"anchor on plane {axis}={index}, but {axis} runs from 0 to {count - 1}")
        for identity, array in masks.items():
            if array.shape != shape:
                raise PromptError(
                    f"the mask of object {identity} on {axis}={index} has shape {array.shape}, "
                    f"the plane {shape}"
                )
            if array.dtype.kind not in "bui":
                raise PromptError(
                    f"the mask of object {identity} on {axis}={index} has dtype {array.dtype}, expected bool; "
                    "logits become a mask by `> 0`"
                )
            if identity < 1:
                raise PromptError(f"object ids are 1 or more, got {identity}")
            if identity not in somewhere:
                raise PromptError(
                    f"the mask of object {identity} on {axis}={index} is empty, and it has no other"
                )
            checked.setdefault(index, {})[identity] = array.astype(np.bool_)
    return dict(sorted(checked.items()))


def _whole(value: Any, what: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise PromptError(f"{what} are whole numbers, got {value!r}") from None
