"""Only what was asked about: parts of a mask that no prompt speaks of are taken out of an answer.

One click means one object. Where another looks the same, a small network is tempted to show some of it, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.masks import Mask, bounds
from src_core.model.focus import BACKGROUND

TOUCHING = np.ones((3, 3), bool)


def asked_about(
    logits: NDArray[np.float32],
    inside: NDArray[np.float32] | None = None,
    box: NDArray[np.float32] | None = None,
    before: Mask | None = None,
) -> NDArray[np.float32]:
    """Return logits without the connected parts that neither clicks, box nor previous mask are about.

    Parameters
    ----------
    logits
        (h, w) of one mask.
    inside
        (N, 2) clicks (x, y) on the object, in pixels of the logits.
    box
        (x0, y0, x1, y1) in pixels of the logits.
    before
        (h, w) the previous mask.

    Returns
    -------
    (h, w); the same array where there is nothing to take out, or where the prompts are about none of it.
    """
    mask = logits > 0
    if not mask.any():
        return logits
    y0, x0, y1, x1 = bounds(mask)
    parts, count = ndi.label(mask[y0:y1, x0:x1], TOUCHING)
    if count == 1:
        return logits
    about = np.zeros(parts.shape, bool) if before is None else before[y0:y1, x0:x1].copy()
    if inside is not None:
        for column, row in np.floor(inside).astype(int) - (x0, y0):
            about[max(0, row - 1) : max(0, row + 2), max(0, column - 1) : max(0, column + 2)] = True
    if box is not None:
        left, top, right, bottom = np.round(box - (x0, y0, x0, y0)).astype(int).clip(0)
        about[top:bottom, left:right] = True
    kept = np.zeros(count + 1, bool)
    kept[parts[about]] = True
    if kept[1:].all() or not kept[1:].any():
        return logits
    kept[0] = True
    cleaned = logits.copy()
    cleaned[y0:y1, x0:x1][~kept[parts]] = BACKGROUND
    return cleaned
