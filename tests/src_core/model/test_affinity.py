"""Affinity: pixels that point to the same place belong together, and vote for one seed an object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_core.model import affinity


def pointing_home(labels: NDArray[np.int32]) -> Tensor:
    """Return maps (1, N_MAPS, h, w) in which the pixels of every object point to its middle."""
    maps = torch.zeros(1, affinity.N_MAPS, *labels.shape)
    maps[0, affinity.N_PLACE] = -0.3
    maps[0, -1] = torch.from_numpy(np.where(labels > 0, 5.0, -5.0))
    for k in np.unique(labels[labels > 0]):
        y, x = np.nonzero(labels == k)
        maps[0, 0, y, x] = torch.from_numpy((x.mean() - x) / affinity.UNIT_CELLS).float()
        maps[0, 1, y, x] = torch.from_numpy((y.mean() - y) / affinity.UNIT_CELLS).float()
    return maps


@pytest.fixture
def labels() -> NDArray[np.int32]:
    labels = np.zeros((30, 40), np.int32)
    labels[2:12, 3:13], labels[2:12, 13:23], labels[20:28, 8:30], labels[15:17, 35] = 1, 2, 3, 4
    return labels


def test_a_pixel_finds_the_object_it_is_in(labels: NDArray[np.int32]) -> None:
    where = affinity.places(pointing_home(labels))
    points = torch.tensor([[[4.5, 3.5], [22.9, 11.9], [8.0, 27.0]]])
    queries = affinity.at_points(where, points)
    found = (affinity.likeness(where, queries)[0] > 0).numpy()
    for mask, k in zip(found, (1, 2, 3), strict=True):
        assert mask[labels == k].all()
        assert not mask[(labels != k) & (labels > 0)].any()


def test_a_mask_finds_the_object_that_most_of_it_is_in(labels: NDArray[np.int32]) -> None:
    where = affinity.places(pointing_home(labels))
    guess = np.zeros(labels.shape, np.float32)
    guess[3:11, 5:14] = 1  # one column of it lies in the neighbour
    query = affinity.over(where, torch.from_numpy(guess)[None, None])
    mask = (affinity.likeness(where, query)[0, 0] > 0).numpy()
    assert mask[labels == 1].all() and not mask[labels == 2].any()


def test_points_beyond_the_maps_count_as_on_their_border() -> None:
    where = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[[-5.0, 1.2], [99.0, 99.0]]])
    assert affinity.at_points(where, points).flatten().tolist() == [4.0, 11.0]


def test_likeness_falls_from_sure_to_nothing_at_the_reach() -> None:
    where = torch.zeros(1, affinity.N_PLACE + 1, 1, 3)
    where[0, 0, 0] = torch.tensor([0.0, 2.0, 4.0])
    query = torch.zeros(1, 1, affinity.N_PLACE + 1)
    query[..., -1] = np.log(2)
    logits = affinity.likeness(where, query).flatten()
    assert logits[0] == affinity.SURE
    assert logits[1].item() == pytest.approx(0, abs=1e-5)
    assert logits[2] < -affinity.SURE


def test_every_object_gets_one_seed_inside_of_it_and_specks_none(labels: NDArray[np.int32]) -> None:
    seeds = affinity.seeds(pointing_home(labels)[0]).numpy()
    hit = labels[seeds[:, 1].astype(int), seeds[:, 0].astype(int)]
    assert sorted(hit) == [1, 2, 3]
    assert hit[0] == 3, "most pixels point to the largest"
    assert affinity.seeds(pointing_home(labels * 0)[0]).shape == (0, 2)
