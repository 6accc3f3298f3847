"""One process at a time may change a session."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from src_core.errors import SessionError
from src_core.locks import hold, keep, let_go, named, note, owner_of, sign


class SessionLock:
    """A file that says which process has the session.

    The operating system holds the lock itself, and lets go of it when the process ends in whatever way, even if
    a child that it has forked lives on: what a process that died has left is taken over. What another computer has
    left over a network is not, since nobody here can tell whether it is still at work.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._pid = 0

    def acquire(self) -> None:
        """Take the session.

        Raises
        ------
        SessionError
            Another process has it.
        OSError
            The file cannot be made.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            owner = owner_of(fd)
            try:
                hold(fd)
            except OSError:
                raise self._taken(owner, "close it there to go on here") from None
            if owner.get("host", socket.gethostname()) != socket.gethostname():
                raise self._taken(owner, f"close it there; if it is not at work any more, delete {self.path}")
            sign(fd)
        except BaseException:
            os.close(fd)
            raise
        keep(fd)
        self._fd, self._pid = fd, os.getpid()

    def release(self) -> None:
        """Let go of the session."""
        fd, self._fd = self._fd, None
        if fd is not None and self._pid == os.getpid():  # not in a forked child
            note(fd, {})
            let_go(fd)

    def _taken(self, owner: dict[str, Any], what: str) -> SessionError:
        return SessionError(
            f"the session in {self.path.parent} is open in another window ({named(owner)}): here it can only be "
            f"looked at; {what}"
        )
