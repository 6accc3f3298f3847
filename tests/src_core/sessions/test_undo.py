"""Undo and redo where something comes in between: a full disk, an import that goes on, a stroke."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.errors import SessionError, VolumeError
from src_core.prompts import Prompts
from src_core.session import DrawnPrompts, Session, merge, open_session, relabel, replay
from src_core.session import journal as journal_module
from src_core.session_prompts import Wanted, segment_session
from src_core.types import PlaneRef
from tests.src_core.sessions import script

Z2, Z3 = PlaneRef("z", 2), PlaneRef("z", 3)
MASK = script.round_at(20, 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cells.sam.zarr"


@pytest.mark.parametrize("direction", ["undo", "redo"])
def test_an_undo_that_the_disk_refuses_half_way_goes_on_when_asked_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    session = open_session(script.volume(), folder)
    script.propagate(session, 1, np.random.default_rng(0))
    name = session.undo_name
    done = script.state(session)
    session.undo()
    undone = script.state(session)
    if direction == "undo":
        session.redo()
    again, wanted = (session.undo, undone) if direction == "undo" else (session.redo, done)
    with monkeypatch.context() as patch:
        patch.setattr(session.labels, "write_box", _full_after(3, session.labels.write_box))
        with pytest.raises(SessionError, match=f"{direction} of “{name}” is only half done.*full.*once more"):
            again()
        assert (session.undo_name if direction == "undo" else session.redo_name) == name
        labels = np.asarray(session.labels.array[:])
        with pytest.raises(SessionError, match="only half done"):
            session.accept(Z2, MASK)  # would be overtaken by the rest
        assert np.array_equal(session.labels.array[:], labels)
    assert again() == name
    assert script.state(session) == wanted
    (session.redo if direction == "undo" else session.undo)()
    assert script.state(session) == (done if direction == "undo" else undone)
    session.close()


def _check_undone_on_opening(folder: Path) -> None:
    again = open_session(script.volume(), folder)
    assert not np.asarray(again.labels.array[:]).any() and again.redo_name == "propagate object 1"
    again.close()


def test_an_undo_that_was_never_finished_is_finished_on_opening(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(script.volume(), folder)
    script.propagate(session, 1, np.random.default_rng(0))
    with monkeypatch.context() as patch, pytest.raises(SessionError):
        patch.setattr(session.labels, "write_box", _full_after(3, session.labels.write_box))
        session.undo()
    session.close()
    _check_undone_on_opening(folder)


def _refusing(patch: pytest.MonkeyPatch, session: Session) -> None:
    """Let no line of the journal be written any more."""
    assert session.journal is not None
    fd, write = session.journal._fd, os.write

    def refuse(at: int, data: Any) -> int:
        if at == fd:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(at, data)

    patch.setattr(journal_module.os, "write", refuse)


def _die(session: Session) -> None:
    """End like a killed process, with lines that were never written."""
    journal, session.journal = session.journal, None
    assert journal is not None
    journal.close()


def test_an_undo_that_the_disk_cut_short_before_it_refused_the_journal_is_finished_on_opening(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(script.volume(), folder)
    script.propagate(session, 1, np.random.default_rng(0))
    with monkeypatch.context() as patch:
        patch.setattr(session.labels, "write_box", _full_after(3, session.labels.write_box))
        with pytest.raises(SessionError, match="only half done"):
            session.undo()
        _refusing(patch, session)
        session.select(3)
        session.flush()
        assert session.problem is not None
        _die(session)
    _check_undone_on_opening(folder)


@pytest.mark.parametrize("direction", ["undo", "redo"])
def test_an_undo_that_neither_labels_nor_journal_have_room_for_is_taken_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    session = open_session(script.volume(), folder)
    script.propagate(session, 1, np.random.default_rng(0))
    if direction == "redo":
        session.undo()
    session.flush()
    found, again = script.state(session), session.undo if direction == "undo" else session.redo
    with monkeypatch.context() as patch:
        _refusing(patch, session)
        write, left = session.labels.write_box, [3]

        def full_once(*args: Any, **options: Any) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise SessionError("the disk is full")
            write(*args, **options)

        patch.setattr(session.labels, "write_box", full_once)
        with pytest.raises(
            SessionError, match=f"there was no {direction} of “propagate object 1”: the disk is full"
        ):
            again()
        assert script.state(session) == found
        _die(session)
    opened = open_session(script.volume(), folder)
    assert script.state(opened) == found
    if direction == "redo":
        opened.redo()
    _all_there_and_back(opened, folder)


def test_an_undo_that_was_taken_back_is_in_the_journal_like_one_that_was_redone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.0)
    session = open_session(script.volume(), folder)
    script.propagate(session, 1, np.random.default_rng(0))
    session.flush()
    found = script.state(session)
    with monkeypatch.context() as patch, pytest.raises(SessionError, match="there was no undo"):
        _refusing(patch, session)
        write = session.labels.write_box
        patch.setattr(session.labels, "write_box", _full_after(0, write))
        session.undo()
    assert script.state(session) == found
    _made_again(session, folder)
    _all_there_and_back(session, folder)


def test_nothing_is_painted_while_an_undo_is_half_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(script.volume(), folder)
    script.propagate(session, 1, np.random.default_rng(0))
    stroke = (Z2, (0, 0, 3, 4), np.zeros((3, 4), np.uint32), np.ones((3, 4), np.uint32))
    with monkeypatch.context() as patch, pytest.raises(SessionError, match="half done"):
        patch.setattr(session.labels, "write_box", _full_after(3, session.labels.write_box))
        session.undo()
    with pytest.raises(SessionError, match="nothing is painted as long as the undo of “propagate object 1”"):
        session.record([stroke])
    session.undo()
    assert not session.objects[1].anchors
    session.record([stroke])
    assert session.objects[1].anchors == {Z2}
    session.close()


def test_damaged_labels_do_not_keep_an_undo_waiting_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(script.volume(), folder)
    session.accept(Z2, MASK)

    def damaged(*_: Any, **__: Any) -> None:
        raise VolumeError("damaged")

    with monkeypatch.context() as patch, pytest.raises(VolumeError, match="damaged"):
        patch.setattr(session.labels, "read_box", damaged)
        session.undo()
    session.accept(Z3, MASK)
    assert session.mask(Z3, 1).any()
    session.close()


def _full_after(n: int, write: Any) -> Any:
    """Let a disk take `n` more boxes and then none."""
    left = [n]

    def full(*args: Any, **options: Any) -> None:
        if not left[0]:
            raise SessionError("the disk is full")
        left[0] -= 1
        write(*args, **options)

    return full


def _importing(session: Session) -> Iterator[Any]:
    """Make object 2 on slice 2, object 3 on slice 3, and none of a third prompt."""
    places = {2: (2, 20, 20), 3: (3, 20, 20), 4: (4, 1, 1)}
    states = dict(zip(places, session.add_objects([2, 3, 4]), strict=True))
    wanted = [
        Wanted(PlaneRef("z", z), k, lambda y=y, x=x: Prompts([(y, x)])) for k, (z, y, x) in places.items()
    ]
    return segment_session(session, script.Discs(), wanted, states, "objects from seeds")  # type: ignore[arg-type]


def _until(steps: Iterator[Any], plane: PlaneRef) -> None:
    while next(steps).plane != plane:
        pass


def _all_there_and_back(session: Session, folder: Path) -> None:
    """Undo and redo everything: nothing has changed, now or after opening again."""
    found = script.state(session)
    while session.undo():
        pass
    while session.redo():
        pass
    assert script.state(session) == found
    session.close()
    again = open_session(script.volume(), folder)
    assert script.state(again) == found
    again.close()


POINT = DrawnPrompts(((2.0, 20.0, 20.0),), (1,))


@pytest.mark.parametrize("identity", [2, 3, 4])
def test_a_prompt_drawn_for_what_a_running_import_has_made_stays_through_undo_and_redo(
    folder: Path, identity: int
) -> None:
    session = open_session(script.volume(), folder)
    steps = _importing(session)
    _until(steps, Z2)
    session.note("prompt", prompts={identity: POINT})
    list(steps)
    assert session.objects[identity].prompts == POINT
    assert sorted(session.objects) == sorted({1, 2, 3, identity})
    _all_there_and_back(session, folder)


def test_objects_that_came_back_while_an_import_went_on_are_not_forgotten_with_those_without_a_mask(
    folder: Path,
) -> None:
    session = open_session(script.volume(), folder)
    steps = _importing(session)
    _until(steps, Z2)
    session.undo()
    session.redo()
    list(steps)
    assert sorted(session.objects) == [1, 2, 3] == [1, *session.labels.object_ids()]
    _all_there_and_back(session, folder)


def _two_objects(folder: Path) -> Session:
    session = open_session(script.volume(), folder)
    session.accept(Z3, script.round_at(30, 10), 1)
    session.select(2)
    for plane in (Z2, Z3):
        session.accept(plane, MASK, 2)
    return session


def _made_again(session: Session, folder: Path) -> None:
    """Replay the journal: that gives the same labels."""
    session.flush()
    again = replay(folder, folder.parent / "again.zarr").labels
    assert np.array_equal(again.array[:], session.labels.array[:])


def _painting_once(session: Session, plane: PlaneRef, identity: int) -> None:
    """Have a stroke of an object painted as soon as labels change: where they did, or on another slice."""

    def paint(*_: Any) -> None:
        session.labels_changed.disconnect(paint)
        session.labels.array[plane.index, 0:3, 0:4] = identity  # napari paints first, and tells then
        before = np.zeros((3, 4), np.uint32)
        session.record([(plane, (0, 0, 3, 4), before, before + np.uint32(identity))])

    session.labels_changed.connect(paint)


@pytest.mark.parametrize("plane", [Z2, Z3, PlaneRef("z", 5)])
@pytest.mark.parametrize("what", ["merge", "relabel", "delete"])
def test_a_stroke_of_an_object_that_is_just_going_goes_with_it(
    folder: Path, what: str, plane: PlaneRef
) -> None:
    session = _two_objects(folder)
    _painting_once(session, plane, 2)
    match what:
        case "merge":
            merge(session, 1, [2])
        case "relabel":
            relabel(session, 2, 7)
        case "delete":
            session.delete(2)
    heir = {"merge": 1, "relabel": 7, "delete": 0}[what]
    assert (session.labels.read_box("z", plane.index, (0, 0, 3, 4)) == heir).all()
    assert sorted(session.objects) == session.labels.object_ids()
    assert not heir or plane in session.objects[heir].anchors
    _made_again(session, folder)
    _all_there_and_back(session, folder)


@pytest.mark.parametrize("told", ["while it goes", "afterwards"])
def test_a_stroke_that_was_begun_before_its_object_was_merged_away_belongs_to_the_other(
    folder: Path, told: str
) -> None:
    session = _two_objects(folder)
    before = np.zeros((3, 4), np.uint32)

    def tell(*_: Any) -> None:
        session.labels_changed.disconnect(tell, missing_ok=True)
        session.record([(Z2, (0, 0, 3, 4), before, before + np.uint32(2))])

    session.labels.array[2, 0:3, 0:4] = 2  # the mouse button is still down
    if told == "while it goes":
        session.labels_changed.connect(tell)
    merge(session, 1, [2])
    if told == "afterwards":
        tell()
    assert sorted(session.objects) == [1] == session.labels.object_ids()
    assert (session.labels.read_box("z", 2, (0, 0, 3, 4)) == 1).all()
    _made_again(session, folder)
    _all_there_and_back(session, folder)


def test_an_object_whose_number_was_used_again_comes_back_whole(folder: Path) -> None:
    session = open_session(script.volume(), folder)
    session.select(2)
    session.accept(Z2, MASK, 2)
    session.delete(2)
    assert session.new_object().id == 2
    session.accept(Z3, MASK, 2)
    session.select(1)  # which object is the current one is no part of the history
    _all_there_and_back(session, folder)
