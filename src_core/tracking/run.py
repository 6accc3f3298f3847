"""From a time series to labels in which every object keeps its id."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.automatic import Search, SearchSettings, Thresholds, label_image, select
from src_core.embedding import Embedding
from src_core.errors import VolumeError
from src_core.labels import LabelVolume, check_target
from src_core.linking import LinkSettings, stack_steps
from src_core.linking.shelf import RecordShelf, labels_of_run
from src_core.locks import sole_writer
from src_core.predictor import Predictor
from src_core.propagation.request import described
from src_core.stepping import Stepwise
from src_core.tracking.renaming import rename, renamed, solved
from src_core.tracking.series import Series
from src_core.tracking.solving import Tracking, TrackSettings, as_json, from_json
from src_core.types import Cancelled, PlaneRef, Progress
from src_core.volumes import Volume

WAITING = 2**31
"""Ids from here on are of one time point only and wait for that of their track: who is renamed can be told."""
Scores = dict[PlaneRef, dict[int, float]]
"""How sure objects are, by plane and id."""


@dataclass(frozen=True)
class Tracked:
    """What following the objects of a series has come to.

    Attributes
    ----------
    labels
        Every object has the id of its track.
    tracking
        None if it was cancelled.
    scores
        Track -> plane -> confidence there, 0 to 1.
    """

    labels: LabelVolume
    tracking: Tracking | None = None
    scores: dict[int, dict[PlaneRef, float]] = field(default_factory=dict)


def track(
    predictor: Predictor, volume: Volume, out: str | Path, *, progress: Progress | None = None, **options: Any
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
    progress
        Called as progress(done, total) in time points.
    options
        As for `track_steps`.

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
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if progress is not None and done > told:
            told = done
            progress(done, total)

    found = Stepwise(track_steps(predictor, volume, out, **options)).run(tell)
    return found.labels, found.tracking


def track_steps(
    predictor: Predictor,
    volume: Volume,
    out: str | Path,
    *,
    time: str = "t",
    c: int | None = None,
    search: SearchSettings | None = None,
    thresholds: Thresholds | None = None,
    links: LinkSettings | None = None,
    tracks: TrackSettings | None = None,
    embed: Callable[[PlaneRef], Embedding] | None = None,
    overwrite: bool = False,
    cancelled: Cancelled | None = None,
    before_end: Callable[[Tracked], None] = lambda found: None,
) -> Generator[tuple[int, int], None, Tracked]:
    """Do what `track` does step by step, for callers who do something else in between.

    Parameters
    ----------
    predictor, volume, out
        As for `track`.
    time
        The axis along which time runs: "t", or "z" for a film whose time points are handled as slices.
    c
        Channel.
    search, thresholds, links, tracks
        How planes are searched, masks kept, linked over slices, and followed through time.
    embed
        Called with a plane instead of `Predictor.embed`, by callers that keep embeddings.
    overwrite
        Replace labels that are there, unless they are this very run's, unfinished.
    cancelled
        Asked after every window of a search.
    before_end
        Called with what is found before the run counts as complete: if it fails, to export the tracks say, the
        same call does that alone.

    Yields
    ------
    (done, total) in time points. Not asking for the next is as good as cancelling. Returns what is found.
    """
    out = Path(out)
    if time not in volume.axes:
        raise VolumeError(f"{volume.name} has no time axis: its axes are {', '.join(volume.axes)}")
    check_target(volume, out)
    known = described(predictor, volume, c)
    request = {
        **known,
        "time": time,
        "channel": c,
        "search": asdict(search or SearchSettings()),
        "thresholds": asdict(thresholds or Thresholds()),
        "links": asdict(links or LinkSettings()),
    }
    with sole_writer(out):
        labels, shelf, resumed = labels_of_run(volume, out, request, overwrite=overwrite)
        series = Series(labels, time)
        note = shelf.noted() or {"done": 0}
        run = _Run(predictor, volume, series, c, cancelled or (lambda: False), known)
        run.search, run.thresholds, run.links = search or SearchSettings(), thresholds or Thresholds(), links
        run.embed = embed or run.embed
        if not resumed:
            run.forget_asides()
        if "tracks" not in note:
            for t in range(note["done"], len(series)):
                scores = yield from run.frame(t, (t, len(series)))
                if scores is None:
                    return Tracked(labels)
                shelf.note(_scores_json(scores), f"scores-{t}")
                shelf.note({"done": t + 1})
                yield t + 1, len(series)
            note = {"tracks": as_json(solved(series, tracks or TrackSettings()))}
            shelf.note(note)
        found = _finished(series, shelf, from_json(note["tracks"]))
        before_end(found)
        shelf.finish()
        return found


class _Run:
    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        series: Series,
        c: int | None,
        cancelled: Cancelled,
        known: Mapping[str, Any],
    ) -> None:
        self.predictor, self.volume, self.series, self.c = predictor, volume, series, c
        self.cancelled, self.known = cancelled, known
        self.search, self.thresholds = SearchSettings(), Thresholds()
        self.links: LinkSettings | None = None
        self.embed: Callable[[PlaneRef], Embedding] = self._embed

    def _embed(self, plane: PlaneRef) -> Embedding:
        return self.predictor.embed(self.volume.plane_at(plane, self.c), lazily=True)

    def frame(self, t: int, progress: tuple[int, int]) -> Generator[tuple[int, int], None, Scores | None]:
        """Write the objects of one time point, yielding `progress` meanwhile; None if cancelled."""
        if len(self.series.axes) == 3:
            return (yield from self._stack(t, progress))
        (plane,) = self.series.planes(t)
        found = Search(self.predictor, self.embed(plane))
        for _ in found.run(self.search):
            yield progress
            if self.cancelled():
                return None
        records = select(found.records, self.thresholds)
        self.series.write(plane, _waiting(label_image(records, self.volume.plane_shape(plane.axis))))
        return {plane: {k: r.score for k, r in enumerate(records, start=1)}}

    def _aside(self, t: int) -> Path:
        path = self.series.labels.path
        return path.with_name(f"{path.name}.t{t}.zarr")

    def forget_asides(self) -> None:
        """Remove what an earlier run has left unfinished beside the labels."""
        for aside in map(self._aside, range(len(self.series))):
            if RecordShelf(aside).request() is not None:
                shutil.rmtree(aside)

    def _stack(self, t: int, progress: tuple[int, int]) -> Generator[tuple[int, int], None, Scores | None]:
        aside = self._aside(t)
        steps = stack_steps(
            self.predictor,
            self.volume,
            aside,
            t=t,
            c=self.c,
            search=self.search,
            thresholds=self.thresholds,
            links=self.links,
            embed=lambda index: self.embed(PlaneRef("z", index, t)),
            cancelled=self.cancelled,
            known=self.known,
        )
        report = yield from Stepwise(steps).told(lambda done, total: progress)
        if not report.complete:
            return None
        for plane in self.series.planes(t):
            self.series.write(plane, _waiting(report.labels.read_plane(plane.axis, plane.index, t)))
        shutil.rmtree(aside)
        scores: Scores = {}
        for k, found in report.objects.items():
            for z, score in found.scores.items():
                scores.setdefault(PlaneRef("z", z, t), {})[k] = score
        return scores


def _finished(series: Series, shelf: RecordShelf, tracking: Tracking) -> Tracked:
    """Give the objects their tracks' ids; what a killed run has renamed already stays as it is."""
    rename(series, tracking, first=WAITING)
    scores: dict[int, dict[PlaneRef, float]] = {}
    for t in range(len(series)):
        owner = tracking.ids_at(t)
        for *where, k, score in shelf.noted(f"scores-{t}") or []:
            if k + WAITING in owner:
                scores.setdefault(owner[k + WAITING], {})[PlaneRef(*where)] = score
    return Tracked(series.labels, renamed(tracking), scores)


def _scores_json(scores: Scores) -> list[list[Any]]:
    return [[p.axis, p.index, p.t, k, s] for p, own in scores.items() for k, s in own.items()]


def _waiting(labels: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return np.where(labels > 0, labels + np.uint32(WAITING), 0).astype(np.uint32)
