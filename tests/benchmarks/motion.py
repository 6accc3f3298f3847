"""How far a picture has moved since the slice before, by registration; nothing where that explains too little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.registration import phase_cross_correlation

from src_core.masks import Box, Mask, bounds

Shift = tuple[int, int]
"""(dy, dx) in pixels, from the slice before to this one."""
FARTHEST_PX = 24
STILL: Shift = (0, 0)


def motion(before: NDArray[np.uint8], now: NDArray[np.uint8], gain: float, box: Box | None = None) -> Shift:
    """Register the planes (H, W, 3), or a box of them; believed if the correlation rises by `gain`."""
    where = (slice(None), slice(None)) if box is None else (slice(box[0], box[2]), slice(box[1], box[3]))
    a, b = (ndi.gaussian_filter(p[where].mean(-1, dtype=np.float32), 1) for p in (before, now))
    if not (a.std() and b.std()):  # a lost section says nothing
        return STILL
    window = np.outer(np.hanning(a.shape[0]), np.hanning(a.shape[1]))
    found = phase_cross_correlation(
        (b - b.mean()) * window, (a - a.mean()) * window, normalization=None, upsample_factor=1
    )[0]
    dy, dx = (round(float(v)) for v in found)
    if max(abs(dy), abs(dx)) > min(FARTHEST_PX, min(a.shape) // 3):
        return STILL
    height, width = a.shape
    rows, columns = (slice(abs(d), n - abs(d)) for d, n in ((dy, height), (dx, width)))
    moved = a[abs(dy) - dy : height - abs(dy) - dy, abs(dx) - dx : width - abs(dx) - dx]
    better = _likeness(moved, b[rows, columns]) - _likeness(a[rows, columns], b[rows, columns])
    return (dy, dx) if better > gain else STILL


def around(mask: Mask) -> Box:
    """Return the box of a mask with as much again on every side, at least 12 pixels."""
    y0, x0, y1, x1 = bounds(mask)
    margin = max(12, max(y1 - y0, x1 - x0) // 2)
    height, width = mask.shape
    return max(0, y0 - margin), max(0, x0 - margin), min(height, y1 + margin), min(width, x1 + margin)


def moved(array: NDArray, shift: Shift) -> NDArray:
    """Shift an array (H, W, ...) by whole pixels; what comes in from outside repeats the rim, or is False."""
    if shift == STILL:
        return array
    (dy, dx), (height, width) = shift, array.shape[:2]
    rows, columns = np.arange(height) - dy, np.arange(width) - dx
    out = array[np.clip(rows, 0, height - 1)][:, np.clip(columns, 0, width - 1)]
    if array.dtype == np.bool_:
        out = out & ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return out


def _likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a - a.mean(), b - b.mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum() + 1e-9))
