"""Where a mask lies on its plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""(y0, x0, y1, x1) in pixels, half-open."""


def bounds(mask: Mask) -> Box:
    """Return the smallest box around a non-empty (H, W) bool mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def innermost(mask: Mask) -> tuple[int, int]:
    """Return the pixel (y, x) of a (H, W) bool mask farthest from its outline, which the plane's rim closes.

    Of equally far pixels the first; (0, 0) if the mask is empty.
    """
    distance = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(y), int(x)
