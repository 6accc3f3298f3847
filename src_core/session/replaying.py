"""The same labels once more, from nothing but the journal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from src_core.beside import JOURNAL
from src_core.errors import SessionError
from src_core.labels import LabelVolume, create_labels
from src_core.session.loading import Lines, Reader, read_lines
from src_core.types import Progress
from src_core.volumes import Volume, open_volume


@dataclass(frozen=True)
class Replayed:
    """What a replay made: the labels, and how many objects they hold and edits are left that could be undone."""

    labels: LabelVolume
    objects: int
    edits: int


def replay(
    session: str | Path, out: str | Path, *, overwrite: bool = False, progress: Progress | None = None
) -> Replayed:
    """Do everything a journal says to new, empty labels: they become those of the session, bit for bit.

    Needs neither the image nor a network: masks are in the journal as they were written. The labels get their name
    when they are complete: stopped or killed before, nothing has been replaced.

    Parameters
    ----------
    session
        A journal, the folder it is in, or `<image>.sam.zarr`.
    out
        The label image to write.
    overwrite
        Replace labels that are there.
    progress
        Called as progress(done, total) in lines.

    Raises
    ------
    SessionError
        There is no journal, it cannot be read, or `out` cannot be written.
    """
    path, lines = open_journal(session)
    reader = Reader()

    def fill(folder: Path) -> None:
        nonlocal reader
        reader = read_all(lines, LabelVolume.open(folder), progress)

    labels = create_labels(canvas(path, lines.header), Path(out), overwrite=overwrite, prepare=fill)
    return Replayed(labels, len(reader.table.objects), len(reader.history))


def open_journal(session: str | Path) -> tuple[Path, Lines]:
    """Find a journal and read its lines; errors are those of `replay`."""
    path = find_journal(Path(session))
    lines = read_lines(path)
    if lines is None:
        raise SessionError(f"{path} holds no session yet: nothing was done in it")
    return path, lines


def read_all(lines: Lines, labels: LabelVolume, progress: Progress | None = None) -> Reader:
    """Do everything that lines say to labels and return what they add up to."""
    reader = Reader()
    for done, entry in enumerate(lines.entries, start=1):
        reader.read(entry, labels)
        if progress is not None:
            progress(done, len(lines.entries))
    reader.finish()
    return reader


def find_journal(session: Path) -> Path:
    """Return the journal that the user means.

    Raises
    ------
    SessionError
        There is none.
    """
    for path in (session, session / JOURNAL, session / "session" / JOURNAL):
        if path.is_file():
            return path
    raise SessionError(f"there is no session in {session}: name {JOURNAL}, its folder, or IMAGE.sam.zarr")


def canvas(path: Path, header: dict[str, Any]) -> Volume:
    """Return a volume as large as the image, which takes no memory."""
    try:
        image = header["image"]
        volume = open_volume(
            np.broadcast_to(np.zeros((), np.uint8), image["shape"]),
            axes=image["axes"],
            scale=image["scale"],
            units=image["units"],
        )
        return replace(volume, name=image["name"], translate=MappingProxyType(image["translate"]))
    except (KeyError, TypeError) as error:
        raise SessionError(f"{path} does not say what image it belongs to ({error!r})") from error
