"""The folder beside an image that holds what is made of it."""

from __future__ import annotations

import re
from pathlib import Path

JOURNAL = "journal.jsonl"


def image_stem(name: str) -> str:
    """Return a file's name without what says that it is an image, fit to name a folder."""
    stem = re.sub(r"(\.ome)?\.(zarr|tiff?|n5|h5)$", "", name) or "image"
    return re.sub(r"[^\w.-]+", "_", stem)


def folder_beside(image: Path) -> Path:
    """Return `<image>.sam.zarr` beside an image's file."""
    return image.absolute().parent / f"{image_stem(image.name)}.sam.zarr"


def session_beside(labels: Path) -> Path | None:
    """Return where the journal goes beside labels in `<image>.sam.zarr/labels/<name>`; None for labels elsewhere."""
    path = labels.absolute()
    home = path.parent.parent
    return home / "session" if path.parent.name == "labels" and home.name.endswith(".sam.zarr") else None


def is_of_session(labels: Path) -> bool:
    """Say whether labels are those of a session, `labels/objects` beside a journal, whatever their folder is called."""
    path = labels.absolute()
    home = path.parent.parent
    return path.parts[-2:] == ("labels", "objects") and (home / "session" / JOURNAL).exists()
