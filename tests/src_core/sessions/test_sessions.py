"""Journals: what they bring back, what they refuse, and what happens when the disk does."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from src_core.errors import SessionError
from src_core.labels import LabelVolume, files
from src_core.session import DrawnPrompts, Session, go_on, open_session, replay
from src_core.session import journal as journal_module
from src_core.session.opening import SAME_BOOT_S
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume
from src_core.volumes.fingerprint import data_fingerprint
from tests.src_core.image_files import write_ome_zarr
from tests.src_core.sessions import script

Z2, Z3 = PlaneRef("z", 2), PlaneRef("z", 3)
ROOT = Path(__file__).parents[3]


def mask(y0: int = 2, x0: int = 3, y1: int = 12, x1: int = 15) -> np.ndarray:
    found = np.zeros(script.SHAPE[1:], bool)
    found[y0:y1, x0:x1] = True
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cells.sam.zarr"


def _open(folder: Path, volume: Volume | None = None) -> Session:
    return open_session(volume or script.volume(), folder)


def _journal(folder: Path) -> Path:
    return folder / "session" / "journal.jsonl"


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _journal(folder).read_text().splitlines()]


def _abandon(session: Session) -> None:
    """Leave a session like a killed process: all is in the file, and nothing says that it was closed."""
    journal, session.journal = session.journal, None
    assert journal is not None
    journal.close()


def _worked(folder: Path, steps: int = 40) -> tuple[dict[str, Any], np.ndarray]:
    session = _open(folder)
    for number in range(steps):
        script.step(session, number)
    found = script.state(session), np.asarray(session.labels.array[:])
    session.close()
    return found


def test_a_session_goes_on_with_everything_where_it_was_left(folder: Path) -> None:
    session = _open(folder)
    session.accept(Z2, mask())
    session.note(
        "prompt", prompts={1: DrawnPrompts(((2.0, 4.0, 5.0),), (1,), (("path", ((2.0, 1.0, 1.0),)),))}
    )
    session.rename(1, "nucleus")
    session.new_object()
    with session.edit("propagate") as edit:
        session.write_step(edit, Z3, {2: mask(20, 20, 30, 30)}, {2: 0.25})
    session.set_done(2)
    before = script.state(session)
    session.close()
    again = _open(folder)
    assert script.state(again) == before and again.problem is None and not again.read_only
    first, second = again.objects[1], again.objects[2]
    assert first.anchors == {Z2} and first.name == "nucleus" and first.prompts.points == ((2.0, 4.0, 5.0),)
    assert first.prompts.shapes == (("path", ((2.0, 1.0, 1.0),)),)
    assert second.scores == {Z3: 0.25} and second.done and again.current == 2
    again.close()


def test_undo_and_redo_reach_back_over_restarts(folder: Path) -> None:
    before, labels = _worked(folder)
    session, names = _open(folder), []
    while name := session.undo():
        names.append(name)
    assert len(names) > 10 and not np.asarray(session.labels.array[:]).any()
    assert not any(o.anchors or o.scores or o.prompts for o in session.objects.values())
    session.close()
    session = _open(folder)
    assert [session.redo() for _ in names] == names[::-1]
    assert np.array_equal(session.labels.array[:], labels)
    after = script.state(session)
    assert after["done"] == before["done"] and after["undone"] == before["undone"]
    session.close()


def test_hundreds_of_steps_are_undone_after_a_restart(folder: Path) -> None:
    session = _open(folder)
    states = [np.asarray(session.labels.array[:])]
    rng = np.random.default_rng(5)
    for _ in range(200):
        script.accept(session, 1, rng)
        states.append(np.asarray(session.labels.array[:]))
    _abandon(session)
    session = _open(folder)
    for k in range(199, -1, -1):
        assert session.undo() == "accept object 1"
        assert k % 20 or np.array_equal(session.labels.array[:], states[k])
    assert session.undo() is None
    for _ in range(200):
        assert session.redo()
    assert np.array_equal(session.labels.array[:], states[-1])
    session.close()


@pytest.mark.parametrize("step", [script.accept, script.propagate, script.delete, script.prompt])
def test_a_line_that_was_cut_off_anywhere_is_as_if_it_had_not_been_begun(folder: Path, step: Any) -> None:
    rng = np.random.default_rng(0)
    session = _open(folder)
    script.accept(session, 1, rng)
    script.propagate(session, 1, rng)
    before = script.state(session)
    session.flush()
    kept = _journal(folder).read_bytes()
    step(session, 1, rng)
    _abandon(session)
    whole = _journal(folder).read_bytes()
    (folder / "session" / "lock").unlink()
    end = whole.index(b"\n", len(kept))
    for size in {len(kept), len(kept) + 1, (len(kept) + end) // 2, end - 1, end}:
        _journal(folder).write_bytes(whole[:size])
        session = _open(folder)
        assert {**script.state(session), "labels": before["labels"]} == before
        session.rename(1, "after the crash")
        session.close()
        assert _lines(folder)[-3]["do"] == "rename object 1"


def test_an_import_that_was_cut_off_leaves_no_empty_objects_behind(folder: Path) -> None:
    session = _open(folder)
    made = session.add_objects([None] * 4)
    with session.edit("objects from seeds") as edit:
        session.write_drafts(edit, Z2, {made[0].id: mask()})
        session.rename(made[1].id, "the user has seen it")
        _abandon(session)
    again = _open(folder)
    assert sorted(again.objects) == [1, made[0].id, made[1].id] and again.undo() == "rename object 3"
    assert again.undo() == "objects from seeds"
    assert sorted(again.objects) == [1, made[1].id]
    made = again.add_objects([None] * 2)
    again.withdraw([])  # the import has ended: what is there stays
    _abandon(again)
    assert {o.id for o in made} <= set(_open(folder).objects)


def test_zeros_at_the_end_are_cut_off_too(folder: Path) -> None:
    found, _ = _worked(folder, 10)
    with _journal(folder).open("ab") as file:
        file.write(bytes(5000))
    session = _open(folder)
    assert script.state(session) == found
    session.close()
    assert b"\0" not in _journal(folder).read_bytes()


def test_labels_that_a_killed_process_did_not_get_to_write_are_written_on_opening(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _open(folder)
    session.accept(Z2, mask())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # The line is in the journal, the labels are not: as if the process had been killed in between.
        patch.setattr(session, "_take_back", lambda edit: None)
        patch.setattr(session, "_log", _until_it_writes(session))
        patch.setattr(session.labels, "write_box", _interrupt)
        session.accept(Z3, mask())
    _abandon(session)
    assert not LabelVolume.open(folder / "labels" / "objects").read_plane("z", 3).any()
    again = _open(folder)
    assert np.array_equal(again.labels.read_plane("z", 3) == 1, mask()) and Z3 in again.objects[1].anchors
    assert again.undo() == "accept object 1" and not again.labels.read_plane("z", 3).any()
    again.close()


def _until_it_writes(session: Session) -> Any:
    log = session._log
    return lambda entry: None if entry.get("end") else log(entry)


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_undo_that_was_cut_off_is_finished_on_opening_and_only_once(folder: Path) -> None:
    rng = np.random.default_rng(0)
    session = _open(folder)
    script.propagate(session, 1, rng)
    full = np.asarray(session.labels.array[:])
    session.undo()
    _abandon(session)
    lines = _journal(folder).read_bytes().splitlines(keepends=True)
    assert json.loads(lines[-1]) == {"undo": 1, "end": True}
    _journal(folder).write_bytes(b"".join(lines[:-1]))
    labels = LabelVolume.open(folder / "labels" / "objects")
    labels.write_box("z", 3, (0, 0, *script.SHAPE[1:]), full[3])  # one slice had not been undone
    session = _open(folder)
    assert not np.asarray(session.labels.array[:]).any() and session.redo_name == "propagate object 1"
    session.redo()
    assert np.array_equal(session.labels.array[:], full)
    _abandon(session)
    assert np.array_equal(_open(folder).labels.array[:], full)


def test_after_a_power_cut_all_labels_since_opening_are_made_sure_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _open(folder)
    session.accept(Z2, mask())
    session.accept(Z3, mask())
    _abandon(session)
    labels = LabelVolume.open(folder / "labels" / "objects")
    labels.write_plane("z", 2, {1: np.zeros_like(mask())})
    later = journal_module.time.time() + 10 * SAME_BOOT_S
    monkeypatch.setattr("src_core.session.opening.booted", lambda: later)
    again = _open(folder)
    assert np.array_equal(again.labels.read_plane("z", 2) == 1, mask())
    again.close()


# -------------------------------------------------------------------- refused


def test_a_journal_of_another_version_is_refused_and_stays(folder: Path) -> None:
    _worked(folder, 5)
    path = _journal(folder)
    changed = path.read_bytes().replace(b'"version":1', b'"version":99', 1)
    path.write_bytes(changed)
    with pytest.raises(SessionError, match=r"version 99 .* reads 1: update .* or move the file away"):
        _open(folder)
    assert path.read_bytes() == changed
    path.unlink()
    _open(folder).close()  # what the message says to do, works: the lock was let go of


def test_a_journal_of_another_image_is_refused(folder: Path) -> None:
    _worked(folder, 5)
    other = np.random.default_rng(2).integers(0, 255, script.SHAPE, np.uint8)
    with pytest.raises(SessionError, match=r"other pixels .* move .*session away to start anew"):
        _open(folder, open_volume(other))
    session = Session(open_volume(other[:5]), LabelVolume.create(folder.parent / "l", open_volume(other[:5])))
    with pytest.raises(SessionError, match=r"shape \[8, 40, 48\], this one has \[5, 40, 48\]"):
        go_on(session, folder / "session")
    session.accept(Z2, mask())  # it can be used all the same


CHUNKS = [(1, 40, 48), (4, 16, 20), (8, 40, 7)]


@pytest.mark.parametrize("made", CHUNKS)
@pytest.mark.parametrize("now", [*CHUNKS, None])
def test_a_session_does_not_care_how_the_pixels_are_stored(
    folder: Path, tmp_path: Path, made: tuple[int, ...], now: tuple[int, ...] | None
) -> None:
    pixels = np.asarray(script.volume().array[:])

    def stored(chunks: tuple[int, ...] | None, pixels: np.ndarray) -> Volume:
        if chunks is None:
            return open_volume(pixels)
        return open_volume(
            zarr.create_array(tmp_path / f"{chunks}.zarr", data=pixels, chunks=chunks, overwrite=True)
        )

    session = _open(folder, stored(made, pixels))
    session.accept(Z2, mask())
    session.close()
    again = _open(folder, stored(now, pixels))
    assert again.objects[1].anchors == {Z2}
    again.close()
    with pytest.raises(SessionError, match="other pixels"):
        _open(folder, stored(now, pixels[::-1].copy()))


@pytest.mark.parametrize("grid", [None, "1", [1, 40], [1, 0, 48], [1, 40.0, 48]])
def test_a_journal_that_names_no_grid_is_that_of_todays_chunks(
    folder: Path, tmp_path: Path, grid: object
) -> None:
    _worked(folder, 5)
    pixels = np.asarray(script.volume().array[:])
    volume = open_volume(zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=(4, 16, 20)))
    header, *lines = _journal(folder).read_text().splitlines()
    fields = json.loads(header)
    assert fields["image"].pop("fingerprint grid") == [1, 40, 48]
    fields["image"]["fingerprint"] = data_fingerprint(volume, [4, 16, 20])
    if grid is not None:
        fields["image"]["fingerprint grid"] = grid
    _journal(folder).write_text("\n".join([json.dumps(fields), *lines, ""]))
    _open(folder, volume).close()


@pytest.mark.parametrize("content", [b"hello\n", b"\x89PNG\r\n", b"[1]\n", b'{"journal":"other"}\n'])
def test_a_file_that_is_no_journal_is_refused_and_stays(folder: Path, content: bytes) -> None:
    _open(folder).close()
    _journal(folder).write_bytes(content)
    with pytest.raises(SessionError, match=r"not a session's journal; move it away"):
        _open(folder)
    assert _journal(folder).read_bytes() == content


def test_damage_in_the_middle_is_not_taken_for_a_crash(folder: Path) -> None:
    _worked(folder, 10)
    lines = _journal(folder).read_bytes().splitlines(keepends=True)
    lines[4] = b"\0" * len(lines[4][:-1]) + b"\n"
    _journal(folder).write_bytes(b"".join(lines))
    with pytest.raises(SessionError, match=r"line 5 of .* is damaged, and others follow"):
        _open(folder)
    lines[4] = b'{"undo":77}\n'
    _journal(folder).write_bytes(b"".join(lines))
    with pytest.raises(SessionError, match=r"makes no sense.*edit 77"):
        _open(folder)


# ------------------------------------------------------------------- the disk


def test_a_full_disk_is_told_of_once_and_costs_nothing_once_there_is_room(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", 0.05)
    session, told = _open(folder), []
    session.troubled.connect(told.append)
    session.flush()
    full, write = [True], os.write

    def refuse(fd: int, data: Any) -> int:
        if full[0] and session.journal is not None and fd == session.journal._fd:
            if len(data) > 20:
                return write(fd, data[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    monkeypatch.setattr(journal_module.os, "write", refuse)
    before = _journal(folder).read_bytes()
    for number in range(15):
        script.step(session, number)
    session.flush()
    assert (
        len(told) == 1 and "No space left" in str(told[0]) and "labels are saved all the same" in str(told[0])
    )
    assert _journal(folder).read_bytes() == before, "half a line is taken back"
    assert not (folder / "session" / "complete").exists()
    full[0] = False
    state = script.state(session)
    session.close()
    assert (folder / "session" / "complete").exists() and len(told) == 1
    session = _open(folder)
    assert script.state(session) == state
    session.close()


def test_labels_written_while_the_disk_refused_the_journal_stay_as_they_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _open(folder)
    session.accept(Z2, mask())
    session.flush()
    fd = session.journal._fd if session.journal is not None else -1
    write = os.write

    def refuse(at: int, data: Any) -> int:
        if at == fd:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(at, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", refuse)
        session.undo()
        session.select(7)
        session.accept(Z3, mask(), 7)
        labels = np.asarray(session.labels.array[:])
        _abandon(session)
    again = _open(folder)
    assert np.array_equal(again.labels.array[:], labels), "what the journal missed is not undone"
    assert set(again.objects) == {1, 7}
    again.close()


def test_a_folder_that_cannot_hold_a_journal_costs_only_the_journal(folder: Path) -> None:
    folder.mkdir()
    (folder / "session").write_text("in the way")
    session = _open(folder)
    assert session.problem is not None and "cannot be written down" in str(session.problem)
    session.accept(Z2, mask())
    session.close()
    assert (LabelVolume.open(folder / "labels" / "objects").read_plane("z", 2) == 1).sum() == mask().sum()


def test_a_mask_that_the_disk_refuses_is_no_anchor_and_not_in_the_journal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _open(folder)

    def full(*_: Any, **__: Any) -> None:
        raise SessionError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(SessionError, match="full"):
        patch.setattr(session.labels, "write_box", full)
        session.accept(Z2, mask())
    assert session.objects[1].anchors == set() and session.undo_name is None
    session.accept(Z3, mask())
    state = script.state(session)
    _abandon(session)
    again = _open(folder)
    assert script.state(again) == state
    assert np.array_equal(replay(folder, folder.parent / "r.zarr").labels.array[:], again.labels.array[:])
    again.close()


def test_nobody_waits_for_a_slow_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = _open(folder)
    session.flush()
    syncing, go, fsync = threading.Event(), threading.Event(), os.fsync

    def slowly(fd: int) -> None:
        syncing.set()
        assert go.wait(20)
        fsync(fd)

    monkeypatch.setattr(journal_module.os, "fsync", slowly)
    session.rename(1, "a")
    assert syncing.wait(10)
    began = time.monotonic()
    for _ in range(50):
        session.note("prompt", prompts={1: DrawnPrompts(((1.0, 1.0, 1.0),), (1,))})
    session.accept(Z2, mask())
    assert time.monotonic() - began < 5
    assert sum(line.get("do") == "prompt" for line in _lines(folder)) == 50, "written, though not yet synced"
    go.set()
    session.close()


def test_lines_are_on_disk_soon_without_anybody_asking(folder: Path) -> None:
    session = _open(folder)
    session.rename(1, "soon")
    end = time.monotonic() + 10
    while not (_journal(folder).exists() and b'"soon"' in _journal(folder).read_bytes()):
        assert time.monotonic() < end
        time.sleep(0.01)
    session.close()


# -------------------------------------------------------------- two at a time

HOLD = """
import sys
from pathlib import Path
from src_core.session import open_session
from tests.src_core.sessions import script
session = open_session(script.volume(), Path(sys.argv[1]))
session.rename(1, "theirs")
session.flush()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_second_process_may_only_look_until_the_first_has_gone(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        mine = _open(folder)
        assert f"open in another window (process {other.pid} on " in mine.read_only
        assert mine.objects[1].name == "theirs"
        size = _journal(folder).stat().st_size
        for work in (
            lambda: mine.accept(Z2, mask()),
            lambda: mine.rename(1, "mine"),
            mine.new_object,
            mine.undo,
            lambda: mine.note("prompt"),
        ):
            with pytest.raises(SessionError, match="only be looked at"):
                work()
        mine.select(1)
        with pytest.raises(SessionError, match="reading only"):
            mine.labels.write_box("z", 0, (0, 0, 1, 1), np.ones((1, 1), np.uint32))
        assert _journal(folder).stat().st_size == size
        other.kill()
    taken = _open(folder)  # its lock has died with it
    assert not taken.read_only and taken.objects[1].name == "theirs"
    taken.accept(Z2, mask())
    taken.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_worker_process_that_outlives_its_parent_does_not_keep_the_session(folder: Path) -> None:
    code = (
        "import os, signal, sys, time, warnings; from pathlib import Path\n"
        "warnings.simplefilter('ignore')\n"
        "from src_core.session.lock import SessionLock\n"
        "lock = SessionLock(Path(sys.argv[1])); lock.acquire()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(1); time.sleep(60); os._exit(0)\n"
        "print(child, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    _open(folder).close()
    lock = folder / "session" / "lock"
    done = subprocess.run([sys.executable, "-c", code, lock], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        session = _open(folder)
        assert not session.read_only
        session.close()
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_two_windows_of_one_process_cannot_share_a_session_either(folder: Path) -> None:
    first = _open(folder)
    second = _open(folder)
    assert second.read_only and not first.read_only
    first.close()
    with pytest.raises(SessionError, match="closed"):
        first.rename(1, "late")
    third = _open(folder)
    assert not third.read_only
    third.close()


def test_a_lock_of_another_computer_is_respected(folder: Path) -> None:
    _open(folder).close()
    lock = folder / "session" / "lock"
    lock.write_text(json.dumps({"pid": 12, "host": "microscope-pc", "since": "yesterday"}))
    session = _open(folder)
    assert "process 12 on microscope-pc since yesterday" in session.read_only
    assert f"delete {lock}" in session.read_only
    lock.unlink()
    assert not _open(folder).read_only


def test_a_session_that_nobody_holds_any_more_is_let_go_of(folder: Path) -> None:
    session = _open(folder)
    session.accept(Z2, mask())
    del session
    again = _open(folder)
    assert not again.read_only and again.objects[1].anchors == {Z2}
    again.close()


# --------------------------------------------------------------------- replay


def test_replay_makes_the_same_labels(folder: Path, tmp_path: Path) -> None:
    _, labels = _worked(folder, 60)
    done: list[tuple[int, int]] = []
    found = replay(folder, tmp_path / "again.ome.zarr", progress=lambda *at: done.append(at))
    assert labels.any() and np.array_equal(found.labels.array[:], labels)
    assert done[-1] == (len(_lines(folder)) - 1,) * 2
    assert LabelVolume.open(tmp_path / "again.ome.zarr").shape == script.SHAPE
    with pytest.raises(SessionError, match="already exists"):
        replay(_journal(folder), tmp_path / "again.ome.zarr")
    replay(_journal(folder).parent, tmp_path / "again.ome.zarr", overwrite=True)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, "a line that makes no sense"])
def test_a_replay_that_is_cut_short_leaves_what_was_there(folder: Path, tmp_path: Path, stop: Any) -> None:
    _worked(folder, 60)
    out = tmp_path / "out.zarr"
    first = replay(folder, out).labels.array[:]
    there = sorted(tmp_path.iterdir())
    half = len(_lines(folder)) // 2

    def progress(done: int, _: int) -> None:
        if done == half and stop is KeyboardInterrupt:
            raise KeyboardInterrupt

    if stop is not KeyboardInterrupt:
        with _journal(folder).open("a") as file:
            file.write('{"undo": 99999}\n')
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else SessionError):
        replay(folder, out, overwrite=True, progress=progress)
    assert np.array_equal(LabelVolume.open(out).array[:], first)
    assert sorted(tmp_path.iterdir()) == there


