"""How well two masks agree."""

from __future__ import annotations

from collections.abc import Sequence

from src_core.masks import Mask, iou


def dice(a: Mask, b: Mask) -> float:
    """Dice coefficient (F1) of two bool masks of the same shape; 1 if both are empty."""
    return iou_to_dice(iou(a, b))


def iou_to_dice(value: float) -> float:
    """Dice coefficient that belongs to an IoU."""
    return 2 * value / (1 + value)


def number_of_clicks(ious: Sequence[float], threshold: float, max_clicks: int) -> int:
    """Clicks needed to reach an IoU.

    Parameters
    ----------
    ious
        IoU after the first click, the second, ...
    threshold
        The IoU to reach.
    max_clicks
        What counts for an object that never reaches it.
    """
    return next((n for n, value in enumerate(ious, start=1) if value >= threshold), max_clicks)


def iou_after(ious: Sequence[float], n_clicks: int) -> float:
    """IoU after `n_clicks`; a session that ended early, with a perfect mask, keeps its last value."""
    return ious[min(n_clicks, len(ious)) - 1]
