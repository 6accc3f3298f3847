"""Many prompts at once as part of a session: an object for each, written as drafts, one entry in the history."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from src_core.errors import PromptError
from src_core.history import Edit
from src_core.masks import Box, Mask, bounds
from src_core.prompts import Prompts
from src_core.session import ObjectState, Session
from src_core.types import PlaneRef

if TYPE_CHECKING:
    from src_core.embedding import Embedding
    from src_core.embeddings import EmbeddingCache

BATCH = 16
"""Objects answered in one step: a click waits for no more than that, and so many masks are in memory."""

MOSTLY = 0.5
"""Part of a mask that must be free: what is mostly labelled already is no new object."""


@dataclass(frozen=True)
class Wanted:
    """What somebody says about one object on one plane.

    Attributes
    ----------
    plane
        Where.
    key
        Which object; the same on every plane of it.
    prompts
        Makes the prompts, on the thread that asks the network; raises `PromptError` if there are none.
    """

    plane: PlaneRef
    key: Hashable
    prompts: Callable[[], Prompts]


@dataclass(frozen=True)
class PromptsProgress:
    """Where a run is.

    Attributes
    ----------
    done, total
        Prompts answered, and how many there are.
    plane
        The plane just written, None before the first.
    made
        How many objects have a mask now.
    empty, taken
        Prompts for which the network saw nothing; prompts whose mask was mostly labelled already.
    unit
        What is counted.
    """

    done: int
    total: int
    plane: PlaneRef | None = None
    made: int = 0
    empty: int = 0
    taken: int = 0
    unit: str = "object"


def segment_session(
    session: Session,
    embeddings: EmbeddingCache,
    wanted: Sequence[Wanted],
    states: Mapping[Hashable, ObjectState],
    name: str,
) -> Iterator[PromptsProgress]:
    """Answer prompts plane by plane, in the order given; every plane becomes an anchor of its objects.

    What is labelled already stays, unless the session allows overwriting; where two answers overlap, the one
    with the better score has the pixels. Objects that got no mask are forgotten again.

    Parameters
    ----------
    session, embeddings
        The objects, and the planes of the same volume.
    wanted
        Prompts; those of one plane stand together, and no key twice on a plane.
    states
        For every key, its object: a new one, from `Session.add_objects`.
    name
        What the entry in the history is called.

    Yields
    ------
    PromptsProgress
        After every few answers; closing the generator keeps what is done.
    """
    progress = PromptsProgress(0, len(wanted))
    made: set[int] = set()
    try:
        with session.edit(name) as edit:
            yield progress
            for plane, group in groupby(wanted, key=lambda w: w.plane):
                drafts = _Drafts()
                try:
                    for answered in drafts.ask(embeddings, plane, list(group)):
                        progress = replace(progress, done=progress.done + answered)
                        yield progress
                finally:  # also when stopped half-way through a plane: what is answered is kept
                    written, taken = drafts.write(session, edit, plane, states)
                    made |= {state.id for state in written}
                progress = replace(
                    progress,
                    plane=plane,
                    made=len(made),
                    empty=progress.empty + drafts.empty,
                    taken=progress.taken + taken,
                )
                yield progress
    finally:
        session.withdraw(states.values())


@dataclass(frozen=True)
class _Draft:
    key: Hashable
    score: float
    box: Box
    part: Mask

    def mask(self, shape: tuple[int, ...]) -> Mask:
        whole = np.zeros(shape, np.bool_)
        y0, x0, y1, x1 = self.box
        whole[y0:y1, x0:x1] = self.part
        return whole


class _Drafts:
    """The answers on one plane, only the boxes of their masks kept."""

    def __init__(self) -> None:
        self.found: list[_Draft] = []
        self.empty = 0

    def ask(self, embeddings: EmbeddingCache, plane: PlaneRef, group: list[Wanted]) -> Iterator[int]:
        """Ask the network a few prompts at a time; yield how many."""
        embedding = embeddings.get(plane)
        for start in range(0, len(group), BATCH):
            part = group[start : start + BATCH]
            self._ask(embeddings, embedding, part)
            yield len(part)

    def _ask(self, embeddings: EmbeddingCache, embedding: Embedding, part: list[Wanted]) -> None:
        keys, prompts = [], []
        for one in part:
            try:
                prompts.append(one.prompts())
                keys.append(one.key)
            except PromptError:
                self.empty += 1
        for key, answer in zip(keys, embeddings.predictor.predict_many(embedding, prompts), strict=True):
            mask = answer.masks[0]
            if not mask.any():
                self.empty += 1
                continue
            y0, x0, y1, x1 = box = bounds(mask)
            self.found.append(_Draft(key, float(answer.scores[0]), box, mask[y0:y1, x0:x1].copy()))

    def write(
        self, session: Session, edit: Edit, plane: PlaneRef, states: Mapping[Hashable, ObjectState]
    ) -> tuple[list[ObjectState], int]:
        """Write the best answers first; return the objects written, and how many found no room."""
        ids = session.labels.read_plane(plane.axis, plane.index, plane.t)
        free: NDArray[np.bool_] = ~np.isin(ids, np.array(sorted(session.protected(set())), np.uint32))
        written: list[ObjectState] = []
        batch: dict[int, Mask] = {}
        for draft in sorted(self.found, key=lambda d: -d.score):
            y0, x0, y1, x1 = draft.box
            room = draft.part & free[y0:y1, x0:x1]
            if room.sum() < MOSTLY * draft.part.sum():
                continue
            free[y0:y1, x0:x1] &= ~room
            state = states[draft.key]
            batch[state.id] = replace(draft, part=room).mask(free.shape)
            written.append(state)
            if len(batch) == BATCH:
                session.write_drafts(edit, plane, batch)
                batch = {}
        if batch:
            session.write_drafts(edit, plane, batch)
        return written, len(self.found) - len(written)
