"""Sessions begun, and sessions gone on with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from src_core.beside import JOURNAL, folder_beside, session_beside
from src_core.errors import SessionError
from src_core.history import Patch
from src_core.labels import LabelVolume
from src_core.labels.census import Census
from src_core.labels.files import disk_errors
from src_core.session.entries import (
    CLOSE,
    FORMAT,
    OPEN,
    VERSION,
    booted,
    found_entry,
    open_entry,
    set_entry,
)
from src_core.session.journal import COMPLETE, Journal, refusal
from src_core.session.loading import Lines, Reader, read_lines
from src_core.session.lock import SessionLock
from src_core.session.session import Session
from src_core.session.state import StateChange
from src_core.types import PlaneRef
from src_core.volumes import Volume
from src_core.volumes.fingerprint import chunk_grid, data_fingerprint, fingerprint_grid

LOCK = "lock"
SAME_BOOT_S = 120
"""Clocks are set right now and then: starts of a computer that differ by less are one."""


def open_session(volume: Volume, folder: str | Path | None = None) -> Session:
    """Open the session of an image, or begin one: `labels/objects` and `session/journal.jsonl` in one folder.

    Objects, anchors, prompts, scores and the history are those that were there when the session was closed, or
    its process killed. `Session.problem` says if it cannot be written down, `Session.read_only` if another
    process has it open.

    Parameters
    ----------
    volume
        The image.
    folder
        `<image>.sam.zarr` beside the image by default.

    Raises
    ------
    SessionError
        The journal is damaged, of another version or of another image; or there is no place for it.
    VolumeError
        The labels that are there cannot be used.
    """
    if folder is None:
        if volume.path is None:
            raise SessionError(
                f"{volume.name} is not a file on this computer; name a folder for its session: "
                "open_session(volume, folder)"
            )
        folder = folder_beside(volume.path)
    path = Path(folder) / "labels" / "objects"
    existed = path.exists()
    if not existed:
        with disk_errors(f"make the folder {path.parent}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        LabelVolume.create(path, volume, name="objects")
    session = Session(volume, LabelVolume.open(path), ids=())
    if existed:
        go_on(session, Path(folder) / "session")
    else:
        begin_anew(session, Path(folder) / "session")
    return session


def go_on(session: Session, folder: Path | None = None) -> bool:
    """Keep a journal of a session that has just been made; go on with the one that is there, and say if one was.

    Objects that only the labels know are adopted, which reads every chunk where there is no journal.

    Parameters
    ----------
    session
        With its labels, and nothing done in it yet.
    folder
        Where the journal is; beside the labels by default, and nowhere for labels that lie elsewhere.

    Raises
    ------
    SessionError, VolumeError
        As `open_session`. The session can be used all the same, without a journal.
    """
    folder = session_beside(session.labels.path) if folder is None else folder
    if folder is None:
        _adopt(session)
        return False
    lock = _take(session, folder)
    try:
        return _with_lock(session, folder / JOURNAL, lock)
    except BaseException:
        if lock is not None:
            lock.release()
        _adopt(session)
        raise


def begin_anew(session: Session, folder: Path | None = None) -> None:
    """Keep a journal of a session whose labels are new and empty; one of labels that are gone is set aside.

    Reads nothing of the image and does not wait: for the thread of a window.
    """
    folder = session_beside(session.labels.path) if folder is None else folder
    if folder is None:
        return
    lock = _take(session, folder)
    if lock is None:
        return
    path = folder / JOURNAL
    if path.exists():
        path.rename(path.with_name(f"journal-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"))
    _begin(session, path, lock)


def _take(session: Session, folder: Path) -> SessionLock | None:
    """Lock a session; None if another process has it, or nothing can be written there."""
    lock = SessionLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except SessionError as error:
        session.read_only = str(error)
        session.labels = LabelVolume.open(session.labels.path, "r")
        session.census = Census(session.labels)
        return None
    except OSError as error:
        session.problem = refusal(folder / JOURNAL, error)
        return None
    return lock


def _adopt(session: Session) -> None:
    if ids := session.labels.object_ids():
        session.adopt(ids)


def _with_lock(session: Session, path: Path, lock: SessionLock | None) -> bool:
    lines = read_lines(path)
    if lines is None:
        _adopt(session)
        if lock is not None:
            _begin(session, path, lock)
        return False
    check_image(path, lines.header, session.volume)
    scan = _load(session, path, lines, writable=lock is not None)
    if lock is not None:
        journal = Journal(path, lines.size, lock=lock)
        journal.append(open_entry(OPEN))
        session.keep(journal)
    if scan:
        session.adopt_unknown(session.labels.object_ids())
    return True


def _begin(session: Session, path: Path, lock: SessionLock) -> None:
    """Write down what a session has before its journal begins: its objects, and the labels that are there."""
    journal = Journal(path, 0, lambda: header_of(session), lock)
    session.forget_history()  # the journal does not know it
    journal.append(set_entry("begin", [StateChange(key, None, value) for key, value in session.snapshot()]))
    for patch in found_labels(session.labels):
        journal.append(found_entry(patch))
    journal.append(open_entry(OPEN))
    session.keep(journal)


def _load(session: Session, path: Path, lines: Lines, *, writable: bool) -> bool:
    """Give a session what its journal says; say whether the labels may hold objects it does not know."""
    reader = Reader()
    opened = max((i for i, e in enumerate(lines.entries) if e.get("do") == OPEN), default=0)
    clean = any(e.get("do") == CLOSE for e in lines.entries[opened:])
    complete = path.with_name(COMPLETE).exists()
    repair = writable and complete and not clean and not session.labels.array.read_only
    # What a killed process has written stays; of what a computer wrote that was switched off, nobody knows.
    redo = repair and abs(lines.entries[opened].get("booted", 0) - booted()) > SAME_BOOT_S
    for i, entry in enumerate(lines.entries):
        reader.read(entry, session.labels if redo and i >= opened else None)
    if repair:
        reader.land(session.labels)
    reader.finish()
    session.take_over(reader.table, reader.history, reader.last_edit)
    return not (complete and clean)


def check_image(path: Path, header: dict[str, Any], volume: Volume) -> None:
    """Raise `SessionError` unless a journal is that of this image."""
    known, now = header.get("image", {}), image_json(volume)
    for what in ("axes", "shape"):
        if known.get(what) != now[what]:
            raise SessionError(
                f"the session in {path.parent} belongs to an image with {what} {known.get(what)}, this one has "
                f"{now[what]}: open the image it belongs to, or move {path.parent} away to start anew; the labels "
                "stay"
            )
    if known.get("fingerprint") != data_fingerprint(volume, _grid(known, volume)):
        raise SessionError(
            f"the session in {path.parent} belongs to an image of the same size with other pixels "
            f"({known.get('name')}): open the image it belongs to, or move {path.parent} away to start anew; the "
            "labels stay"
        )


def _grid(known: dict[str, Any], volume: Volume) -> list[int]:
    """Return the blocks of a journal's fingerprint; journals of earlier versions name none: those of the chunks."""
    grid = known.get("fingerprint grid")
    sound = (
        isinstance(grid, list) and len(grid) == volume.ndim and all(type(n) is int and n > 0 for n in grid)
    )
    return grid if isinstance(grid, list) and sound else chunk_grid(volume)


