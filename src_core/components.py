"""Only what was asked about: parts of a mask that no prompt speaks of are taken out of an answer.

One click means one object. Where another looks the same, a small network is tempted to show some of it, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.masks import Mask, bounds

TOUCHING = np.ones((3, 3), bool)
BACKGROUND = -10.0
"""Logit of what is taken out."""


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
    kept = np.zeros(count + 1, bool)
    if inside is not None and len(inside):
        height, width = parts.shape
        columns, rows = np.floor(inside).astype(int).T
        near = (rows >= y0 - 1) & (rows <= y1) & (columns >= x0 - 1) & (columns <= x1)
        for row, column in zip(rows[near] - y0, columns[near] - x0, strict=True):
            kept[
                parts[max(0, row - 1) : min(height, row + 2), max(0, column - 1) : min(width, column + 2)]
            ] = True
    if before is not None:
        kept[parts[before[y0:y1, x0:x1]]] = True
    if box is not None:
        left, top, right, bottom = np.round(box - (x0, y0, x0, y0)).astype(int).clip(0)
        kept[parts[top:bottom, left:right]] = True
    kept[0] = False
    if not kept.any() or kept[1:].all():
        return logits
    cleaned = logits.copy()
    kept[0] = True
    cleaned[y0:y1, x0:x1][~kept[parts]] = BACKGROUND
    return cleaned
