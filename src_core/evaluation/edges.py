"""Edges measured as BSDS500 does: ODS, OIS and average precision (Arbelaez et al. 2011)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree
from skimage.morphology import thin

from src_core.errors import VolumeError

MAX_DISTANCE = 0.0075
"""How far a found edge may be from the true one, as a part of the image's diagonal."""
N_THRESHOLDS = 99

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class EdgeScores:
    """The three numbers of BSDS500.

    Attributes
    ----------
    ods
        F at the one threshold that is best for all images together.
    ois
        F with the best threshold for each image.
    ap
        Mean precision over the recalls 0, 0.01, ..., 1; precision is 0 beyond the largest recall reached.
    threshold
        The threshold of `ods`.
    """

    ods: float
    ois: float
    ap: float
    threshold: float


def evaluate_edges(
    images: Iterable[tuple[NDArray[np.floating], Sequence[Mask]]], n_thresholds: int = N_THRESHOLDS
) -> EdgeScores:
    """Score edges against the outlines that several people have drawn.

    Parameters
    ----------
    images
        For each image the found edges (H, W), 0 to 1, and one (H, W) bool mask of edges for each annotator.
    n_thresholds
        At so many thresholds between 0 and 1 the edges are cut; the benchmark has 99.

    Raises
    ------
    VolumeError
        There is no image, or one has no annotator or other shapes.
    """
    thresholds = (np.arange(n_thresholds) + 1) / (n_thresholds + 1)
    counts: list[NDArray[np.float64]] = []
    for found, annotators in images:
        if not len(annotators) or any(a.shape != found.shape for a in annotators):
            raise VolumeError(
                f"edges of shape {found.shape} need annotators of the same shape, got {[a.shape for a in annotators]}"
            )
        counts.append(np.array([count_edges(found >= t, annotators) for t in thresholds], np.float64))
    if not counts:
        raise VolumeError("no image to score edges of")
    total = np.sum(counts, axis=0)
    f = _f(total)
    best = int(f.argmax())
    own = np.sum([c[int(_f(c).argmax())] for c in counts], axis=0)[None]
    return EdgeScores(float(f[best]), float(_f(own)[0]), _area(total), float(thresholds[best]))


def count_edges(found: Mask, annotators: Sequence[Mask]) -> tuple[int, int, int, int]:
    """Return (true pixels matched, true pixels, found pixels matched, found pixels), the true ones of all annotators.

    A found pixel is right if any annotator has a pixel for it; pixels are paired one to one.
    """
    thinned = thin(found)
    reach = MAX_DISTANCE * float(np.hypot(*found.shape))
    right = np.zeros(found.shape, np.bool_)
    matched = of = 0
    for annotator in annotators:
        pairs = _paired(thinned, annotator, reach)
        matched += len(pairs)
        of += int(np.count_nonzero(annotator))
        right[tuple(pairs.T)] = True
    return matched, of, int(np.count_nonzero(right)), int(np.count_nonzero(thinned))


def read_bsds(path: str | Path) -> list[Mask]:
    """Read the annotators' edges of one image from a .mat file of BSDS500.

    Raises
    ------
    VolumeError
        It is no such file.
    """
    from scipy.io import loadmat

    try:
        cells = loadmat(str(path))["groundTruth"].ravel()
        return [np.asarray(cell["Boundaries"][0, 0]) > 0 for cell in cells]
    # the reader answers damaged files with whatever it trips over
    except Exception as error:
        raise VolumeError(f"{path} is not a ground truth file of BSDS500 ({error})") from error


def _paired(found: Mask, true: Mask, reach: float) -> NDArray[np.intp]:
    """Return the found pixels (N, 2) of a largest one-to-one pairing within `reach`."""
    a, b = np.argwhere(found), np.argwhere(true)
    if not len(a) or not len(b):
        return np.zeros((0, 2), np.intp)
    near: Any = cKDTree(a).sparse_distance_matrix(cKDTree(b), reach, output_type="coo_matrix")
    graph = sparse.csr_array((np.ones(near.nnz), (near.row, near.col)), shape=near.shape)
    partner = maximum_bipartite_matching(graph, perm_type="column")
    return np.asarray(a[partner >= 0])


def _f(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    recall, precision = _rates(counts)
    total = recall + precision
    return np.divide(2 * recall * precision, total, out=np.zeros_like(total), where=total > 0)


def _rates(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    matched, of, right, n = counts.T
    recall = np.divide(matched, of, out=np.zeros_like(of), where=of > 0)
    return recall, np.divide(right, n, out=np.zeros_like(n), where=n > 0)


def _area(counts: NDArray[np.float64]) -> float:
    recall, precision = _rates(counts)
    order = np.argsort(recall, kind="stable")
    levels, first = np.unique(recall[order], return_index=True)
    best = np.maximum.reduceat(precision[order], first)
    wanted = np.linspace(0, 1, 101)
    return float(np.interp(wanted, levels, best, left=best[0], right=0.0).mean())
