"""Two threads on one session: what the window does while the worker writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.history import Edit
from src_core.session import Session, merge, open_session, replay
from src_core.types import PlaneRef
from tests.src_core.sessions import script

Z0, Z2 = PlaneRef("z", 0), PlaneRef("z", 2)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    session = open_session(script.volume(), tmp_path / "cells.sam.zarr")
    session.accept(Z0, script.round_at(10, 10), 1)
    session.select(2)
    session.accept(Z0, script.round_at(30, 30), 2)
    return session


def _slowly(
    session: Session, monkeypatch: pytest.MonkeyPatch, name: str, index: int | None = None
) -> threading.Event:
    """Let a method of the labels take long on the worker's thread; returns the event that it has begun.

    With an `index`, only on that slice.
    """
    begun, method = threading.Event(), getattr(session.labels, name)

    def slow(*args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "worker" and index in (None, *args[1:2]):
            begun.set()
            time.sleep(0.15)
        return method(*args, **options)

    monkeypatch.setattr(session.labels, name, slow)
    return begun


def _replayed(session: Session, folder: Path) -> np.ndarray:
    session.flush()
    return np.asarray(replay(folder / "cells.sam.zarr", folder / "again.zarr").labels.array[:])


def _step(session: Session, edit: Edit, plane: PlaneRef) -> None:
    session.write_step(edit, plane, {1: script.round_at(20, 20)}, {1: 0.5})


def _drafts(session: Session, edit: Edit, plane: PlaneRef) -> None:
    session.write_drafts(edit, plane, {1: script.round_at(20, 20)})


def _clear(session: Session, edit: Edit, plane: PlaneRef) -> None:
    session.clear_step(edit, plane, 1)


@pytest.mark.parametrize("write", [_step, _drafts, _clear])
def test_a_stroke_while_its_slice_is_written_is_neither_lost_nor_left_behind(
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Session, Edit, PlaneRef], None],
) -> None:
    if write is _clear:
        with session.edit("propagate object 1") as edit:
            for z in (1, 2, 3):
                session.write_step(edit, PlaneRef("z", z), {1: script.round_at(30, 10)}, {1: 0.5})
    begun = _slowly(session, monkeypatch, "read_plane", 2)

    def work() -> None:
        with session.edit("propagate object 1") as edit:
            for z in (1, 2, 3):
                write(session, edit, PlaneRef("z", z))

    worker = threading.Thread(target=work, name="worker")
    worker.start()
    assert begun.wait(10)
    box, before = (15, 15, 20, 20), np.zeros((5, 5), np.uint32)
    session.labels.array[2, 15:20, 15:20] = 1  # napari paints first, and tells then
    session.record([(Z2, box, before, before + 1)])
    worker.join()
    assert Z2 in session.objects[1].anchors and Z2 not in session.objects[1].scores
    own = np.asarray(session.labels.array[2]) == 1
    assert own[15:20, 15:20].all()
    assert own.sum() == 25 + (write is _clear) * script.round_at(30, 10).sum()
    assert np.array_equal(_replayed(session, tmp_path), session.labels.array[:])
    while session.undo():
        pass
    assert not np.asarray(session.labels.array[:]).any()


def test_a_name_given_during_a_slow_undo_is_kept_by_the_journal_as_in_the_window(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(session, 1, [2])
    begun = _slowly(session, monkeypatch, "read_box")
    worker = threading.Thread(target=session.undo, name="worker")
    worker.start()
    assert begun.wait(10)
    session.rename(1, "left")
    worker.join()
    found = script.state(session)
    assert session.objects[1].name == "left" and sorted(session.objects) == [1, 2]
    session.close()
    again = open_session(script.volume(), tmp_path / "cells.sam.zarr")
    assert script.state(again) == found
    again.close()
