"""Objects put together, cut in two, and given another number: changes of ids only, each one entry of the history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.errors import SessionError
from src_core.history import Edit
from src_core.session.as_json import blank, to_json
from src_core.session.cutting import Cut
from src_core.session.session import Session
from src_core.session.state import DrawnPrompts, Key, ObjectState
from src_core.types import PlaneRef

Ids = NDArray[np.uint32]


def merge(session: Session, into: int, others: Iterable[int]) -> None:
    """Give objects' pixels, anchors and prompts to another one and forget them.

    Parameters
    ----------
    session
        Where they are.
    into
        The object that stays, with its name.
    others
        Those that become part of it.

    Raises
    ------
    SessionError
        One is finished or unknown, there is nothing to merge, or the disk is full.
    """
    gone = sorted(set(others) - {into})
    if not gone:
        raise SessionError("choose at least two objects to merge")

    def union() -> ObjectState:
        return _union([session.unlocked(i, "merge it") for i in (into, *gone)])

    union()  # raises what is to be raised before anything has changed
    names = " and ".join(str(k) for k in (into, *gone))
    with session.edit(f"merge objects {names}") as edit:
        _renumber(session, edit, gone, into, union)


def relabel(session: Session, identity: int, number: int) -> None:
    """Give an object another number, which no other one has.

    Raises
    ------
    SessionError
        The object is finished or unknown, the number is taken or does not fit the labels, or the disk is full.
    """
    state = session.unlocked(identity, "give it another number")
    if number == identity:
        return
    session.check_id(number)
    taken = session.objects.get(number)
    if taken is not None and not taken.bare:
        raise SessionError(f"there is an object {number} already; merge object {identity} with it instead")
    with session.edit(f"relabel object {identity} to {number}") as edit:
        _begin(session, edit, number)
        _renumber(session, edit, [identity], number, lambda: replace(state, id=number))


def cut(session: Session, identity: int, knife: Cut, t: int = 0) -> int:
    """Cut an object in two at a time point and return the number of the new object.

    Each part keeps the anchors, scores and points that lie in it.

    Parameters
    ----------
    session, identity, t
        Which object, at which time point.
    knife
        Says which pixels are to be another object.

    Raises
    ------
    SessionError
        The object is finished or unknown, one of the parts would be empty, there is no number left, or the disk
        is full.
    PromptError
        `knife` does not fit the object.
    """
    state = session.unlocked(identity, "cut it")
    number = max(session.objects) + 1
    session.check_id(number)
    knife.look_at(session.labels, identity, t)
    planes = [p for p in session.planes_with(identity) if p.t == t]
    parts = {p: n for p in planes if any(n := _parts(session, knife, p, identity))}
    if not all(sum(n) for n in zip(*parts.values(), strict=True)):
        raise SessionError(f"the cut leaves all of object {identity} on one side: cut through it")
    with session.edit(f"cut object {identity}", {"cut": knife.about(), "object": identity}) as edit:
        _begin(session, edit, number)
        for plane in parts:
            session.change_plane(edit, plane, partial(_cut_ids, knife, plane.index, identity, number))
        old, new = _split(session, state, number, knife)
        changes: list[tuple[Key, Any]] = [
            (("object", i), to_json(o)) for i, o in ((identity, old), (number, new))
        ]
        edit.counts = True
        session.enter(edit, [], changes)
    session.objects_changed.emit()
    return number


def _begin(session: Session, edit: Edit, number: int) -> None:
    """Start an object as part of an edit: its pixels must not be unknown if the process is killed half-way."""
    session.enter(edit, [], [(("object", number), blank(number))])


def _cut_ids(knife: Cut, index: int, identity: int, number: int, ids: Ids) -> Ids:
    mine = ids == identity
    return np.where(mine & knife.other_side(index, mine), np.uint32(number), ids)


def _parts(session: Session, knife: Cut, plane: PlaneRef, identity: int) -> tuple[int, int]:
    """Return how many pixels of an object on a plane stay, and how many go."""
    mine = session.mask(plane, identity)
    going = int((mine & knife.other_side(plane.index, mine)).sum())
    return int(mine.sum()) - going, going


def _renumber(
    session: Session, edit: Edit, old: Sequence[int], new: int, made: Callable[[], ObjectState]
) -> None:
    """Give objects' pixels to another one and put `made()` in their place; it is the current one if one of them was."""

    def make(ids: Ids) -> Ids:
        return np.where(np.isin(ids, np.array(old, np.uint32)), np.uint32(new), ids)

    def pixels() -> None:
        for plane in sorted({p for k in old for p in session.planes_with(k)}, key=lambda p: (p.t, p.index)):
            session.change_plane(edit, plane, make)

    def objects() -> list[tuple[Key, Any]]:
        changes: list[tuple[Key, Any]] = [(("object", k), None) for k in old]
        changes.append((("object", new), to_json(made())))
        return [*changes, (("current",), new)] if session.current in old else changes

    session.remove(edit, pixels, objects)


def _union(states: Sequence[ObjectState]) -> ObjectState:
    """Return the first object with all that belongs to the others; it was never propagated like this."""
    anchors = {plane for s in states for plane in s.anchors}
    scores: dict[PlaneRef, float] = {}
    for plane, score in ((p, v) for s in states for p, v in s.scores.items() if p not in anchors):
        scores[plane] = min(score, scores.get(plane, score))
    parts = zip(*((s.prompts.points, s.prompts.labels, s.prompts.shapes) for s in states), strict=True)
    drawn = DrawnPrompts(*(sum(part, ()) for part in parts))
    return replace(
        states[0],
        anchors=anchors,
        scores=scores,
        ends={},  # where one has ended, another may be; the next propagation finds out
        settled={},
        prompts=drawn,
        found=any(s.found for s in states),
        name=next((s.name for s in states if s.name), ""),
    )


def _split(session: Session, state: ObjectState, number: int, knife: Cut) -> tuple[ObjectState, ObjectState]:
    """Return an object that has been cut, and the new one."""

    def has(plane: PlaneRef, k: int) -> bool:
        return bool(session.mask(plane, k).any())

    fresh = ObjectState(number, name=state.name, found=state.found)
    fresh.anchors = {p for p in state.anchors if has(p, number)}
    fresh.scores = {p: v for p, v in state.scores.items() if has(p, number)}
    fresh.prompts = _those(state.prompts, knife, True)
    rest = replace(
        state,
        anchors={p for p in state.anchors if has(p, state.id)},
        scores={p: v for p, v in state.scores.items() if has(p, state.id)},
        ends={},
        settled={},
        prompts=_those(state.prompts, knife, False),
    )
    return rest, fresh


def _those(prompts: DrawnPrompts, knife: Cut, other: bool) -> DrawnPrompts:
    """Return what is drawn on one side of a cut."""
    rows = [
        (p, s)
        for p, s in zip(prompts.points, prompts.labels, strict=True)
        if knife.beyond(np.array(p)) == other
    ]
    shapes = tuple(s for s in prompts.shapes if knife.beyond(np.mean(s[1], axis=0)) == other)
    return DrawnPrompts(tuple(p for p, _ in rows), tuple(s for _, s in rows), shapes)
