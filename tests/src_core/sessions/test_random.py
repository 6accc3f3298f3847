"""Random sequences of all that changes a session: undone and done again, opened again and replayed, it is the same."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.errors import SessionError
from src_core.session import Session, open_session, replay
from src_core.session.as_json import blank
from tests.src_core.sessions import script

STEPS = 36


def _refused(session: Session, rng: np.random.Generator, patch: pytest.MonkeyPatch) -> None:
    """Undo or redo on a disk that is full after a few slices; now and then at once again."""
    left, write = [int(rng.integers(3))], session.labels.write_box

    def full(*args: Any, **options: Any) -> None:
        if not left[0]:
            raise SessionError("the disk is full")
        left[0] -= 1
        write(*args, **options)

    with patch.context() as broken, contextlib.suppress(SessionError):
        broken.setattr(session.labels, "write_box", full)
        _either(session, rng)
    if rng.random() < 0.5:
        _either(session, rng)


def _either(session: Session, rng: np.random.Generator) -> None:
    (session.undo if rng.random() < 0.5 else session.redo)()


def _check(session: Session, folder: Path, copy: Path) -> None:
    session.flush()
    assert set(session.labels.object_ids()) <= set(session.objects)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    for lock in (copy / "session").glob("*lock*"):
        lock.unlink()  # its process is dead
    again = open_session(script.volume(), copy)
    found = script.state(again)
    assert found == script.state(session)
    undone = 0
    while again.undo():
        undone += 1
    assert not np.asarray(again.labels.array[:]).any()
    for _ in range(undone):
        again.redo()
        assert set(again.labels.object_ids()) <= set(again.objects)
    assert _lasting(script.state(again)) == _lasting(found)
    again.close()
    labels = replay(folder, copy.with_name("replayed.zarr"), overwrite=True).labels
    assert np.array_equal(labels.array[:], session.labels.array[:])


def _lasting(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is no part of the history: the current object, and those for which nothing was done."""
    objects = {i: o for i, o in state["objects"].items() if o != blank(i)}
    return {**state, "objects": objects, "current": None}


QUICK = (2, 4)
SLOW = [
    pytest.param(k, marks=[pytest.mark.slow, pytest.mark.timeout(300)]) for k in range(40) if k not in QUICK
]


@pytest.mark.parametrize("seed", [*QUICK, *SLOW])
def test_whatever_was_done_can_be_undone_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    folder, rng = tmp_path / "cells.sam.zarr", np.random.default_rng(seed)
    session = open_session(script.volume(), folder)
    for number in range(STEPS):
        what = rng.random()
        with contextlib.suppress(SessionError):  # nothing is written before the rest of an undo
            if what < 0.1:
                session.new_object()
            elif what < 0.2:
                _refused(session, rng, monkeypatch)
            else:
                script.step(session, 10_000 * (seed + 1) + number)
        if number % 4 == 0:
            while session._landing is not None:
                _either(session, rng)
            _check(session, folder, tmp_path / "copy")
        if what > 0.95:
            session.close()
            session = open_session(script.volume(), folder)
    session.close()
