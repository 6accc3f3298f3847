"""The file of a session: one line an event, only ever appended to, without anybody waiting for the disk."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psygnal import Signal

from src_core.errors import SamError, SessionError
from src_core.session.lock import SessionLock

RETRY_S = 1.0
"""Time between two attempts to write to a disk that has refused."""
LAST_WORDS_S = 10.0
"""How long closing waits for the disk."""
COMPLETE = "complete"
"""An empty file beside the journal that is there as long as no line is missing: removing it needs no space."""


class Journal:
    """Appends lines to a file from a thread of its own, and has them on disk (fsync) within milliseconds.

    If the disk refuses, lines wait in memory and are tried again; a line is never written in part and left so.

    Parameters
    ----------
    path
        The file; its folder must exist.
    size
        How many bytes of the file count: it is cut there first.
    header
        Makes the first line of a new file; called from the writing thread, since it reads the image.
    lock
        Released at the end.

    Attributes
    ----------
    problem
        Why lines are waiting; None if all is well.
    """

    troubled = Signal(SessionError)
    """Emitted once, from whatever thread noticed it, when the disk refuses for the first time."""

    def __init__(
        self,
        path: Path,
        size: int = 0,
        header: Callable[[], dict[str, Any]] | None = None,
        lock: SessionLock | None = None,
    ) -> None:
        self.path, self._lock = path, lock
        self.problem: SessionError | None = None
        self._size = size
        self._header = header
        self._waiting: list[dict[str, Any]] = []
        self._fd: int | None = None
        self._queue, self._io = threading.Lock(), threading.RLock()
        self._awake = threading.Event()
        self._closing = False
        self._refused_at = -RETRY_S
        self._unsynced = self._told = self._awaited = False
        self._thread = threading.Thread(target=self._run, name="napari-sam journal", daemon=True)
        self._thread.start()

    def append(self, entry: dict[str, Any]) -> None:
        """Queue a line; returns at once, from any thread."""
        with self._queue:
            self._waiting.append(entry)
        self._awake.set()

    def flush(self) -> None:
        """Hand everything queued to the operating system: a process killed from now on has lost none of it."""
        with self._io:
            if time.monotonic() >= self._refused_at + RETRY_S:
                self._write()

    def sync(self) -> None:
        """Flush, and wait until it is on the disk itself."""
        with self._io:
            self.flush()
            if self._fd is not None and self._unsynced:
                self._unsynced = False
                with contextlib.suppress(OSError):
                    os.fsync(self._fd)

    def await_labels(self, waiting: bool) -> bool:
        """Say that nothing is written to the labels until all that is in the file is, or that they have got it.

        As long as they wait, no line can be missing that they know of. Returns whether nothing is missing now.
        """
        with self._io:
            self._awaited = waiting and self.problem is None
            if not waiting and self.problem is not None:
                self._unmark()
            return self.problem is None

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._closing = True
        self._awake.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(LAST_WORDS_S)

    def _run(self) -> None:
        while not self._closing:
            self._awake.wait(RETRY_S if self._waiting else None)
            self._awake.clear()
            self.flush()
            # Outside of the lock: who flushes must not wait for the disk.
            self._fsync()
        with self._io:
            self._write()
            self._fsync()
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            if self._lock is not None:
                self._lock.release()

    def _fsync(self) -> None:
        if self._fd is not None and self._unsynced:
            self._unsynced = False
            try:
                os.fsync(self._fd)
            except OSError as error:
                self._refuse(error)

    def _write(self) -> None:
        with self._queue:
            lines, self._waiting = self._waiting, []
        if not lines:
            return
        try:
            if self._fd is None:
                self._fd = self._open()
            if self._header is not None:
                self._put(line_of(self._header()))
                self._header = None
            self._put(b"".join(line_of(entry) for entry in lines))
            if self.problem is not None or not self._mark.exists():
                self._mark.touch()
                self.problem = None
        except (OSError, SamError) as error:
            with self._queue:
                self._waiting = lines + self._waiting
            self._refuse(error)

    @property
    def _mark(self) -> Path:
        return self.path.with_name(COMPLETE)

    def _open(self) -> int:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        try:
            os.ftruncate(fd, self._size)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _put(self, data: bytes) -> None:
        """Append all of `data` or nothing."""
        left, fd = memoryview(data), self._fd
        if fd is None:
            raise SessionError(f"{self.path} has been closed")
        try:
            while left:
                left = left[os.write(fd, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._size)
            raise
        self._size += len(data)
        self._unsynced = True

    def _refuse(self, error: OSError | SamError) -> None:
        self._refused_at = time.monotonic()
        self.problem = refusal(self.path, error)
        if not self._awaited:
            self._unmark()
        if not self._told:
            self._told = True
            self.troubled.emit(self.problem)

    def _unmark(self) -> None:
        with contextlib.suppress(OSError):
            self._mark.unlink()


def line_of(entry: dict[str, Any]) -> bytes:
    """Return an entry as a line."""
    return json.dumps(entry, separators=(",", ":"), default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    """Return what JSON has no word for as something it has: numpy's numbers and arrays, paths."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def refusal(path: Path, error: Exception) -> SessionError:
    """Return what to tell the user when the session cannot be written down."""
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    return SessionError(
        f"the session cannot be written down in {path}: {why}. Your labels are saved all the same, but undo will "
        "not reach back here after a restart; free some space or make the folder writable"
    )
