"""Scores of label images, against scikit-image and numbers worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error as rand_of_skimage
from skimage.metrics import variation_of_information as vi_of_skimage

from src_core.errors import VolumeError
from src_core.evaluation.instances import (
    Contingency,
    Matches,
    adapted_rand_error,
    average_precision,
    match,
    summary,
    variation_of_information,
)


def noisy(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    true = np.kron(rng.integers(0, 7, (5, 6)), np.ones((6, 7), int))
    found = np.where(rng.random(true.shape) < 0.2, rng.integers(0, 9, true.shape), np.roll(true, 2, 1))
    return true, found


@pytest.mark.parametrize("seed", range(4))
def test_variation_of_information_is_that_of_scikit_image(seed: int) -> None:
    true, found = noisy(seed)
    ours = variation_of_information(Contingency.of([(true, found)]))
    # scikit-image returns H(image1 | image0), H(image0 | image1), with the true labels first.
    assert ours == pytest.approx(vi_of_skimage(true, found), abs=1e-9)
    ignoring = variation_of_information(Contingency.of([(true, found)]), ignore_background=True)
    inside = true != 0
    assert ignoring == pytest.approx(vi_of_skimage(true[inside], found[inside]), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_adapted_rand_error_is_that_of_scikit_image(seed: int) -> None:
    true, found = noisy(seed)
    error, precision, recall = adapted_rand_error(Contingency.of([(true, found)]))
    # scikit-image divides by the pairs of the true labels for what it calls precision; its text says as we do.
    assert (error, recall, precision) == pytest.approx(rand_of_skimage(true, found), abs=1e-9)
    both = [(a, b) for a, b in zip(true[true > 0], found[true > 0], strict=True)]
    same = [[p[k] == q[k] for p, q in itertools.combinations(both, 2)] for k in (0, 1)]
    joint = np.count_nonzero(np.logical_and(*same))
    assert (precision, recall) == pytest.approx((joint / sum(same[1]), joint / sum(same[0])))


def test_equal_labels_under_other_ids_are_perfect() -> None:
    true = np.kron(np.arange(6).reshape(2, 3), np.ones((5, 5), int))
    c = Contingency.of([(true, np.where(true, 70_000 - true, 0))])
    assert match(c, 0.99) == Matches(5, 0, 0) and adapted_rand_error(c)[0] == pytest.approx(0)
    assert variation_of_information(c) == pytest.approx((0, 0))


def test_found_invented_and_missed_are_counted() -> None:
    true, found = np.zeros((10, 40), int), np.zeros((10, 40), int)
    true[:, 0:10], found[:, 0:8] = 1, 1  # IoU 0.8
    true[:, 10:20] = 2  # missed
    found[:, 30:40] = 5  # invented
    c = Contingency.of([(true, found)])
    assert match(c, 0.5) == Matches(1, 1, 1) and match(c, 0.9) == Matches(0, 2, 2)
    assert average_precision(true, found) == pytest.approx(1 / 3)
    assert match(c, 0.5).recall == 0.5 and Matches(0, 0, 0).average_precision == 1.0
    assert Matches(1, 2, 3) + Matches(1, 1, 1) == Matches(2, 3, 4)


def test_at_low_ious_objects_are_paired_one_to_one() -> None:
    true, found = np.zeros((1, 60), int), np.zeros((1, 60), int)
    true[0, 0:20], true[0, 20:40] = 1, 2
    found[0, 10:30] = 1  # IoU 1/3 with both
    found[0, 30:60] = 2  # 10 / 40 with the second
    c = Contingency.of([(true, found)])
    # Greedy on the best IoU could take (2, 1), which leaves nothing for the other two.
    assert match(c, 0.25) == Matches(2, 0, 0) and match(c, 0.3) == Matches(1, 1, 1)


def test_blocks_give_what_the_whole_gives() -> None:
    true, found = noisy(9)
    whole = Contingency.of([(true, found)])
    parts = Contingency.of((true[k : k + 7], found[k : k + 7]) for k in range(0, len(true), 7))
    assert summary(whole) == pytest.approx(summary(parts))


def test_nothing_at_all_is_no_error() -> None:
    empty = np.zeros((4, 4), int)
    assert summary(Contingency.of([(empty, empty)]))["AP 0.5"] == 1.0
    assert adapted_rand_error(Contingency.of([(empty, empty)])) == (0.0, 1.0, 1.0)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(VolumeError, match="equal shapes"):
        Contingency.of([(np.zeros((2, 2), int), np.zeros((3, 2), int))])
    with pytest.raises(VolumeError, match="whole numbers"):
        Contingency.of([(np.zeros((2, 2)), np.zeros((2, 2), int))])
    with pytest.raises(VolumeError, match="0 or more"):
        Contingency.of([(np.full((2, 2), -1), np.zeros((2, 2), int))])
