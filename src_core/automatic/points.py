"""Where to ask: a regular grid, and the middles of blobs brighter or darker than what is around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.feature import peak_local_max

PointsYX = NDArray[np.float64]

INNER_PX, OUTER_PX = 6.0, 9.6
"""Scales in network pixels: what is compared with its surroundings is smoothed by the one, these by the other."""
MIN_DISTANCE_PX = 5.0
"""Suggestions are at least so far apart, in network pixels."""
MIN_DIFFERENCE = 1.0
"""In grey levels of 255: less is no blob."""


def grid(shape: tuple[int, int], spacing_px: float) -> PointsYX:
    """Return (N, 2) points of a plane of `shape`, row by row, about `spacing_px` apart and half of it from its rim."""
    rows, columns = (
        (np.arange(n) + 0.5) * size / n - 0.5 for size in shape for n in [max(1, round(size / spacing_px))]
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def suggested(picture: NDArray[np.uint8], zoom: float) -> tuple[PointsYX, PointsYX]:
    """Return the middles of blobs brighter, and of blobs darker, than their surroundings.

    Parameters
    ----------
    picture
        (H, W, 3) uint8, the plane as the network sees it.
    zoom
        Network pixels per pixel of the plane.

    Returns
    -------
    (N, 2) and (M, 2) points of the plane, those that stand out most first; none on a plane without any contrast.
    """
    grey = picture.astype(np.float32).mean(-1)
    blobs = ndi.gaussian_filter(grey, INNER_PX / zoom) - ndi.gaussian_filter(grey, OUTER_PX / zoom)
    return _peaks(blobs, zoom), _peaks(-blobs, zoom)


def _peaks(blobs: NDArray[np.float32], zoom: float) -> PointsYX:
    peaks = peak_local_max(
        blobs,
        min_distance=max(1, round(MIN_DISTANCE_PX / zoom)),
        threshold_abs=MIN_DIFFERENCE,
        exclude_border=False,
    )
    return np.asarray(peaks[np.argsort(-blobs[tuple(peaks.T)], kind="stable")], np.float64)
