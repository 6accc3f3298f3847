"""The review queue always says what a look at every object would say, whatever is done and undone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src_core.errors import SessionError
from src_core.session import ReviewQueue, Session, Unsure, confirm, open_session
from src_core.types import PlaneRef
from tests.src_core.sessions import script


def _z(index: int) -> PlaneRef:
    return PlaneRef("z", index)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return open_session(script.volume(), tmp_path / "cells.sam.zarr")


def _propagated(session: Session, scores: dict[int, dict[int, float]]) -> None:
    """Fill planes as a propagation does: plane -> object -> confidence."""
    with session.edit("propagate") as edit:
        for z, found in scores.items():
            masks = {k: script.round_at(10 + 12 * (k - 1), 10) for k in found}
            session.write_step(edit, _z(z), masks, found)


def _two(session: Session) -> None:
    session.accept(_z(3), script.round_at(10, 10), 1)
    session.new_object()
    session.accept(_z(3), script.round_at(22, 10), 2)
    _propagated(session, {2: {1: 0.8, 2: 0.3}, 4: {1: 0.5, 2: 0.9}})


def test_the_worst_comes_first_and_the_next_after_it(session: Session) -> None:
    _two(session)
    queue, order = session.review, []
    at = None
    for _ in range(5):
        at = queue.worst("z", after=at)
        order.append(at)
    assert order[:4] == [Unsure(0.3, 2, 2), Unsure(0.5, 4, 1), Unsure(0.8, 2, 1), Unsure(0.9, 4, 2)]
    assert order[4] == order[0], "after the best comes the worst again"
    assert queue.worst("z", identity=1) == Unsure(0.5, 4, 1)
    assert queue.remaining("z") == 4 and queue.remaining("z", identity=2) == 2
    assert queue.lowest("z") == {2: 0.3, 4: 0.5}
    assert queue.lowest("z", identity=1) == {2: 0.8, 4: 0.5}


def test_other_axes_and_time_points_have_their_own(session: Session) -> None:
    _two(session)
    with session.edit("propagate") as edit:
        session.write_step(edit, PlaneRef("y", 30), {1: np.ones((8, 48), bool)}, {1: 0.1})
    assert session.review.worst("z") == Unsure(0.3, 2, 2)
    assert session.review.worst("y") == Unsure(0.1, 30, 1)
    assert session.review.worst("z", t=1) is None and session.review.lowest("x") == {}
    assert session.review.remaining("x") == 0


def test_a_slice_that_is_right_leaves_the_queue_and_comes_back_with_undo(session: Session) -> None:
    _two(session)
    before = np.asarray(session.labels.array[:])
    confirm(session, _z(2), 2)
    assert session.review.worst("z") == Unsure(0.5, 4, 1) and session.review.remaining("z") == 3
    assert _z(2) in session.objects[2].anchors, "propagation leaves it alone from now on"
    assert np.array_equal(session.labels.array[:], before)
    _propagated(session, {2: {1: 0.7, 2: 0.1}})
    assert session.review.lowest("z")[2] == 0.7, "it is not queued again"
    assert session.undo() == "accept object 2"
    assert session.review.worst("z") == Unsure(0.3, 2, 2)
    session.redo()
    assert session.review.remaining("z") == 3


def test_accepting_twice_is_one_entry_and_accepting_nothing_is_refused(session: Session) -> None:
    _two(session)
    confirm(session, _z(2), 1)
    confirm(session, _z(2), 1)
    assert session.undo() == "accept object 1" and session.review.remaining("z") == 4
    with pytest.raises(SessionError, match="object 1 is not on slice 7"):
        confirm(session, _z(7), 1)
    session.set_done(1)
    with pytest.raises(SessionError, match="finished"):
        confirm(session, _z(2), 1)


def test_an_object_that_lost_all_its_pixels_on_a_slice_can_be_accepted_there(session: Session) -> None:
    _two(session)
    with session.edit("propagate") as edit:
        session.write_step(edit, _z(5), {1: np.zeros(script.SHAPE[1:], bool)}, {1: 0.05})
    assert session.review.worst("z") == Unsure(0.05, 5, 1)
    confirm(session, _z(5), 1)
    assert session.review.worst("z") == Unsure(0.3, 2, 2)


def test_correcting_painting_finishing_and_deleting_take_slices_out(session: Session) -> None:
    _two(session)
    session.accept(_z(2), script.round_at(24, 12), 2)
    assert session.review.remaining("z") == 3
    box, ones = (8, 8, 12, 12), np.ones((4, 4), np.uint32)
    session.record([(_z(4), box, ones, 0 * ones)])
    assert session.review.remaining("z", identity=1) == 1
    session.set_done(1)
    assert session.review.remaining("z", identity=1) == 0
    session.set_done(1, done=False)
    assert session.review.remaining("z", identity=1) == 1
    session.delete(2)
    assert session.review.remaining("z", identity=2) == 0
    session.undo()
    assert session.review.worst("z", identity=2) == Unsure(0.9, 4, 2)


def _expected(session: Session) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, float]] = {}
    for k, state in session.objects.items():
        for plane, score in ({} if state.done else state.unsure).items():
            found.setdefault(plane.index, {})[k] = score
    return found


def _check(queue: ReviewQueue, expected: dict[int, dict[int, float]]) -> None:
    listed = sorted(Unsure(s, z, k) for z, scores in expected.items() for k, s in scores.items())
    assert queue.remaining("z") == len(listed)
    assert queue.worst("z") == (listed[0] if listed else None)
    assert queue.lowest("z") == {z: min(scores.values()) for z, scores in expected.items()}
    for k in {u.identity for u in listed}:
        own = [u for u in listed if u.identity == k]
        assert queue.worst("z", identity=k) == own[0] and queue.remaining("z", identity=k) == len(own)


def test_it_agrees_with_the_objects_after_every_step_and_after_reopening(tmp_path: Path) -> None:
    folder, sizes = tmp_path / "cells.sam.zarr", set()
    session = open_session(script.volume(), folder)
    for number in range(80):
        script.step(session, number)
        _check(session.review, _expected(session))
        sizes.add(session.review.remaining("z"))
        if number % 20 == 19:
            before = _expected(session)
            session.close()
            session = open_session(script.volume(), folder)
            assert _expected(session) == before
            _check(session.review, before)
    assert len(sizes) > 2, "the script reviews something"
    while session.undo():
        _check(session.review, _expected(session))
    assert session.review.remaining("z") == 0
    session.close()
