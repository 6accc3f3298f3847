"""Keep a folder of embeddings below its limit: the least recently used tiles go first, whatever their key."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from src_core.files import write_atomically

DEFAULT_BYTES = 50 * 10**9
LIMIT_FILE = "limit"
PART_SECONDS = 3600
"""A half-written file this old belongs to a process that was killed."""
ROOM = 0.9
"""Once the limit is reached, this fraction of it is left, so that not every tile costs a look at all files."""


def limit_of(folder: Path) -> int:
    """Return the limit that was last set for a folder, in bytes; the default if none was."""
    try:
        return int((folder / LIMIT_FILE).read_text())
    except (OSError, ValueError):
        return DEFAULT_BYTES


def remember_limit(folder: Path, max_bytes: int) -> None:
    """Set the limit for whoever keeps something in the folder from now on."""
    with contextlib.suppress(OSError):
        write_atomically(folder / LIMIT_FILE, lambda part: part.write_text(str(max_bytes)))


def touch(chunk: Path) -> None:
    """Note that a tile was used; a folder that is read-only keeps no such notes."""
    with contextlib.suppress(OSError):
        os.utime(chunk)


def trim(folder: Path, max_bytes: int, keep: Path | None = None) -> int:
    """Delete the least recently used tiles until the rest takes at most 90 % of `max_bytes`, if it takes more.

    Parameters
    ----------
    folder
        All embeddings of an image, one folder a key.
    max_bytes
        The limit.
    keep
        A tile that stays in any case.

    Returns
    -------
    int
        Bytes of the tiles that are left.
    """
    found = sorted(_chunks(folder))
    total = sum(size for _, size, _ in found)
    if total <= max_bytes:
        return total
    for _, size, path in found:
        if total <= ROOM * max_bytes:
            break
        if path != keep:
            with contextlib.suppress(OSError):  # another process may have been faster
                path.unlink()
            total -= size
    return total


def _chunks(folder: Path) -> Iterator[tuple[int, int, Path]]:
    for path in folder.glob("*/*/c/*/*/*"):
        try:
            found = path.stat()
        except OSError:
            continue
        if path.suffix == ".partial":
            if found.st_mtime < time.time() - PART_SECONDS:
                path.unlink(missing_ok=True)
        else:
            yield found.st_mtime_ns, found.st_size, path
