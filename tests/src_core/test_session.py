"""Objects, anchors, labels and one history, without a window."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.errors import SessionError, VolumeError
from src_core.labels import LabelVolume
from src_core.session import Session
from src_core.types import PlaneRef
from src_core.volumes import open_volume

SHAPE = (6, 20, 24)
Z2, Z3 = PlaneRef("z", 2), PlaneRef("z", 3)


def box(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros(SHAPE[1:], bool)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return _session(tmp_path)


def _session(folder: Path, dtype: type = np.uint32) -> Session:
    volume = open_volume(np.zeros(SHAPE, np.uint8))
    return Session(volume, LabelVolume.create(folder / "labels", volume, dtype=dtype))


def _plane(session: Session, z: int) -> np.ndarray:
    return session.labels.read_plane("z", z)


def test_a_new_session_begins_with_object_1(session: Session) -> None:
    assert list(session.objects) == [1] and session.current == 1
    assert session.new_object().id == 2 and session.current == 2


def test_objects_on_disk_are_taken_over_at_once_or_later(session: Session) -> None:
    session.accept(Z2, box(1, 1, 4, 4), 1)
    session.labels.write_plane("z", 3, {7: box(8, 8, 9, 9)})
    again = Session(session.volume, session.labels)
    assert sorted(again.objects) == [1, 7] and again.current == 7
    later = Session(session.volume, session.labels, ids=())
    assert list(later.objects) == [1]
    later.adopt(later.labels.object_ids())
    assert sorted(later.objects) == [1, 7] and later.current == 7


def test_accept_writes_and_makes_an_anchor_and_undo_takes_both_back(session: Session) -> None:
    mask = box(2, 3, 8, 9)
    session.accept(Z2, mask)
    assert np.array_equal(_plane(session, 2) == 1, mask)
    assert session.objects[1].anchors == {Z2} and session.undo_name == "accept object 1"
    assert session.undo() == "accept object 1"
    assert not _plane(session, 2).any() and session.objects[1].anchors == set()
    assert session.redo() == "accept object 1"
    assert np.array_equal(_plane(session, 2) == 1, mask) and session.objects[1].anchors == {Z2}
    assert session.redo() is None


def test_confirming_what_propagation_found_can_be_undone(session: Session) -> None:
    mask = box(2, 3, 8, 9)
    with session.edit("propagate") as edit:
        session.write_step(edit, Z3, {1: mask}, {1: 0.4})
    session.accept(Z3, mask)  # no label changes, but the plane is the user's now
    assert session.objects[1].anchors == {Z3} and session.objects[1].scores == {}
    assert session.undo() == "accept object 1"
    assert session.objects[1].anchors == set() and session.objects[1].scores == {Z3: 0.4}
    assert np.array_equal(_plane(session, 3) == 1, mask)


def test_accepting_again_replaces_the_object_on_the_plane(session: Session) -> None:
    session.accept(Z2, box(0, 0, 5, 5))
    session.accept(Z2, box(10, 10, 12, 12))
    assert np.array_equal(_plane(session, 2) == 1, box(10, 10, 12, 12))
    session.undo()
    assert np.array_equal(_plane(session, 2) == 1, box(0, 0, 5, 5))


def test_neighbours_are_never_erased_unless_allowed(session: Session) -> None:
    session.accept(Z2, box(0, 0, 10, 10), 1)
    session.new_object()
    session.accept(Z2, box(5, 5, 15, 15))
    assert (_plane(session, 2) == 1).sum() == 100
    assert (_plane(session, 2) == 2).sum() == 75
    session.allow_overwrite = True
    session.accept(Z2, box(5, 5, 15, 15))
    assert (_plane(session, 2) == 2).sum() == 100
    session.set_done(1)
    session.accept(Z2, box(0, 0, 15, 15))
    assert (_plane(session, 2) == 1).sum() == 75, "a finished object is locked all the same"


def test_a_finished_object_takes_no_mask_until_reopened(session: Session) -> None:
    session.accept(Z2, box(0, 0, 5, 5))
    session.set_done(1)
    with pytest.raises(SessionError, match="finished"):
        session.accept(Z2, box(0, 0, 1, 1))
    with session.edit("propagate") as edit:
        session.write_step(edit, Z3, {1: box(0, 0, 5, 5)}, {1: 1.0})
    assert not _plane(session, 3).any()
    session.set_done(1, False)
    session.accept(Z2, box(0, 0, 1, 1))
    assert (_plane(session, 2) == 1).sum() == 1


def test_propagation_leaves_anchors_alone(session: Session) -> None:
    session.accept(Z2, box(0, 0, 5, 5))
    with session.edit("propagate") as edit:
        session.write_step(edit, Z2, {1: box(9, 9, 12, 12)}, {1: 0.9})
        session.clear_step(edit, Z2, 1)
    assert np.array_equal(_plane(session, 2) == 1, box(0, 0, 5, 5))
    assert session.objects[1].scores == {}


@pytest.mark.parametrize("named", [False, True])
def test_undoing_a_first_mask_forgets_the_object_unless_the_user_has_done_something_for_it(
    session: Session, named: bool
) -> None:
    session.select(5)
    if named:
        session.rename(5, "mitochondrion")
    session.select(1)
    before = copy.deepcopy(session.objects)
    with session.edit("propagate object 5") as edit:
        session.write_step(edit, PlaneRef("z", 1), {5: box(0, 0, 3, 3)}, {5: 0.5})
    session.undo()
    assert session.objects == (before if named else {1: before[1]})
    session.redo()
    assert session.objects[5].name == before[5].name and session.objects[5].scores


def test_undoing_the_first_mask_of_the_object_being_worked_on_keeps_it(session: Session) -> None:
    session.select(5)
    with session.edit("propagate object 5") as edit:
        session.write_step(edit, PlaneRef("z", 1), {5: box(0, 0, 3, 3)}, {5: 0.5})
    session.undo()
    assert session.current == 5 and session.objects[5].bare


def test_strokes_are_taken_note_of_and_can_be_undone(session: Session) -> None:
    before = np.zeros((3, 4), np.uint32)
    after = before.copy()
    after[1] = 5
    session.labels.write_box("z", 2, (4, 6, 7, 10), after)
    session.record([(Z2, (4, 6, 7, 10), before, after)])
    assert session.objects[5].anchors == {Z2} and session.undo_name == "paint"
    session.undo()
    assert not _plane(session, 2).any() and session.objects[5].anchors == set()
    session.redo()
    assert (_plane(session, 2) == 5).sum() == 4 and session.objects[5].anchors == {Z2}


def test_erasing_by_brush_makes_an_anchor_of_what_was_erased(session: Session) -> None:
    session.accept(Z2, box(0, 0, 5, 5))
    old, new = np.ones((5, 2), np.uint32), np.zeros((5, 2), np.uint32)
    session.labels.write_box("z", 2, (0, 0, 5, 2), new)
    session.record([(Z2, (0, 0, 5, 2), old, new)])
    assert session.objects[1].anchors == {Z2}
    session.undo()
    assert session.objects[1].anchors == {Z2}, "it was one before the stroke"
    assert (_plane(session, 2) == 1).sum() == 25


def test_deleting_erases_every_plane_and_comes_back_whole(session: Session) -> None:
    for plane in (Z2, Z3, PlaneRef("y", 12)):
        shape = session.volume.plane_shape(plane.axis)
        mask = np.zeros(shape, bool)
        mask[1:4, 2:5] = True
        session.accept(plane, mask)
    session.rename(1, "nucleus")
    whole = np.asarray(session.labels.array[:])
    session.new_object()
    session.delete(1)
    assert not np.asarray(session.labels.array[:]).any()
    assert list(session.objects) == [2] and session.current == 2
    assert session.undo() == "delete object 1"
    assert np.array_equal(np.asarray(session.labels.array[:]), whole)
    assert session.objects[1].name == "nucleus" and len(session.objects[1].anchors) == 3
    session.redo()
    assert 1 not in session.objects


def test_deleting_the_only_object_starts_another_even_if_it_was_empty(session: Session) -> None:
    session.rename(1, "keep me")
    session.delete(1)
    assert len(session.objects) == 1 and not session.objects[session.current].name
    assert session.undo() == "delete object 1"
    assert session.objects[1].name == "keep me"


def test_an_edit_that_fails_half_way_can_be_undone(session: Session) -> None:
    with pytest.raises(RuntimeError, match="half-way"), session.edit("propagate") as edit:
        session.write_step(edit, Z2, {1: box(0, 0, 4, 4)}, {1: 0.5})
        raise RuntimeError("half-way")
    assert _plane(session, 2).any() and session.undo() == "propagate"
    assert not _plane(session, 2).any()


def test_an_edit_that_changes_nothing_is_no_entry(session: Session) -> None:
    with session.edit("nothing"):
        pass
    assert session.undo_name is None and session.undo() is None


def test_notes_go_into_the_same_history(session: Session) -> None:
    told: list[str] = []
    session.accept(Z2, box(0, 0, 4, 4))
    session.note("prompt", lambda: told.append("undo"), lambda: told.append("redo"))
    assert session.undo() == "prompt" and _plane(session, 2).any()
    assert session.redo() == "prompt" and told == ["undo", "redo"]


def test_ids_the_labels_cannot_hold_are_refused(tmp_path: Path) -> None:
    small = _session(tmp_path, np.uint8)
    small.select(255)
    with pytest.raises(SessionError, match="256"):
        small.new_object()
    with pytest.raises(SessionError, match="300"):
        small.select(300)
    with pytest.raises(SessionError, match="0"):
        small.select(0)
    assert small.current == 255


def test_unknown_objects_and_masks_of_another_size_are_refused(session: Session) -> None:
    with pytest.raises(SessionError, match="no object 9"):
        session.accept(Z2, box(0, 0, 1, 1), 9)
    with pytest.raises(VolumeError, match="shape"):
        session.accept(Z2, np.ones((3, 3), bool))
    assert session.objects[1].anchors == set() and session.undo_name is None


def test_changes_are_announced(session: Session) -> None:
    told: list[object] = []
    session.labels_changed.connect(lambda plane, box: told.append((plane, box)))
    session.accept(Z2, box(2, 3, 8, 9))
    session.undo()
    assert told == [(Z2, (2, 3, 8, 9))] * 2
    names: list[int] = []
    session.objects_changed.connect(lambda: names.append(session.current))
    session.new_object()
    session.select(1)
    assert names == [2, 1]


def test_the_window_never_waits_for_a_write(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    writing, go = threading.Event(), threading.Event()
    write = session.labels.write_plane

    def slowly(*args: object, **kwargs: object) -> object:
        writing.set()
        assert go.wait(5)
        return write(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(session.labels, "write_plane", slowly)
    thread = threading.Thread(target=lambda: session.accept(Z2, box(0, 0, 4, 4), 1))
    thread.start()
    assert writing.wait(5)
    done = threading.Event()

    def window() -> None:
        session.new_object()
        session.select(1)
        session.note("prompt", lambda: None, lambda: None)
        done.set()

    threading.Thread(target=window, daemon=True).start()
    assert done.wait(2)
    go.set()
    thread.join(5)
    assert session.objects[1].anchors == {Z2}


def test_a_finished_object_is_not_deleted(session: Session) -> None:
    session.accept(Z2, box(2, 2, 5, 5))
    session.set_done(1)
    with pytest.raises(SessionError, match="reopen it to delete it"):
        session.delete(1)
    assert (_plane(session, 2) == 1).any() and 1 in session.objects
    session.set_done(1, False)
    session.delete(1)
    assert not _plane(session, 2).any()


def _meanwhile(work: Callable[[], None]) -> threading.Thread:
    """Begin work on another thread and give it time to get in between."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(0.3)
    return thread


