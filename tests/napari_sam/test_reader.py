"""OME-Zarr images, with pyramids, colour, labels and none of it, become napari's layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from napari.layers import Image, Layer

from napari_sam.layers import volume_of
from napari_sam.reader import get_reader
from src_core.errors import VolumeError
from src_core.labels import LabelVolume
from src_core.volumes import open_volume


def write_image(
    path: Path, data: Any = None, axes: str = "zyx", levels: int = 1, labels: bool = True
) -> Path:
    """Write an OME-Zarr 0.5 image, 2 um deep and 0.5 um wide pixels, with a label image `nuclei` inside."""
    data = np.arange(4 * 8 * 8, dtype=np.uint16).reshape(4, 8, 8) if data is None else data
    group = zarr.open_group(path, mode="w")
    sets = []
    for k in range(levels):
        step = 2**k
        part = data[tuple(slice(None, None, step if a in "yx" else 1) for a in axes)]
        group.create_array(str(k), data=part)
        scale = [2.0 if a == "z" else 0.5 * step if a in "yx" else 1.0 for a in axes]
        sets.append({"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"t": "time", "c": "channel"}
    units = {"z": "micrometer", "y": "micrometer", "x": "micrometer"}
    named = [
        {"name": a, "type": kinds.get(a, "space"), **({"unit": units[a]} if a in units else {})} for a in axes
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": named, "datasets": sets}]}
    if labels:
        LabelVolume.create_in(open_volume(path), "nuclei")
    return path


def _layers(path: Path) -> list[Layer]:
    reader = get_reader(str(path))
    assert reader is not None
    return [Layer.create(*found) for found in reader(str(path))]


def test_a_pyramid_is_multiscale(tmp_path: Path) -> None:
    (image,) = _layers(write_image(tmp_path / "deep.ome.zarr", levels=2, labels=False))
    assert isinstance(image, Image) and image.multiscale and image.data[1].shape == (4, 4, 4)
    assert volume_of(image).sizes == {"z": 4, "y": 8, "x": 8}
    assert image.name == "deep"


def test_time_and_channels_are_axes(tmp_path: Path) -> None:
    data = np.arange(2 * 3 * 4 * 8 * 8, dtype=np.uint16).reshape(2, 3, 4, 8, 8)
    labels, image = _layers(write_image(tmp_path / "long.zarr", data, "tczyx"))
    assert image.axis_labels == tuple("tczyx") and labels.axis_labels == tuple("tzyx")
    assert tuple(image.scale) == (1, 1, 2, 0.5, 0.5)


def test_colour_is_colour(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "rgb.zarr", data=np.zeros((8, 9, 3), np.uint8), dimension_names=("y", "x", "c")
    )
    (image,) = _layers(tmp_path / "rgb.zarr")
    assert image.rgb and image.ndim == 2 and volume_of(image).rgb


def test_a_label_image_by_itself_is_labels(tmp_path: Path) -> None:
    volume = open_volume(np.zeros((4, 8, 8), np.uint8), axes="zyx", scale=(2, 1, 1))
    LabelVolume.create(tmp_path / "nuclei.labels.ome.zarr", volume, name="nuclei")
    (labels,) = _layers(tmp_path / "nuclei.labels.ome.zarr")
    assert type(labels).__name__ == "Labels" and labels.visible and tuple(labels.scale) == (2, 1, 1)


def test_damaged_labels_do_not_hide_the_image(tmp_path: Path) -> None:
    path = write_image(tmp_path / "cells.zarr")
    (path / "labels" / "nuclei" / "zarr.json").write_text("{")
    (image,) = _layers(path)
    assert isinstance(image, Image)


def test_what_is_no_image_is_left_to_others(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    (tmp_path / "file.zarr").write_text("")
    for path in ("empty.zarr", "file.zarr", "missing.zarr"):
        assert get_reader(str(tmp_path / path)) is None
    assert get_reader([str(tmp_path / "empty.zarr")]) is None


def test_an_image_damaged_meanwhile_says_so(tmp_path: Path) -> None:
    path = write_image(tmp_path / "cells.zarr", labels=False)
    reader = get_reader(str(path))
    assert reader is not None
    (path / "zarr.json").write_text("{")
    with pytest.raises(VolumeError, match="damaged"):
        reader(str(path))
