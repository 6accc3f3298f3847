"""A process that dies between any two lines of the journal, or right after one whose labels are not written yet."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from src_core.session import open_session
from src_core.session.journal import Journal
from tests.src_core.sessions import script
from tests.src_core.sessions.test_killed import HALVES, STEPS, check_half_done


class Camera:
    """Copies the folder of a session before and after every line of the journal, while it is on."""

    def __init__(self, folder: Path, album: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.album, self.on = folder, album, False
        self.pictures: list[Path] = []
        put, append = Journal._put, Journal.append

        def put_and_look(journal: Journal, data: bytes) -> None:
            self._take()
            put(journal, data)
            self._take()

        def append_and_wait(journal: Journal, entry: dict[str, Any]) -> None:
            append(journal, entry)
            if self.on:
                journal.flush()

        patch.setattr(Journal, "_put", put_and_look)
        patch.setattr(Journal, "append", append_and_wait)

    def _take(self) -> None:
        if self.on:
            picture = self.album / str(len(self.pictures))
            shutil.copytree(self.folder, picture)
            self.pictures.append(picture)

    def watch(self, session: Any, number: int) -> None:
        """Do one step of the script and keep what the folder looked like at every line."""
        self.pictures.clear()
        shutil.rmtree(self.album, ignore_errors=True)
        self.album.mkdir()
        session.flush()
        self.on = True
        self._take()
        script.step(session, number)
        session.flush()
        self._take()
        self.on = False


def _opened(folder: Path) -> Any:
    for lock in (folder / "session").glob("*lock*"):
        lock.unlink()  # its process is dead
    return open_session(script.volume(), folder)


def _state(folder: Path, copy: Path) -> dict[str, Any]:
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    session = _opened(copy)
    found = script.state(session)
    session.close()
    return found


@pytest.mark.parametrize(
    "first",
    [0, *(pytest.param(60 * k, marks=[pytest.mark.slow, pytest.mark.timeout(300)]) for k in range(1, 15))],
)
def test_what_a_step_has_half_done_is_undone_whole_wherever_the_process_died(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cells.sam.zarr"
    camera = Camera(folder, tmp_path / "album", monkeypatch)
    session = open_session(script.volume(), folder)
    halves = 0
    for number in range(first, first + STEPS):
        kind = script.kind(number)
        if kind not in HALVES:
            script.step(session, number)
            continue
        camera.watch(session, number)
        states = [_state(camera.pictures[k], tmp_path / "copy") for k in (0, -1)]
        for picture in camera.pictures[1:-1]:
            again = _opened(picture)
            found = script.state(again)
            if found not in states:
                check_half_done(again, found, *states, kind)
                halves += 1
            again.close()
    session.close()
    assert halves > 20, "nothing was half done: nothing was tested"
