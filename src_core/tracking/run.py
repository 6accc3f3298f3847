"""From a time series to labels in which every object keeps its id."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.automatic import SearchSettings, Thresholds, label_image, look, select
from src_core.errors import VolumeError
from src_core.evaluation.instances import Contingency
from src_core.labels import LabelVolume, check_target
from src_core.linking import LinkSettings, segment_stack
from src_core.linking.shelf import RecordShelf, labels_of_run
from src_core.predictor import Predictor
from src_core.propagation.saving import described
from src_core.tracking.solving import Frames, Track, Tracking, TrackSettings, as_json, from_json
from src_core.types import Cancelled, Progress
from src_core.volumes import Volume

WAITING = 2**31
"""Ids from here on are of one time point only and wait for that of their track: who is renamed can be told."""


def track(
    predictor: Predictor,
    volume: Volume,
    out: str | Path,
    *,
    c: int | None = None,
    search: SearchSettings | None = None,
    thresholds: Thresholds | None = None,
    links: LinkSettings | None = None,
    tracks: TrackSettings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[LabelVolume, Tracking | None]:
    """Find the objects of every time point, 2-D or 3-D, and follow them.

    Time points are segmented one after the other, in 3-D by way of labels beside `out`, `<out>.t<time point>.zarr`,
    which are removed when the time point is done. A killed or cancelled run goes on where it was when it is asked
    again for the same.

    Parameters
    ----------
    predictor, volume
        The network, and an image with axis t.
    out
        The label image to write: every object has the id of its track.
    c
        Channel.
    search, thresholds, links, tracks
        How planes are searched, masks kept, linked over slices, and followed through time.
    overwrite
        Replace labels that are there.
    progress, cancelled
        In time points; asked after each.

    Returns
    -------
    The labels, and the tracks; None instead of tracks if it was cancelled.

    Raises
    ------
    VolumeError
        The image has no axis t, or cannot be read.
    SessionError
        `out` is there already, or cannot be written.
    """
    out = Path(out)
    if "t" not in volume.axes:
        raise VolumeError(f"{volume.name} has no time axis: its axes are {', '.join(volume.axes)}")
    check_target(volume, out)
    request = {
        **described(predictor, volume, c),
        "search": asdict(search or SearchSettings()),
        "thresholds": asdict(thresholds or Thresholds()),
        "links": asdict(links or LinkSettings()),
    }
    labels, shelf, _ = labels_of_run(volume, out, request, overwrite=overwrite)
    note = shelf.noted() or {"done": 0}
    if "tracks" in note:
        return labels, _finished(labels, shelf, from_json(note["tracks"]))
    count = volume.sizes["t"]
    for t in range(note["done"], count):
        if len(volume.spatial_axes) == 2:
            found = look(
                predictor, predictor.embed(volume.plane(t=t, c=c), lazily=True), search, cancelled=cancelled
            )
            if cancelled is not None and cancelled():
                return labels, None
            drawing = label_image(select(found.records, thresholds), volume.plane_shape(None))
            _write(labels, (None, 0), _waiting(drawing), t)
        elif not _segmented(
            predictor,
            volume,
            labels,
            t,
            c,
            search=search,
            thresholds=thresholds,
            links=links,
            cancelled=cancelled,
        ):
            return labels, None
        shelf.note({"done": t + 1})
        if progress is not None:
            progress(t + 1, count)
    tracking = _solved(labels, tracks or TrackSettings())
    shelf.note({"tracks": as_json(tracking)})
    return labels, _finished(labels, shelf, tracking)


def _finished(labels: LabelVolume, shelf: RecordShelf, tracking: Tracking) -> Tracking:
    """Give the objects their tracks' ids; what a killed run has renamed already stays as it is."""
    _rename(labels, tracking, first=WAITING)
    shelf.finish()
    return _renamed(tracking)


def _segmented(
    predictor: Predictor, volume: Volume, labels: LabelVolume, t: int, c: int | None, **options: Any
) -> bool:
    """Find the objects of one time point in 3-D; False if cancelled."""
    aside = labels.path.with_name(f"{labels.path.name}.t{t}.zarr")
    report = segment_stack(predictor, volume, aside, t=t, c=c, **options)
    if report.complete:
        for where in _planes(labels):
            _write(labels, where, _waiting(report.labels.read_plane(*where, t)), t)
        shutil.rmtree(aside)
    return report.complete


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
    if "t" not in labels.axes:
        raise VolumeError(f"{labels.path} has no time axis: its axes are {', '.join(labels.axes)}")
    tracking = _solved(labels, settings or TrackSettings())
    _rename(labels, tracking)
    return _renamed(tracking)


def _solved(labels: LabelVolume, settings: TrackSettings) -> Tracking:
    frames = Frames(settings)
    count = labels.shape[labels.axes.index("t")]
    for t in range(count):
        ids: set[int] = set()
        for where in _planes(labels):
            ids |= set(np.unique(labels.read_plane(*where, t)).tolist())
        frames.add_objects(t, sorted(ids - {0}))
        for earlier in range(max(0, t - frames.settings.max_gap - 1), t):
            pairs = ((labels.read_plane(*w, earlier), labels.read_plane(*w, t)) for w in _planes(labels))
            frames.add_overlaps(earlier, t, Contingency.of(pairs))
    return frames.solve()


def _rename(labels: LabelVolume, tracking: Tracking, first: int = 1) -> None:
    """Replace every id from `first` on by that of its track, 0 if it has none."""
    for t in range(labels.shape[labels.axes.index("t")]):
        new = tracking.ids_at(t)
        for where in _planes(labels):
            plane = labels.read_plane(*where, t)
            ids, places = np.unique(plane, return_inverse=True)
            renamed = [new.get(k, 0) if k >= first else k for k in ids.tolist()]
            _write(labels, where, np.array(renamed, np.uint32)[places].reshape(plane.shape), t)


def _renamed(tracking: Tracking) -> Tracking:
    """Return the tracks of labels in which every object has the id of its track."""
    return Tracking({k: Track(dict.fromkeys(v.places, k), v.parent) for k, v in tracking.tracks.items()})


def _waiting(labels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.where(labels > 0, labels + np.uint32(WAITING), 0).astype(np.uint32)


def _write(labels: LabelVolume, where: tuple[str | None, int], plane: NDArray[np.uint32], t: int) -> None:
    labels.write_box(*where, (0, 0, plane.shape[0], plane.shape[1]), plane, t=t)


def _planes(labels: LabelVolume) -> Iterator[tuple[str | None, int]]:
    """Yield axis and index of the planes of one time point."""
    if len(labels.spatial_axes) == 2:
        yield None, 0
    else:
        for z in range(labels.shape[labels.axes.index("z")]):
            yield "z", z