def test_propagation_does_not_cover_a_mask_accepted_while_it_writes(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, found, write = box(1, 1, 4, 4), box(8, 8, 12, 12), session._write
    threads: list[threading.Thread] = []

    def hooked(*args: Any, **options: Any) -> None:
        monkeypatch.setattr(session, "_write", write)
        threads.append(_meanwhile(lambda: session.accept(Z2, mine, 1)))
        write(*args, **options)

    monkeypatch.setattr(session, "_write", hooked)
    with session.edit("propagate") as edit:
        session.write_step(edit, Z2, {1: found}, {1: 0.5})
    threads[0].join()
    assert np.array_equal(_plane(session, 2) == 1, mine)


def test_propagation_does_not_get_between_a_mask_and_its_anchor(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, found, mark = box(1, 1, 4, 4), box(8, 8, 12, 12), session.labels.write_box
    threads: list[threading.Thread] = []

    def step() -> None:
        with session.edit("propagate") as edit:
            session.write_step(edit, Z2, {1: found}, {1: 0.5})

    def hooked(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(session.labels, "write_box", mark)
        mark(*args, **kwargs)
        threads.append(_meanwhile(step))

    monkeypatch.setattr(session.labels, "write_box", hooked)
    session.accept(Z2, mine, 1)
    threads[0].join()
    assert np.array_equal(_plane(session, 2) == 1, mine) and Z2 not in session.objects[1].scores


def test_an_object_finished_meanwhile_is_not_cleared(session: Session) -> None:
    with session.edit("propagate") as edit:
        session.write_step(edit, Z2, {1: box(1, 1, 4, 4)}, {1: 0.5})
        session.set_done(1)
        session.clear_step(edit, Z2, 1)
    assert (_plane(session, 2) == 1).any()
