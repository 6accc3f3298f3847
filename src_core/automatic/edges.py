"""Edges of everything on a plane from its automatic masks, without training for edges (paper, appendix D.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.automatic.points import grid
from src_core.automatic.search import Search
from src_core.automatic.selecting import select
from src_core.automatic.settings import Thresholds
from src_core.embedding import Embedding
from src_core.predictor import Predictor
from src_core.types import Cancelled

POINTS_PER_SIDE = 16
KEPT = Thresholds(min_score=0.2, min_stability=0.0, max_overlap=1.0, min_area_px=4, max_area=1.0)
"""As in the paper, nothing but copies of masks is left out: a poor mask still has good edges."""
SMOOTH_PX = 1.0


def edges(
    predictor: Predictor, embedding: Embedding, *, cancelled: Cancelled | None = None
) -> NDArray[np.float32]:
    """Return how strong an edge there is at every pixel of a plane.

    A 16 x 16 grid of points is asked; each mask's probabilities are filtered by Sobel's operator, and the largest
    answer at its outline counts. What is left is thinned to ridges.

    Parameters
    ----------
    predictor, embedding
        The network, and what it has made of the plane.
    cancelled
        Asked after every window; the edges are then those found so far.

    Returns
    -------
    (H, W) float32, 0 to 1.
    """
    height, width = embedding.shape
    strength: NDArray[np.float32] = np.zeros((height, width), np.float32)
    picture = embedding.picture
    if picture.min() == picture.max():
        return strength
    search = Search(predictor, embedding, skipping=False)
    spacing = max(embedding.tiles[embedding.tiles.native[-1]].shape) / POINTS_PER_SIDE
    for _ in search.ask(grid(embedding.shape, spacing)):
        if cancelled is not None and cancelled():
            break
    kept = select(search.records, KEPT)
    boxes = np.array([r.box for r in kept], np.float64).reshape(-1, 4)
    for _, found in search.by_box(boxes):
        if found:
            _add_outline(strength, found[0].probability, found[0].corner_yx)
    if strength.max() > 0:
        strength /= strength.max()
    return thinned(strength)


def _add_outline(
    strength: NDArray[np.float32], probability: NDArray[np.float32], corner_yx: tuple[int, int]
) -> None:
    """Take a mask's slopes at its outline into the plane, where they are larger than what is there."""
    padded = np.pad(probability, 1, mode="edge")
    slope = np.hypot(ndi.sobel(padded, 0), ndi.sobel(padded, 1))[1:-1, 1:-1]
    inside = np.pad(probability > 0.5, 1)
    near = (ndi.binary_dilation(inside) & ~ndi.binary_erosion(inside, border_value=1))[1:-1, 1:-1]
    y, x = corner_yx
    part = strength[y : y + slope.shape[0], x : x + slope.shape[1]]
    np.maximum(part, np.where(near, slope, 0), out=part)


def thinned(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep of (H, W) edge strengths only the ridges, one or two pixels wide (Canny 1986)."""
    smooth = ndi.gaussian_filter(strength, SMOOTH_PX)
    second = [[ndi.gaussian_filter(strength, SMOOTH_PX, order=order)] for order in ((2, 0), (1, 1), (0, 2))]
    yy, xy, xx = (part[0] for part in second)
    # Across an edge its strength curves most, and downwards.
    angle = 0.5 * np.arctan2(2 * xy, yy - xx)
    along_y, along_x = np.cos(angle), np.sin(angle)
    curved = yy * along_y**2 + 2 * xy * along_y * along_x + xx * along_x**2
    turned = yy * along_x**2 - 2 * xy * along_y * along_x + xx * along_y**2
    swap = np.abs(turned) > np.abs(curved)
    across_y, across_x = np.where(swap, -along_x, along_y), np.where(swap, along_y, along_x)
    rows, columns = np.mgrid[: strength.shape[0], : strength.shape[1]]
    sides = [
        ndi.map_coordinates(smooth, (rows + s * across_y, columns + s * across_x), order=1, mode="nearest")
        for s in (1, -1)
    ]
    ridge = (smooth >= sides[0]) & (smooth >= sides[1]) & (np.where(swap, turned, curved) < 0)
    return np.where(ridge, strength, 0).astype(np.float32)
