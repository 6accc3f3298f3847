"""Everything on a slice or in a stack becomes draft objects of a session, each with its confidence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src_core.automatic import MaskRecord, Search, SearchSettings, Thresholds, label_image
from src_core.embeddings import EmbeddingCache
from src_core.history import Edit
from src_core.labels import LabelVolume
from src_core.linking import LinkSettings, StackReport, stack_steps
from src_core.masks import Mask
from src_core.session import Session
from src_core.types import PlaneRef

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
        Slices searched, then slices written.
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
    scores = {k: {plane.index: r.score} for k, r in enumerate(records, start=1)}
    yield from _drafts(session, _OnePlane(drawing), scores, plane.axis, plane.t)


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
        After every slice.
    """
    out = workspace(session, axis, t)
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
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            report: StackReport = end.value
            break
        yield AutomaticProgress(done, total)
    scores = {k: found.scores for k, found in report.objects.items()}
    yield from _drafts(session, _Stack(report.labels, axis, t), scores, axis, t)
    shutil.rmtree(out)


def workspace(session: Session, axis: str, t: int) -> Path:
    """Return where an unfinished search of a stack is kept."""
    return session.labels.path.with_name(f"{session.labels.path.name}-automatic-{axis}{t}.zarr")


@dataclass(frozen=True)
class _OnePlane:
    drawing: NDArray[np.uint32]

    def read(self, index: int) -> NDArray[np.uint32]:
        return self.drawing


@dataclass(frozen=True)
class _Stack:
    labels: LabelVolume
    axis: str
    t: int

    def read(self, index: int) -> NDArray[np.uint32]:
        return self.labels.read_plane(self.axis, index, self.t)


def _drafts(
    session: Session,
    found: _OnePlane | _Stack,
    scores: Mapping[int, Mapping[int, float]],
    axis: str | None,
    t: int,
) -> Iterator[AutomaticProgress]:
    """Write found objects into the free pixels of the session's labels, slice by slice."""
    slices = sorted({index for own in scores.values() for index in own})
    kept = _with_room(session, found, list(scores), slices, axis, t)
    progress = AutomaticProgress(0, len(slices), made=len(kept), left_out=len(scores) - len(kept))
    if not kept:
        yield replace(progress, done=len(slices))
        return
    states = session.add_objects([None] * len(kept))
    ids = dict(zip(kept, (state.id for state in states), strict=True))
    try:
        with session.edit("automatic objects") as edit:
            try:
                for n, index in enumerate(slices, start=1):
                    plane = PlaneRef(axis, index, t)
                    _write(session, edit, plane, found.read(index), ids, scores)
                    progress = replace(progress, done=n, plane=plane)
                    yield progress
            finally:
                made = [state for state in states if not state.empty]
                edit.undo, edit.redo = (
                    partial(session.withdraw, made, []),
                    partial(session.reinstate, made, []),
                )
    finally:
        session.withdraw([state for state in states if state.empty], [])


def _with_room(
    session: Session,
    found: _OnePlane | _Stack,
    ids: list[int],
    slices: list[int],
    axis: str | None,
    t: int,
) -> list[int]:
    """Return the objects of which most is not labelled yet."""
    pixels, taken = dict.fromkeys(ids, 0), dict.fromkeys(ids, 0)
    for index in slices:
        plane = found.read(index)
        there = session.labels.read_plane(axis, index, t) > 0
        for counts, part in ((pixels, plane), (taken, plane[there])):
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
    scores: Mapping[int, Mapping[int, float]],
) -> None:
    here = [int(k) for k in np.unique(drawing) if int(k) in ids]
    step = max(1, WRITE_BYTES // drawing.size)
    for first in range(0, len(here), step):
        part = here[first : first + step]
        masks: dict[int, Mask] = {ids[k]: drawing == k for k in part}
        own = {ids[k]: float(scores[k].get(plane.index, 0.0)) for k in part}
        session.write_step(edit, plane, masks, own)
