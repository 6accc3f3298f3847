"""Tracks as the points and the graph of a napari Tracks layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src_core.labels import LabelVolume
from src_core.tracking.series import Series
from src_core.tracking.solving import Tracking


def napari_tracks(
    tracking: Tracking, labels: LabelVolume, time: str = "t"
) -> tuple[NDArray[np.float64], dict[int, list[int]]]:
    """Return what a Tracks layer is made of.

    Parameters
    ----------
    tracking
        The tracks.
    labels
        Where every object has the id of its track; read one plane at a time. What is no track is left out.
    time
        The axis along which time runs.

    Returns
    -------
    (N, 2 + D) rows of track id, time point and centroid in pixels (z, y, x or y, x), by track and time; and the
    graph, child -> parents.
    """
    series = Series(labels, time)
    rows = [row for t in range(len(series)) for row in _centroids(series, t, tracking)]
    points = np.array(sorted(rows), np.float64).reshape(-1, 2 + len(series.axes))
    shown = set(points[:, 0].astype(int).tolist())
    graph = {k: [p for p in parents if p in shown] for k, parents in tracking.graph().items() if k in shown}
    return points, {k: parents for k, parents in graph.items() if parents}


def _centroids(series: Series, t: int, tracking: Tracking) -> list[tuple[float, ...]]:
    sums: dict[int, NDArray[np.float64]] = {}
    for plane in series.planes(t):
        drawn = series.read(plane)
        y, x = np.nonzero(drawn)
        ids, group = np.unique(drawn[y, x], return_inverse=True)
        count, total_y, total_x = (
            np.bincount(group, weights, minlength=len(ids)) for weights in (None, y, x)
        )
        for i, k in enumerate(ids.tolist()):
            if k in tracking.tracks:
                place = (count[i], plane.index * count[i], total_y[i], total_x[i])
                sums[k] = sums.get(k, np.zeros(4)) + place
    first = 1 if len(series.axes) == 3 else 2
    return [(k, t, *(n / s[0] for n in s[first:])) for k, s in sums.items()]
