"""Between two anchors: which they are, what both directions say together, and outlines drawn from one to the other."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core import frames
from src_core.masks import Mask, bounds, iou
from src_core.predictor import Predictor
from src_core.propagation.settings import confidence
from src_core.propagation.tracks import Crop
from src_core.types import Candidates


class Placed:
    """Where objects have anchors, with a mask or with nothing.

    Parameters
    ----------
    anchors
        Plane index -> object id -> (H, W) bool mask, empty where the user says that the object is not there.
    """

    def __init__(self, anchors: Mapping[int, Mapping[int, Mask]]) -> None:
        self._planes: dict[int, list[int]] = {}
        self._empty = {
            (k, index) for index, masks in anchors.items() for k, m in masks.items() if not m.any()
        }
        for index, masks in sorted(anchors.items()):
            for identity in masks:
                self._planes.setdefault(identity, []).append(index)

    @property
    def objects(self) -> list[int]:
        """The ids of all objects."""
        return list(self._planes)

    def has(self, identity: int, index: int) -> bool:
        """Say whether a plane is an anchor of an object."""
        return index in self._planes[identity]

    def sides(self, identity: int, index: int) -> tuple[int | None, int | None]:
        """Return the next anchors below and above; None where there is none, or one with nothing."""
        planes = self._planes[identity]
        below, above = bisect_left(planes, index) - 1, bisect_right(planes, index)
        return (
            self._with_mask(identity, planes[below]) if below >= 0 else None,
            self._with_mask(identity, planes[above]) if above < len(planes) else None,
        )

    def leaves(self, identity: int, index: int, direction: int) -> bool:
        """Say whether a plane is an anchor with a mask, and nobody has said where the object is farther on."""
        masked = self.has(identity, index) and (identity, index) not in self._empty
        return masked and self.sides(identity, index)[direction > 0] is None

    def between(self, identity: int, index: int) -> tuple[int, int] | None:
        """Return the anchors with a mask on either side of a plane, None where one is missing."""
        below, above = self.sides(identity, index)
        return None if below is None or above is None else (below, above)

    def _with_mask(self, identity: int, index: int) -> int | None:
        return None if (identity, index) in self._empty else index


def blend(predictor: Predictor, weight: float, forward: Crop, backward: Candidates) -> Candidates:
    """Weigh the answers of the two directions, the backward one by `weight`, 0 to 1.

    The score of the result is the mean of their confidence and of how much they overlap.
    """
    shape = (backward.logits.shape[1], backward.logits.shape[2])
    logits = frames.resample_logits(forward.logits(), forward.window, backward.window, shape)
    mixed = (1 - weight) * logits + weight * backward.logits[0]
    plane = (backward.masks.shape[1], backward.masks.shape[2])
    mask = predictor.mask_of(mixed, backward.window, plane)
    if not mask.any():  # the two disagree entirely: the nearer one knows better
        mask = backward.masks[0] if weight >= 0.5 else forward.mask.unpack()
    sure = (1 - weight) * forward.score + weight * confidence(backward)
    score = (sure + iou(forward.mask.unpack(), backward.masks[0])) / 2
    return Candidates(mask[None], np.array([score], np.float32), mixed[None], backward.window)


UNSEEN = 0.2
"""Confidence of an interpolated plane that no direction reached: what such planes are worth on synthetic stacks."""


def interpolated(below: Mask, above: Mask, weight: float) -> Mask:
    """Draw the outline between two non-empty masks (H, W), by signed distance; `weight` 0 is below, 1 above.

    The masks are laid upon each other by their centres, and the result where the centre is on its way.
    """
    centres = [np.argwhere(m).mean(0) for m in (below, above)]
    way = centres[1] - centres[0]
    margin = int(np.ceil(np.abs(way).max())) + 2
    (y0, x0, y1, x1), (v0, u0, v1, u1) = bounds(below), bounds(above)
    height, width = below.shape
    rows = slice(max(0, min(y0, v0) - margin), min(height, max(y1, v1) + margin))
    columns = slice(max(0, min(x0, u0) - margin), min(width, max(x1, u1) + margin))
    low, high = (
        ndi.shift(_signed_distance(m[rows, columns]), moved, order=1, mode="nearest")
        for m, moved in ((below, weight * way), (above, (weight - 1) * way))
    )
    mask = np.zeros(below.shape, np.bool_)
    mask[rows, columns] = (1 - weight) * low + weight * high > 0
    return mask


def _signed_distance(mask: Mask) -> NDArray[np.float32]:
    inside, outside = (
        ndi.distance_transform_edt(np.pad(m, 1, mode="edge"))[1:-1, 1:-1] for m in (mask, ~mask)
    )
    return np.asarray(inside - outside, np.float32)