_DIE_REPLAYING = """
import os, signal, sys
from pathlib import Path
from src_core.labels import files
from src_core.session import replay
session, out, moment = sys.argv[1:]
rename = os.rename
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def rename_and_die(*paths):
    rename(*paths)
    die()
if moment == "between the renames":
    files.os.rename = rename_and_die
replay(session, out, overwrite=True, progress=die if moment == "while it goes" else None)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills like that here")
@pytest.mark.parametrize("moment", ["while it goes", "between the renames"])
def test_what_a_killed_replay_has_left_is_removed_by_the_next_but_not_that_of_one_at_work(
    folder: Path, tmp_path: Path, moment: str
) -> None:
    _worked(folder, 30)
    out = tmp_path / "out.zarr"
    first = replay(folder, out).labels.array[:]
    there = sorted(tmp_path.iterdir())
    killed = subprocess.run([sys.executable, "-c", _DIE_REPLAYING, folder, out, moment], timeout=60)
    assert killed.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) > len(there)
    with files.aside(out) as at_work:
        at_work.mkdir()
        with pytest.raises(SessionError, match="already exists"):
            replay(folder, out)
        assert np.array_equal(LabelVolume.open(out).array[:], first), "it has its name again"
        assert at_work.is_dir()
    assert sorted(tmp_path.iterdir()) == there


def test_replay_without_a_session_says_so(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"no session in .*IMAGE\.sam\.zarr"):
        replay(tmp_path, tmp_path / "out.zarr")
    (tmp_path / "journal.jsonl").write_bytes(b'{"jour')
    with pytest.raises(SessionError, match="nothing was done"):
        replay(tmp_path, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_labels_from_before_the_journal_are_part_of_it(tmp_path: Path, folder: Path) -> None:
    volume = script.volume()
    before = LabelVolume.create(folder / "labels" / "objects", volume)
    before.write_plane("z", 3, {9: mask(20, 20, 33, 40)})
    session = Session(volume, before, ids=before.object_ids())
    assert not go_on(session)
    session.accept(Z3, mask(0, 0, 25, 30), 9)
    labels = np.asarray(session.labels.array[:])
    session.close()
    assert np.array_equal(replay(folder, tmp_path / "r.zarr").labels.array[:], labels)
    again = Session(volume, LabelVolume.open(before.path), ids=())
    assert go_on(again) and set(again.objects) == {9}
    again.undo()
    assert (again.labels.read_plane("z", 3) == 9).sum() == 13 * 20
    again.close()


def test_labels_that_were_taken_away_make_room_for_a_new_journal(folder: Path, tmp_path: Path) -> None:
    _, labels = _worked(folder)
    (folder / "labels" / "objects").rename(tmp_path / "away")
    session = _open(folder)
    assert list(session.objects) == [1] and session.undo_name is None
    session.close()
    (old,) = (folder / "session").glob("journal-*.jsonl")
    assert np.array_equal(replay(old, tmp_path / "back.zarr").labels.array[:], labels), "nothing is lost"


def test_a_session_lies_beside_its_image_with_its_scale_and_axes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 20, 24), np.uint8)
    image = write_ome_zarr(tmp_path / "cells.ome.zarr", [pixels], axes="czyx", scale=[1.0, 2.0, 0.5, 0.5])
    session = open_session(open_volume(image))
    plane = PlaneRef("y", 7)
    drawn = np.zeros((3, 24), bool)
    drawn[1:, 4:9] = True
    session.accept(plane, drawn)
    labels = np.asarray(session.labels.array[:])
    session.close()
    assert (tmp_path / "cells.sam.zarr" / "session" / "journal.jsonl").is_file()
    found = replay(tmp_path / "cells.sam.zarr", tmp_path / "out.ome.zarr").labels
    assert np.array_equal(found.array[:], labels) and found.axes == ("z", "y", "x")
    assert [found.scale[a] for a in "zyx"] == [2.0, 0.5, 0.5]
    group = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    assert "image-label" in group.attrs["ome"]
    with pytest.raises(SessionError, match="name a folder"):
        open_session(script.volume())
