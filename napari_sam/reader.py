"""Reads OME-Zarr for napari, whose own reader knows nothing of scale and takes labels for the image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_sam.sample_data import LayerTuple, image_layer, placement
from src_core.embeddings.location import image_stem
from src_core.errors import VolumeError
from src_core.labels.files import is_label_group, label_folders
from src_core.volumes import Volume, open_volume

Reader = Callable[[Any], list[LayerTuple]]


def get_reader(path: str | list[str]) -> Reader | None:
    """Return a function that reads a zarr folder, or None where it is no image and napari may try."""
    if not isinstance(path, str) or not Path(path).is_dir():
        return None
    try:
        open_volume(path)
    except VolumeError:
        return None
    return read


def read(path: str | list[str]) -> list[LayerTuple]:
    """Return an image, lazily and with its place in the world, and the labels inside it, which are hidden.

    Raises
    ------
    VolumeError
        It is no image, or a damaged one.
    """
    folder = Path(path if isinstance(path, str) else path[0])
    volume = open_volume(folder)
    if is_label_group(folder):
        return [_labels_layer(volume, image_stem(folder.name), visible=True)]
    inside = [p for p in label_folders(volume) if is_label_group(p)]
    # napari puts later layers on top, and makes the last one the active one.
    labels = [_labels_layer(open_volume(p), p.name, visible=False) for p in inside]
    return [*labels, image_layer(volume, image_stem(folder.name))]


def _labels_layer(volume: Volume, name: str, *, visible: bool) -> LayerTuple:
    return (volume.array, {**placement(volume), "name": name, "visible": visible}, "labels")
