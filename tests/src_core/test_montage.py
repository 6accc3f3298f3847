"""Montages and the samples they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from src_core import open_volume, samples
from src_core.errors import VolumeError
from src_core.labels import LabelVolume
from src_core.montage import COLOURS, GAP_PX, montage, object_montage


@pytest.fixture
def labels() -> np.ndarray:
    labels = np.zeros((6, 40, 60), np.uint16)
    labels[1:4, 5:15, 5:15] = 1
    labels[2:5, 20:30, 40:55] = 2
    return labels


def test_a_plane_has_every_outline_in_its_colour(labels: np.ndarray) -> None:
    volume = open_volume(np.full(labels.shape, 90, np.uint8))
    picture = montage(volume, labels, [2], min_side_px=80)
    assert picture.shape == (80, 120, 3) and picture.dtype == np.uint8
    # Twice as large: the outline is two pixels wide, inside the object.
    outline = (picture == COLOURS[1]).all(-1)
    assert outline[40:60, 80:110].sum() == outline.sum() == 20 * 30 - 16 * 26
    assert (picture == COLOURS[0]).all(-1).any()


def test_planes_fill_a_grid(labels: np.ndarray) -> None:
    volume = open_volume(labels.astype(np.uint8))
    picture = montage(volume, labels, range(5), columns=3, min_side_px=40)
    assert picture.shape == (2 * 40 + GAP_PX, 3 * 60 + 2 * GAP_PX, 3)
    assert montage(volume, labels, [3, 8], axis="y", min_side_px=6).shape[0] == 6
    with pytest.raises(VolumeError, match="at least one plane"):
        montage(volume, labels, [])


def test_a_row_per_object(labels: np.ndarray, tmp_path: object) -> None:
    volume = open_volume(labels.astype(np.uint8))
    stored = LabelVolume.create(f"{tmp_path}/l.ome.zarr", volume)
    for z, plane in enumerate(labels):
        stored.write_plane("z", z, {1: plane == 1, 2: plane == 2})
    picture = object_montage(volume, stored, {1: (1, 3), 2: (2, 4)}, columns=9, side_px=50)
    assert picture.shape == (2 * 50 + GAP_PX, 5 * 50 + 4 * GAP_PX, 3)
    assert np.array_equal(
        picture, object_montage(volume, labels, {1: (1, 3), 2: (2, 4)}, columns=9, side_px=50)
    )
    with pytest.raises(VolumeError, match="at least one object"):
        object_montage(volume, labels, {})


@pytest.mark.parametrize("name", samples.sample_names())
def test_samples_come_with_their_truth(name: str) -> None:
    volume, truth = samples.open_sample(name), samples.ground_truth(name)
    assert volume.name == name and volume.axes == ("z", "y", "x") and volume.dtype == np.uint8
    assert volume.shape == truth.shape and truth.max() > 10
    assert volume.scale["z"] > volume.scale["y"] == volume.scale["x"]
    clicks = samples.sample_clicks(name)
    assert len({truth[click] for click in clicks} - {0}) == len(clicks) == 4
    # Objects stand out of the background: image and truth belong together.
    image = np.stack([volume.plane(z=z).pixels for z in range(len(truth))])
    assert image[truth > 0].mean() > 1.5 * image[truth == 0].mean()


def test_an_unknown_sample_is_named() -> None:
    with pytest.raises(VolumeError, match="no sample is called 'moon'"):
        samples.ground_truth("moon")
