"""Pasted objects touch others, look like objects of their picture, and are labelled."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.draw import disk

from src_core.training.pasting import with_neighbours

RNG = np.random.default_rng
INNER = (slice(0, 100), slice(0, 100))
OBJECT, BACKGROUND = 180, 20


def _plane(background: int = BACKGROUND) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Five discs far from each other, the last of them cut by the rim."""
    labels = np.zeros((120, 120), np.int32)
    for k, centre in enumerate(((25, 25), (25, 90), (85, 25), (75, 75), (119, 119)), 1):
        labels[disk(centre, 8, shape=labels.shape)] = k
    return np.where(labels > 0, OBJECT, background).astype(np.uint8), labels


def _new(labels: NDArray[np.int32]) -> list[int]:
    return [int(k) for k in np.unique(labels) if k > 5]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_pasted_touches_an_object_and_hardly_covers_it(seed: int) -> None:
    image, labels = _plane()
    pasted, known = with_neighbours(RNG(seed), image, labels, 1, INNER)
    assert len(_new(known)) == 1
    own = known == _new(known)[0]
    assert ((known > 0) & ~own & ndi.binary_dilation(own, iterations=2)).any()
    assert np.count_nonzero((labels > 0) & own) <= 0.12 * np.count_nonzero(labels == 1)
    assert pasted[own].mean() > OBJECT / 2  # and not a hole
    far = ~ndi.binary_dilation(own, iterations=3)
    assert np.array_equal(pasted[far], image[far])
    assert np.array_equal(known[far], labels[far])


def test_the_given_plane_stays_as_it_is() -> None:
    image, labels = _plane()
    with_neighbours(RNG(0), image, labels, 5, INNER)
    assert np.array_equal(image, _plane()[0])
    assert np.array_equal(labels, _plane()[1])


@pytest.mark.parametrize("seed", range(4))
def test_dark_objects_on_bright_background_stay_dark(seed: int) -> None:
    image, labels = _plane(background=240)
    pasted, known = with_neighbours(RNG(seed), np.repeat(image[..., None], 3, axis=2), labels, 1, INNER)
    assert pasted.shape == (120, 120, 3)
    assert pasted[known == _new(known)[0]].mean() < 215
    assert pasted.max() == 240


def test_only_objects_of_the_part_get_neighbours() -> None:
    image, labels = _plane()
    for seed in range(8):
        known = with_neighbours(RNG(seed), image, labels, 1, (slice(0, 50), slice(0, 50)))[1]
        own = ndi.binary_dilation(known == _new(known)[0], iterations=2)
        assert 1 in known[own]


def test_objects_cut_by_the_rim_are_not_copied() -> None:
    image, labels = _plane()
    image[labels == 5] = 255
    labels[(labels > 0) & (labels < 5) & (labels != 4)] = 0
    image[labels == 0] = BACKGROUND
    for seed in range(6):
        known = with_neighbours(RNG(seed), image, labels, 1, INNER)[1]
        for k in _new(known):
            assert np.count_nonzero(known == k) > 0.85 * np.count_nonzero(labels == 4)


@pytest.mark.parametrize("value", [0, 1])
def test_without_objects_or_background_nothing_is_pasted(value: int) -> None:
    labels = np.full((40, 40), value, np.int32)
    image = np.full((40, 40), 90, np.uint8)
    pasted, known = with_neighbours(RNG(0), image, labels, 3, INNER)
    assert np.array_equal(pasted, image)
    assert np.array_equal(known, labels)


def test_the_same_generator_pastes_the_same() -> None:
    image, labels = _plane()
    one, two = (with_neighbours(RNG(3), image, labels, 4, INNER) for _ in range(2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
