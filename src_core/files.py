"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it: `path` never holds half a file.

    Parameters
    ----------
    path
        The file; what is there is replaced. Its folder must exist.
    write
        Called with the other name, which has the suffix of `path` and is of this process alone. If it fails,
        nothing stays behind.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
