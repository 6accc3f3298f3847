"""Everything on a slice or in a stack becomes draft objects of a session, each with its confidence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src_core.automatic import MaskRecord, Search, SearchSettings, Thresholds, label_image
from src_core.embeddings import EmbeddingCache
from src_core.evaluation.instances import Contingency
from src_core.history import Edit
from src_core.linking import LinkSettings, stack_steps
from src_core.masks import Mask
from src_core.session import Session
from src_core.stepping import Stepwise
from src_core.tracking import Series, Track, Tracked, Tracking, napari_tracks, track_steps
from src_core.types import PlaneRef

Read = Callable[[PlaneRef], NDArray[np.uint32]]
Scores = Mapping[int, Mapping[PlaneRef, float]]
"""What is found, id -> plane -> confidence."""

MOSTLY = 0.5
"""An object is left out if more than this part of it is labelled already."""
WRITE_BYTES = 2**26
"""Masks of whole planes that are in memory at a time."""


@dataclass(frozen=True)
class AutomaticProgress:
    """How far it is.

    Attributes
    ----------
    done, total
        Slices or time points searched, then slices written.
    plane
        The latest slice that was written; None while slices are searched.
    made
        How many objects the session has got.
    left_out
        How many were labelled already.
    unit
        What is counted.
    """

    done: int
    total: int
    plane: PlaneRef | None = None
    made: int = 0
    left_out: int = 0
    unit: str = "slice"


@dataclass
class SliceSearch:
    """One slice to be searched, step by step: `select` then chooses among its records for any thresholds."""

    embeddings: EmbeddingCache
    plane: PlaneRef
    records: list[MaskRecord] = field(default_factory=list)

    def steps(self, settings: SearchSettings | None = None) -> Iterator[AutomaticProgress]:
        """Search; stopped half-way, there are no records."""
        search = Search(self.embeddings.predictor, self.embeddings.get(self.plane))
        for done, total in search.run(settings or SearchSettings()):
            yield AutomaticProgress(done, total, unit="point")
        self.records = search.records


def plane_steps(
    session: Session, plane: PlaneRef, records: Sequence[MaskRecord]
) -> Iterator[AutomaticProgress]:
    """Make draft objects of the masks of one slice, as one entry of the history; what is labelled there stays."""
    drawing = label_image(records, session.volume.plane_shape(plane.axis))
    scores = {k: {plane: r.score} for k, r in enumerate(records, start=1)}
    yield from _drafts(session, lambda _: drawing, scores)


def stack_to_session(
    session: Session,
    embeddings: EmbeddingCache,
    *,
    axis: str,
    t: int = 0,
    start: int | None = None,
    stop: int | None = None,
    search: SearchSettings | None = None,
    thresholds: Thresholds | None = None,
    links: LinkSettings | None = None,
) -> Iterator[AutomaticProgress]:
    """Find the objects of a stack and make them draft objects, as one entry of the history.

    The search is kept beside the session's labels until it is complete: stopped or killed, it goes on where it was.

    Yields
    ------
    AutomaticProgress
        After every slice; from seeds, after each that is searched and again when its objects have been followed.
    """
    out = workspace(session, axis, t)
    unit = "slice" if links is not None and links.method == "link" else "step"
    steps = stack_steps(
        embeddings.predictor,
        embeddings.volume,
        out,
        axis=axis,
        start=start,
        stop=stop,
        t=t,
        c=embeddings.channel,
        search=search,
        thresholds=thresholds,
        links=links,
        embed=lambda index: embeddings.get(PlaneRef(axis, index, t)),
        overwrite=True,
    )
    report = yield from Stepwise(steps).told(partial(AutomaticProgress, unit=unit))
    scores = {
        # what looks wrong from the side is wrong on its slices: those come first in the queue
        k: {PlaneRef(axis, z, t): score * found.side for z, score in found.scores.items()}
        for k, found in report.objects.items()
    }
    yield from _drafts(session, lambda p: report.labels.read_plane(axis, p.index, t), scores)
    shutil.rmtree(out)


@dataclass
class Following:
    """Every object of a film, followed through time, becomes one draft object.

    Attributes
    ----------
    time
        The axis along which time runs: "t", or "z" for films whose time points are handled as slices.
    points, graph
        What a Tracks layer is made of, as `napari_tracks` returns it, with the objects' ids; None until it is done.
    """

    session: Session
    embeddings: EmbeddingCache
    time: str
    points: NDArray[np.float64] | None = None
    graph: dict[int, list[int]] = field(default_factory=dict)

    def steps(
        self, search: SearchSettings | None = None, thresholds: Thresholds | None = None
    ) -> Iterator[AutomaticProgress]:
        """Search, follow, and write drafts as one entry of the history; stopped or killed, it goes on later."""
        cache, out = self.embeddings, workspace(self.session, "time-", 0)
        steps = track_steps(
            cache.predictor,
            cache.volume,
            out,
            time=self.time,
            c=cache.channel,
            search=search,
            thresholds=thresholds,
            embed=cache.get,
            overwrite=True,
        )
        found = yield from Stepwise(steps).told(partial(AutomaticProgress, unit="time point"))

        def read(p: PlaneRef) -> NDArray[np.uint32]:
            return found.labels.read_plane(p.axis, p.index, p.t)

        ids = yield from _drafts(self.session, read, found.scores)
        ids |= self._known(read, found, set(found.scores) - set(ids))
        tracks: dict[int, Track] = {}
        for k, track in (found.tracking.tracks if found.tracking is not None else {}).items():
            if k in ids:
                tracks.setdefault(
                    ids[k], Track(dict.fromkeys(track.places, ids[k]), ids.get(track.parent or 0))
                )
        tracking = Tracking(tracks)
        self.points, self.graph = napari_tracks(tracking, self.session.labels, self.time)
        shutil.rmtree(out)

    def _known(self, read: Read, found: Tracked, left_out: set[int]) -> dict[int, int]:
        """Return the objects of the session that tracks are which were labelled already: those they share most with."""
        planes = {p for k in left_out for p in found.scores[k]}
        wanted = sorted(left_out)
        shared = Contingency.of(
            (
                np.where(np.isin(drawn := read(p), wanted), drawn, 0),
                Series(self.session.labels, self.time).read(p),
            )
            for p in planes
        )
        known: dict[int, tuple[int, int]] = {}
        pairs = shared.counts.tocoo()
        for i, j, n in zip(*pairs.coords, pairs.data, strict=True):
            k, there = int(shared.true_ids[i]), int(shared.found_ids[j])
            if k and there:
                known[k] = max(known.get(k, (0, 0)), (int(n), there))
        return {k: there for k, (_, there) in known.items()}


def workspace(session: Session, axis: str, t: int) -> Path:
    """Return where an unfinished search of a stack is kept."""
    return session.labels.path.with_name(f"{session.labels.path.name}-automatic-{axis}{t}.zarr")


def _drafts(
    session: Session, read: Read, scores: Scores
) -> Generator[AutomaticProgress, None, dict[int, int]]:
    """Write found objects into the free pixels of the session's labels, plane by plane.

    Returns the ids they have there; those that are labelled already have none.
    """
    planes = sorted({p for own in scores.values() for p in own}, key=lambda p: (p.t, p.index))
    kept = _with_room(session, read, list(scores), planes)
    progress = AutomaticProgress(0, len(planes), made=len(kept), left_out=len(scores) - len(kept))
    if not kept:
        yield replace(progress, done=len(planes))
        return {}
    states = session.add_objects([None] * len(kept))
    ids = dict(zip(kept, (state.id for state in states), strict=True))
    try:
        with session.edit("automatic objects") as edit:
            for n, plane in enumerate(planes, start=1):
                _write(session, edit, plane, read(plane), ids, scores)
                progress = replace(progress, done=n, plane=plane)
                yield progress
    finally:
        session.withdraw(states)
    return ids


def _with_room(session: Session, read: Read, ids: list[int], planes: list[PlaneRef]) -> list[int]:
    """Return the objects of which most is not labelled yet."""
    pixels, taken = dict.fromkeys(ids, 0), dict.fromkeys(ids, 0)
    for plane in planes:
        drawing = read(plane)
        there = session.labels.read_plane(plane.axis, plane.index, plane.t) > 0
        for counts, part in ((pixels, drawing), (taken, drawing[there])):
            for k, n in zip(*np.unique(part, return_counts=True), strict=True):
                if int(k) in counts:
                    counts[int(k)] += int(n)
    return [k for k in ids if pixels[k] and taken[k] <= MOSTLY * pixels[k]]


def _write(
    session: Session,
    edit: Edit,
    plane: PlaneRef,
    drawing: NDArray[np.uint32],
    ids: Mapping[int, int],
    scores: Scores,
) -> None:
    here = [int(k) for k in np.unique(drawing) if int(k) in ids]
    step = max(1, WRITE_BYTES // drawing.size)
    for first in range(0, len(here), step):
        part = here[first : first + step]
        masks: dict[int, Mask] = {ids[k]: drawing == k for k in part}
        own = {ids[k]: float(scores[k].get(plane, 0.0)) for k in part}
        session.write_step(edit, plane, masks, own)
