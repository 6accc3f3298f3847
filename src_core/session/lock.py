"""One process at a time may change a session."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from src_core.errors import SessionError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_BEHIND_IT = 2**20
"""Windows locks bytes against reading as well: this one is behind what the file says."""


class SessionLock:
    """A file that says which process has the session.

    The operating system holds the lock itself, and lets go of it when the process ends in whatever way: what
    a process that died has left is taken over. What another computer has left over a network is not, since
    nobody here can tell whether it is still at work.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

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
            owner = _owner(fd)
            try:
                _hold(fd)
            except OSError:
                raise self._taken(owner, "close it there to go on here") from None
            if owner.get("host", socket.gethostname()) != socket.gethostname():
                raise self._taken(owner, f"close it there; if it is not at work any more, delete {self.path}")
            self._say({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}, fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Let go of the session."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._say({}, fd)
            os.close(fd)

    def _say(self, owner: dict[str, Any], fd: int) -> None:
        try:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, json.dumps(owner).encode() if owner else b"")
        except OSError:
            pass  # a full disk: the lock holds, only its owner stays unnamed

    def _taken(self, owner: dict[str, Any], what: str) -> SessionError:
        who = f"process {owner.get('pid', '?')} on {owner.get('host', 'this computer')}"
        since = f" since {owner['since']}" if "since" in owner else ""
        return SessionError(
            f"the session in {self.path.parent} is open in another window ({who}{since}): here it can only be "
            f"looked at; {what}"
        )


def _owner(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.read(fd, 4096) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _hold(fd: int) -> None:
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(fd, _BEHIND_IT, os.SEEK_SET)
    msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
