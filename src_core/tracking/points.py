"""Tracks as the points and the graph of a napari Tracks layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src_core.labels import LabelVolume
from src_core.tracking.solving import Tracking


def napari_tracks(
    tracking: Tracking, labels: LabelVolume
) -> tuple[NDArray[np.float64], dict[int, list[int]]]:
    """Return what a Tracks layer is made of.

    Parameters
    ----------
    tracking
        The tracks.
    labels
        Where every object has the id of its track; read one plane at a time.

    Returns
    -------
    (N, 2 + D) rows of track id, time point and centroid in pixels (z, y, x or y, x), by track and time; and the
    graph, child -> parents.
    """
    rows: list[tuple[float, ...]] = []
    for t in range(labels.shape[labels.axes.index("t")]):
        sums: dict[int, NDArray[np.float64]] = {}
        stacked = len(labels.spatial_axes) == 3
        for z in range(labels.shape[labels.axes.index("z")] if stacked else 1):
            plane = labels.read_plane("z" if stacked else None, z, t)
            y, x = np.nonzero(plane)
            ids, group = np.unique(plane[y, x], return_inverse=True)
            n = np.bincount(group, minlength=len(ids))
            for i, k in enumerate(ids.tolist()):
                total = sums.setdefault(k, np.zeros(4))
                mine = group == i
                total += (n[i], z * n[i], y[mine].sum(), x[mine].sum())
        for k, (n_pixels, *place) in sums.items():
            rows.append((k, t, *(p / n_pixels for p in (place if stacked else place[1:]))))
    width = 2 + len(labels.spatial_axes)
    return np.array(sorted(rows), np.float64).reshape(-1, width), tracking.graph()
