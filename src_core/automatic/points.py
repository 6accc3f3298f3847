"""Where to ask: where the network sees objects, the middles of what is brighter or darker, and a regular grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.feature import peak_local_max

from src_core.embedding import Embedding

PointsYX = NDArray[np.float64]

SMOOTH_PX, AROUND_PX = 1.0, 24.0
"""Scales in network pixels: what is noise, and what counts as the surroundings of a pixel."""
MIN_DISTANCE_PX, MIN_RADIUS_PX = 5.0, 2.0
"""Suggestions are at least so far apart, and at least so far inside their region, in network pixels."""


def grid(shape: tuple[int, int], spacing_px: float) -> PointsYX:
    """Return (N, 2) points of a plane of `shape`, row by row, about `spacing_px` apart and half of it from its rim."""
    rows, columns = (
        (np.arange(n) + 0.5) * size / n - 0.5 for size in shape for n in [max(1, round(size / spacing_px))]
    )
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def seen(embedding: Embedding, index: int) -> PointsYX | None:
    """Return one point of the plane, (N, 2), in each object that the network sees on a tile, if it can tell.

    Tiles overlap: what another one shows with more room around it is left to that.
    """
    points = embedding.seeds(index)
    if points is None:
        return None
    tiles = embedding.tiles
    if tiles.overview_suffices:
        return points
    native = next(g for g in tiles.grids if g.zoom == 1)
    return points[[native.best((y, x, y, x))[0] == index for y, x in points.tolist()]]


def suggested(picture: NDArray[np.uint8], zoom: float) -> PointsYX:
    """Return the middles of regions brighter, and of regions darker, than their surroundings.

    Parameters
    ----------
    picture
        (H, W, 3) uint8, the plane as the network sees it.
    zoom
        Network pixels per pixel of the plane.

    Returns
    -------
    (N, 2) points of the plane, those farthest inside their region first, of bright and dark regions in turn; none on
    a plane without any contrast.
    """
    grey = picture.astype(np.float32).mean(-1)
    if grey.min() == grey.max():
        return np.zeros((0, 2))
    bright = ndi.gaussian_filter(grey, SMOOTH_PX / zoom) > ndi.gaussian_filter(grey, AROUND_PX / zoom)
    return _in_turn(_middles(bright, zoom), _middles(~bright, zoom))


def _middles(region: NDArray[np.bool_], zoom: float) -> PointsYX:
    depth = ndi.gaussian_filter(ndi.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1], 1 / zoom)
    peaks = peak_local_max(
        depth,
        min_distance=max(1, round(MIN_DISTANCE_PX / zoom)),
        threshold_abs=MIN_RADIUS_PX / zoom,
        exclude_border=False,
    )
    deepest = np.argsort(-depth[tuple(peaks.T)], kind="stable")
    return np.asarray(peaks[deepest], np.float64)


def _in_turn(a: PointsYX, b: PointsYX) -> PointsYX:
    """Return one of `a`, one of `b`, and so on, then what is left of the longer."""
    order = np.concatenate([2 * np.arange(len(a)), 2 * np.arange(len(b)) + 1])
    return np.concatenate([a, b])[np.argsort(order, kind="stable")]
