"""How far the whole picture has moved since the slice before: sections are lost, cut anew or not aligned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.registration import phase_cross_correlation

from src_core.continuity import Picture
from src_core.masks import Box, Mask

Shift = tuple[int, int]
"""(dy, dx) in pixels, from the slice before to this one."""

STILL: Shift = (0, 0)
MAX_SIDE = 512
"""Larger pictures are registered reduced to about this many pixels."""
FARTHEST = 24
"""Jumps of more pixels, of those that are registered, are not believed."""
GAIN = 0.2
"""So much has the correlation of the pictures to rise for a jump to be believed."""


def motion(before: NDArray[np.uint8], now: NDArray[np.uint8], gain: float = GAIN) -> Shift:
    """Register two pictures (H, W, 3); where that explains too little, nothing has moved.

    Objects that grow, shrink and drift by themselves are not motion: only what moves most of the picture is.
    """
    step = -(-max(now.shape[:2]) // MAX_SIDE)
    a, b = (ndi.gaussian_filter(p[::step, ::step].mean(-1, dtype=np.float32), 1) for p in (before, now))
    a, b = a - a.mean(), b - b.mean()
    if not (a.any() and b.any()):  # a lost section says nothing
        return STILL
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    if not ((a * window).any() and (b * window).any()):
        return STILL
    found = phase_cross_correlation(b * window, a * window, normalization=None)[0]
    dy, dx = (round(float(v)) for v in found)
    if max(abs(dy), abs(dx)) > min(FARTHEST, min(a.shape) // 3):
        return STILL
    height, width = a.shape
    rows, columns = slice(abs(dy), height - abs(dy)), slice(abs(dx), width - abs(dx))
    moved_a = a[abs(dy) - dy : height - abs(dy) - dy, abs(dx) - dx : width - abs(dx) - dx]
    better = _likeness(moved_a, b[rows, columns]) - _likeness(a[rows, columns], b[rows, columns])
    return (dy * step, dx * step) if better > gain else STILL


def moved(mask: Mask, shift: Shift) -> Mask:
    """Return a (H, W) mask where it has gone to; unmoved if it would leave the plane altogether."""
    if shift == STILL:
        return mask
    (dy, dx), (height, width) = shift, mask.shape
    out = np.zeros_like(mask)
    rows, columns = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
    out[rows, columns] = mask[max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)]
    return out if out.any() else mask


def moved_picture(picture: Picture, shift: Shift, shape: tuple[int, int]) -> Picture:
    """Return the picture of a plane of `shape` (H, W) as if it had moved; what comes in repeats its rim."""
    if shift == STILL:
        return picture

    def part(box: Box) -> NDArray[np.uint8]:
        rows = np.clip(np.arange(box[0], box[2]) - shift[0], 0, shape[0] - 1)
        columns = np.clip(np.arange(box[1], box[3]) - shift[1], 0, shape[1] - 1)
        (y0, y1), (x0, x1) = _ends(rows), _ends(columns)
        found = picture((y0, x0, y1, x1))
        return np.asarray(found[rows - y0][:, columns - x0])

    return part


def _ends(indices: NDArray[Any]) -> tuple[int, int]:
    return int(indices[0]), int(indices[-1]) + 1


def _likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a - a.mean(), b - b.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum() + 1e-9))
