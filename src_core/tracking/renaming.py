"""Labels whose objects get the ids of their tracks."""

from __future__ import annotations

import numpy as np

from src_core.evaluation.instances import Contingency
from src_core.labels import LabelVolume
from src_core.tracking.series import Series
from src_core.tracking.solving import Frames, Track, Tracking, TrackSettings


def track_labels(labels: LabelVolume, settings: TrackSettings | None = None) -> Tracking:
    """Follow the objects of a label volume with axis t, and give each the id of its track.

    Parameters
    ----------
    labels
        Ids may mean another object at every time point; they are replaced, one plane at a time.
    settings
        See `TrackSettings`.

    Raises
    ------
    VolumeError
        The labels have no axis t.
    """
    series = Series(labels)
    tracking = solved(series, settings or TrackSettings())
    rename(series, tracking)
    return renamed(tracking)


def solved(series: Series, settings: TrackSettings) -> Tracking:
    """Follow objects of which each has an id of its own at every time point."""
    frames = Frames(settings)
    for t in range(len(series)):
        ids: set[int] = set()
        for plane in series.planes(t):
            ids |= set(np.unique(series.read(plane)).tolist())
        frames.add_objects(t, sorted(ids - {0}))
        for earlier in range(max(0, t - frames.settings.max_gap - 1), t):
            pairs = zip(series.planes(earlier), series.planes(t), strict=True)
            frames.add_overlaps(
                earlier, t, Contingency.of((series.read(a), series.read(b)) for a, b in pairs)
            )
    return frames.solve()


def rename(series: Series, tracking: Tracking, first: int = 1) -> None:
    """Replace every id from `first` on by that of its track, 0 if it has none."""
    for t in range(len(series)):
        new = tracking.ids_at(t)
        for plane in series.planes(t):
            drawn = series.read(plane)
            ids, places = np.unique(drawn, return_inverse=True)
            renamed = [new.get(k, 0) if k >= first else k for k in ids.tolist()]
            series.write(plane, np.array(renamed, np.uint32)[places].reshape(drawn.shape))


def renamed(tracking: Tracking) -> Tracking:
    """Return the tracks of labels in which every object has the id of its track."""
    return Tracking({k: Track(dict.fromkeys(v.places, k), v.parent) for k, v in tracking.tracks.items()})
