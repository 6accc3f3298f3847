"""Answers that do what their clicks say: what was clicked on is in, or out.

A network weighs a click against everything else it sees, and now and then goes against it, most often the later ones.
Then the threshold gives way around the click, the less the farther away, so that outlines stay smooth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.masks import bounds

SURE = 0.5
"""What the logit becomes where one clicked."""
WIDTH, LEAST_PX = 0.7, 1.0
"""Standard deviation of what gives way, as part of the way from the click to the outline; at least, in pixels."""
REACH = 4.0
"""Farther away, in standard deviations, nothing changes."""
ROUNDS = 4
"""So often clicks are gone through while one undoes another; each time half as much gives way."""


def obeyed(
    logits: NDArray[np.float32], places: NDArray[np.float32], inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return logits that are above 0 at clicks on the object, and below at others.

    Parameters
    ----------
    logits
        (h, w) of one mask.
    places
        (N, 2) clicks (x, y) in pixels of the logits, whose first pixel is from 0 to 1; others than on them say nothing.
    inside
        (N,) whether each is on the object.

    Returns
    -------
    (h, w); the same array where nothing has to change, or where there is no mask at all.
    """
    if not (logits > 0).any():
        return logits
    out = logits
    for narrower in range(ROUNDS):
        before, out = out, _gone_through(out, places - 0.5, inside, WIDTH / 2**narrower)
        if out is before or len(places) < 2:
            break
    return out


def _gone_through(
    logits: NDArray[np.float32], places: NDArray[np.float32], inside: NDArray[np.bool_], wide: float
) -> NDArray[np.float32]:
    """Do as each click (x, y) says that is not obeyed, in turn; return the same array if all are."""
    out = logits
    for (x, y), wanted in zip(places, inside, strict=True):
        if not (-0.5 <= y < len(out) - 0.5 and -0.5 <= x < out.shape[1] - 0.5):
            continue
        value = _at(out, y, x)
        if (value > 0) == wanted:
            continue
        width = max(LEAST_PX, wide * _to_outline(out, y, x, wanted=bool(wanted)))
        y0, x0 = (max(0, int(n - REACH * width)) for n in (y, x))
        y1, x1 = (int(n + REACH * width) + 2 for n in (y, x))
        rows, columns = np.ogrid[y0 : min(y1, len(out)), x0 : min(x1, out.shape[1])]
        near = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)).astype(np.float32)
        if out is logits:
            out = logits.copy()
        goal = SURE if wanted else -SURE
        out[y0:y1, x0:x1] += (goal - value) / _at(near, y - y0, x - x0) * near
    return out


def _at(values: NDArray[np.float32], y: float, x: float) -> float:
    """Interpolate between the centres of pixels, as masks are enlarged."""
    height, width = values.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    part = values[top : top + 2, left : left + 2]
    rows = np.array([1 - (y - top), y - top], np.float32)[: part.shape[0]]
    columns = np.array([1 - (x - left), x - left], np.float32)[: part.shape[1]]
    return float(rows @ part @ columns)


def _to_outline(logits: NDArray[np.float32], y: float, x: float, *, wanted: bool) -> float:
    """Return how far a place is from where logits change their sign, in pixels."""
    mask = logits > 0
    row, column = (min(max(round(float(n)), 0), size - 1) for n, size in zip((y, x), mask.shape, strict=True))
    wrong = mask != wanted
    if not wrong[row, column] or not mask.any():
        return 0.0
    y0, x0, y1, x1 = bounds(mask)
    box = (min(y0, row), min(x0, column), max(y1, row + 1), max(x1, column + 1))
    part = np.pad(wrong[box[0] : box[2], box[1] : box[3]], 1, constant_values=wanted)
    return float(ndi.distance_transform_edt(part)[row - box[0] + 1, column - box[1] + 1])
