"""Where embeddings go if the user does not say: beside the image."""

from __future__ import annotations

import os
from pathlib import Path

import xxhash

from src_core.beside import folder_beside, image_stem
from src_core.errors import CacheError
from src_core.volumes import Volume


def embeddings_folder(volume: Volume) -> Path:
    """Return `<image>.sam.zarr/embeddings` beside the image, or in the user's cache if that is read-only.

    Raises
    ------
    CacheError
        The image is no file on this computer, so that there is no place beside it.
    """
    if volume.path is None:
        raise CacheError(
            f"{volume.name} is not a file on this computer, so there is no place beside it for embeddings: "
            "name a folder for them (--embeddings FOLDER)"
        )
    path = volume.path.absolute()
    beside = folder_beside(path) / "embeddings"
    home = next(p for p in beside.parents if p.exists())
    if beside.exists() or os.access(home, os.W_OK):
        return beside
    import pooch

    stamp = xxhash.xxh64(str(path).encode()).hexdigest()
    return Path(pooch.os_cache("napari-sam")) / "embeddings" / f"{image_stem(path.name)}-{stamp}"


def embeddings_beside(labels: Path) -> Path | None:
    """Return where embeddings go beside labels in `<image>.sam.zarr/labels/<name>`.

    None for labels elsewhere, and for those in the user's cache: what is made of an image that exists only in
    memory is not found again.
    """
    import pooch

    path = labels.absolute()
    home = path.parent.parent
    at_home = path.parent.name == "labels" and home.name.endswith(".sam.zarr")
    return home / "embeddings" if at_home and Path(pooch.os_cache("napari-sam")) not in path.parents else None
