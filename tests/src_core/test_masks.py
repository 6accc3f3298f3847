"""Where a mask lies."""

from __future__ import annotations

import numpy as np

from src_core.masks import bounds, innermost


def _rectangle() -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:40] = True
    return mask


def test_bounds_are_half_open() -> None:
    assert bounds(_rectangle()) == (5, 10, 25, 40)
    corners = np.zeros((7, 9), bool)
    corners[0, 8] = corners[6, 3] = True
    assert bounds(corners) == (0, 3, 7, 9)


def test_the_innermost_pixel_counts_the_rim_of_the_plane_as_outline() -> None:
    mask = _rectangle()
    y, x = innermost(mask)
    assert y in (14, 15) and mask[y, x]
    assert innermost(np.ones((9, 21), bool))[0] == 4
    ring = np.ones((21, 21), bool)
    ring[5:16, 5:16] = False
    assert ring[innermost(ring)]
    assert innermost(np.zeros((3, 4), bool)) == (0, 0)
