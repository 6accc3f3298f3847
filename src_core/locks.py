"""Locks on files: the operating system lets go of them when their process ends, in whatever way."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from src_core.errors import SessionError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_BEHIND_IT = 2**20
"""Windows locks bytes against reading as well: this one is behind what the file says."""
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_TRIES = 20
"""How often a lock is asked for that is being removed at the same moment."""
_PATIENCE_S, _PAUSE_S = 30.0, 0.05
_held: set[int] = set()
"""The files that are locked in this process."""


@contextmanager
def sole_writer(out: str | Path) -> Iterator[bool]:
    """Be the only one, of all runs and processes, that writes to `out` until the end of the block.

    The lock is a hidden file beside `out`, which is removed at the end. A process that is killed leaves the file,
    but not the lock. Where no file can be made, or the disk knows no locks, there is none.

    Parameters
    ----------
    out
        A label image or a folder; need not exist.

    Yields
    ------
    Whether there is a lock: nobody else writes to `out`, or what is there was left by somebody who died.

    Raises
    ------
    SessionError
        Another run writes to it.
    """
    out = Path(out).resolve()
    path = out.with_name(f".{out.name}.lock")
    missing = [p for p in path.parents if not p.exists()]
    fd, pid = _taken(path, out), os.getpid()
    try:
        yield fd is not None
    finally:
        if fd is not None and pid == os.getpid():  # not in a forked child that goes on from here
            _remove(path, fd)
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def in_turn(out: str | Path) -> Iterator[None]:
    """Be the `sole_writer` of something that everybody changes for a moment only: wait until others have done so."""
    until = time.monotonic() + _PATIENCE_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(sole_writer(out))
                break
            except SessionError:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)
        yield


def hold(fd: int) -> None:
    """Lock an open file; raise `OSError` if it is locked, or cannot be."""
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(fd, _BEHIND_IT, os.SEEK_SET)
    msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)


def keep(fd: int) -> None:
    """Take note of a file that is locked: a child that is forked from here on lets go of it at once.

    A worker process that outlives its parent would otherwise keep the lock.
    """
    _held.add(fd)


def let_go(fd: int) -> None:
    """Close a file that was kept, and with it end its lock."""
    _held.discard(fd)
    os.close(fd)


def owner_of(fd: int) -> dict[str, Any]:
    """Return who has locked an open file, as `sign` has noted it; nothing if that cannot be told."""
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        found = json.loads(os.read(fd, 4096) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def sign(fd: int) -> None:
    """Note in an open file that this process has locked it."""
    note(fd, {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")})


def note(fd: int, owner: dict[str, Any]) -> None:
    """Note in an open file who has locked it."""
    try:
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, json.dumps(owner).encode() if owner else b"")
    except OSError:
        pass  # a full disk: the lock holds, only its owner stays unnamed


def named(owner: dict[str, Any]) -> str:
    """Say who has a lock, for messages."""
    since = f" since {owner['since']}" if "since" in owner else ""
    return f"process {owner.get('pid', '?')} on {owner.get('host', 'this computer')}{since}"


def _taken(path: Path, out: Path) -> int | None:
    """Return the open, locked file; None where there can be none, which the writing itself then tells."""
    for _ in range(_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # another run has just removed a folder that it has made and not used
            continue
        except OSError:
            return None
        try:
            hold(fd)
        except OSError as error:
            owner = owner_of(fd)
            os.close(fd)
            if error.errno not in _TAKEN:
                return None
            raise SessionError(
                f"{out} is being written by another run ({named(owner)}): wait until that has ended, or stop it, "
                "or choose another path"
            ) from None
        if _is_at(path, fd):
            sign(fd)
            keep(fd)
            return fd
        os.close(fd)  # its last owner has removed it meanwhile
    return None


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False


def _remove(path: Path, fd: int) -> None:
    """Remove a lock's file: before letting go of it, since afterwards it may be another's; Windows cannot do that."""
    with suppress(OSError):
        path.unlink()
    let_go(fd)
    if fcntl is None:
        with suppress(OSError):
            path.unlink()


def _leave_to_parent() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