def header_of(session: Session) -> dict[str, Any]:
    """Return the first line of a session's journal; reads blocks of the image for its fingerprint."""
    from src_core import __version__

    volume = session.volume
    image = image_json(volume) | {
        "fingerprint": data_fingerprint(volume),
        "fingerprint grid": fingerprint_grid(volume),
    }
    return {
        "journal": FORMAT,
        "version": VERSION,
        "program": __version__,
        "at": round(time.time(), 3),
        "image": image,
        "labels": {"dtype": str(session.labels.dtype), "path": str(session.labels.path.absolute())},
    }


def image_json(volume: Volume) -> dict[str, Any]:
    """Return what a journal says of its image, without the fingerprint."""
    return {
        "name": volume.name,
        "path": None if volume.path is None else str(volume.path.absolute()),
        "axes": "".join(volume.axes),
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "scale": dict(volume.scale),
        "translate": dict(volume.translate),
        "units": dict(volume.units),
    }


def found_labels(labels: LabelVolume) -> Iterator[Patch]:
    """Yield all that is in a label volume, as if it were drawn on nothing."""
    axes, sliced = labels.axes, len(labels.spatial_axes) == 3
    for start, block in labels.stored():
        at = dict(zip(axes, start, strict=True))
        planes = [a for a in axes if a not in "yx"]
        for inner in np.ndindex(*(block.shape[axes.index(a)] for a in planes)):
            offset = dict(zip(planes, inner, strict=True))
            ids = block[tuple(offset.get(a, slice(None)) for a in axes)].astype(np.uint32)
            if ids.any():
                y, x, (height, width) = at["y"], at["x"], ids.shape
                index = at["z"] + offset["z"] if sliced else 0
                t = at["t"] + offset["t"] if "t" in offset else 0
                box = (y, x, y + height, x + width)
                yield Patch.of(PlaneRef("z" if sliced else None, index, t), box, np.zeros_like(ids), ids)
