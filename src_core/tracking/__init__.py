"""Objects through time, with divisions: consistent ids, a graph of who comes from whom, and the exchange format."""

from src_core.tracking.ctc import read_ctc, write_ctc
from src_core.tracking.points import napari_tracks
from src_core.tracking.renaming import track_labels
from src_core.tracking.run import Tracked, track, track_steps
from src_core.tracking.series import Series
from src_core.tracking.solving import Frames, Track, Tracking, TrackSettings

__all__ = [
    "Frames",
    "Series",
    "Track",
    "TrackSettings",
    "Tracked",
    "Tracking",
    "napari_tracks",
    "read_ctc",
    "track",
    "track_labels",
    "track_steps",
    "write_ctc",
]
