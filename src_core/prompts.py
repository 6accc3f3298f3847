"""Prompts: what a user says about one object on one plane, validated and frozen.

The paper's section 3, "Prompt encoder": sparse prompts are points and boxes, the dense prompt is a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src_core.errors import PromptError


@dataclass(frozen=True, eq=False, init=False)
class Prompts:
    """Points with sign, a box and a mask for one object on one plane.

    Parameters
    ----------
    points_yx
        (N, 2) points (row, column) in pixels of the plane; the centre of the first pixel is (0, 0).
    labels
        (N,) 1 for "inside the object", 0 for "outside"; default all 1.
    box_yxyx
        (y0, x0, y1, x1) in pixels, half-open: the box covers rows y0 to y1 - 1. None for no box.
    mask
        The dense prompt: a (H, W) mask of the plane, or the (h, w) float low-resolution logits of an earlier
        answer (`Candidates.logits[k]`). A mask is bool, or integers that are above 0 inside, or floats that
        are all 0 or 1; other floats are logits, and so are all floats with a `mask_window`. None for no mask.
    mask_window
        (y0, x0, y1, x1) in pixels of the plane that the logits in `mask` cover (`Candidates.window`). Needed
        only on planes larger than one tile.

    Raises
    ------
    PromptError
        Wrong shape, a label other than 0 or 1, a box without area, coordinates that are not finite, a mask of
        fractions between 0 and 1 (probabilities), or no prompt at all.
    """

    points_yx: NDArray[np.float32]
    labels: NDArray[np.int64]
    box_yxyx: tuple[float, float, float, float] | None
    mask: NDArray[Any] | None
    mask_window: tuple[float, float, float, float] | None

    def __init__(
        self,
        points_yx: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        box_yxyx: Sequence[float] | None = None,
        mask: ArrayLike | None = None,
        mask_window: Sequence[float] | None = None,
    ) -> None:
        points = _points(points_yx)
        object.__setattr__(self, "points_yx", points)
        object.__setattr__(self, "labels", _labels(labels, len(points)))
        object.__setattr__(self, "box_yxyx", _box(box_yxyx, "box_yxyx"))
        object.__setattr__(self, "mask_window", _box(mask_window, "mask_window"))
        object.__setattr__(self, "mask", _mask(mask, windowed=mask_window is not None))
        if not len(points) and self.box_yxyx is None and self.mask is None:
            raise PromptError("no prompt: give at least one point, a box or a mask")

    def check_inside(self, shape: tuple[int, int]) -> None:
        """Raise `PromptError` unless points and box lie on a plane of `shape` (H, W) and a bool mask fits."""
        height, width = shape
        for y, x in self.points_yx:
            if not (-0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5):
                raise PromptError(
                    f"point (y={y:g}, x={x:g}) lies outside the plane of {height} x {width} pixels; "
                    "points are (row, column) in pixels of the full-resolution plane"
                )
        if self.box_yxyx is not None:
            y0, x0, y1, x1 = self.box_yxyx
            if y1 <= 0 or x1 <= 0 or y0 >= height or x0 >= width:
                raise PromptError(
                    f"box {_format(self.box_yxyx)} lies outside the plane of {height} x {width} pixels"
                )
        if self.mask is not None and self.mask.dtype == np.bool_ and self.mask.shape != (height, width):
            raise PromptError(f"the mask has shape {self.mask.shape}, the plane {(height, width)}")


def _points(value: ArrayLike | None) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below as infinite
            points = np.zeros((0, 2), np.float32) if value is None else np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise PromptError(f"points_yx must be (N, 2) numbers, got {value!r}") from error
    if points.size == 0:
        points = points.reshape(0, 2)
    if points.ndim != 2 or points.shape[1] != 2:
        raise PromptError(
            f"points_yx must have shape (N, 2), one (row, column) per point, got {points.shape}"
        )
    if not np.isfinite(points).all():
        raise PromptError("points_yx has coordinates that are not finite numbers")
    return _readonly(points)


def _labels(value: ArrayLike | None, n_points: int) -> NDArray[np.int64]:
    try:
        labels = np.ones(n_points, np.int64) if value is None else np.asarray(value).reshape(-1)
    except ValueError as error:
        raise PromptError(f"labels must be (N,) numbers, one per point, got {value!r}") from error
    if len(labels) != n_points:
        raise PromptError(f"{n_points} points but {len(labels)} labels: give one label per point")
    if len(labels) and not np.isin(labels, (0, 1)).all():
        given = list(dict.fromkeys(labels.tolist()))
        raise PromptError(f"labels must be 1 (inside) or 0 (outside), got {given}")
    return _readonly(labels.astype(np.int64))


def _box(value: Sequence[float] | None, name: str) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    try:
        y0, x0, y1, x1 = (float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} must be four numbers (y0, x0, y1, x1), got {value!r}") from error
    if not np.isfinite((y0, x0, y1, x1)).all():
        raise PromptError(f"{name} has coordinates that are not finite numbers: {value!r}")
    if y1 <= y0 or x1 <= x0:
        raise PromptError(f"{name} {_format((y0, x0, y1, x1))} has no area: expected y0 < y1 and x0 < x1")
    return (y0, x0, y1, x1)


def _mask(value: ArrayLike | None, *, windowed: bool) -> NDArray[Any] | None:
    if value is None:
        return None
    try:
        mask = np.asarray(value)
    except ValueError as error:
        raise PromptError(f"a mask prompt must be a (H, W) array, got {value!r}") from error
    if mask.ndim != 2 or 0 in mask.shape:
        raise PromptError(f"a mask prompt must be a (H, W) array, got shape {mask.shape}")
    if mask.dtype.kind in "iu":
        mask = mask > 0
    if mask.dtype.kind not in "bf":
        raise PromptError(f"a mask prompt must be bool or float logits, got dtype {mask.dtype}")
    if mask.dtype.kind == "b":
        return _readonly(mask)
    with np.errstate(over="ignore"):
        mask = mask.astype(np.float32)
    if not np.isfinite(mask).all():
        raise PromptError("the mask prompt has logits that are not finite numbers")
    if windowed or mask.min() < 0 or mask.max() > 1:
        return _readonly(mask)
    # No network answers with such logits: it is a mask that has become float on its way.
    if not np.isin(mask, (0, 1)).all():
        raise PromptError(
            "the mask prompt has fractions between 0 and 1: pass a bool mask, for instance mask > 0.5, or the "
            "logits of an earlier answer with mask_window=Candidates.window"
        )
    return _readonly(mask > 0)


def _format(box: tuple[float, float, float, float]) -> str:
    return "(y0={:g}, x0={:g}, y1={:g}, x1={:g})".format(*box)


def _readonly(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.setflags(write=False)
    return array
