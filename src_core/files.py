"""Files that are whole or not there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
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


def remove_others(folder: Path, pattern: str, kept: Collection[Path]) -> None:
    """Remove the files of a folder whose whole names match a regular expression, but for those that are kept."""
    for path in folder.iterdir():
        if re.fullmatch(pattern, path.name) and path not in kept:
            path.unlink()
