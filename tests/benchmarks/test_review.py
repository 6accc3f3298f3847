"""The benchmark of the review itself: its curve and its simulated user, with a fake network."""

from __future__ import annotations

import numpy as np
import pytest

from src_core.embeddings import EmbeddingCache
from src_core.volumes import open_volume
from tests.benchmarks.bench_review import Filled, curve, ends, fill, judged
from tests.benchmarks.review_game import CLICKS_A_SLICE, ORDERS, PAINTING, play
from tests.napari_sam.fakes import Threshold, balls

LEFT = (balls() > 100) & (np.indices(balls().shape)[2] < 32)


def test_the_curve_of_a_perfect_order_a_reversed_and_an_even_one() -> None:
    bad = np.arange(100) < 20
    assert curve(np.arange(100.0), bad) == pytest.approx((0.5, 0.9))
    assert curve(-np.arange(100.0), bad) == pytest.approx((0.0, 0.1))
    even = np.arange(100) % 10 == 5
    assert curve(np.arange(100.0), even) == pytest.approx((0.1, 0.5), abs=0.01)


def test_volumes_count_by_their_bad_slices() -> None:
    sure = [Filled(0.9, 0.9, 0.95)] * 50
    mixed = [Filled(0.9, 0.2, 0.1)] * 5 + [Filled(0.2, 0.9, 0.95)] * 45
    rows = judged([sure, mixed])
    first, area = "IoU < 0.5: in worst 10 %", "IoU < 0.5: area"
    assert rows["bad slices"][first] == 0.05
    assert rows["doubt carried on (used)"][first] == 1 and rows["doubt carried on (used)"][area] > 0.9
    assert rows["each slice by itself"][first] == 0 and rows["each slice by itself"][area] < 0.1
    assert rows["the true order"]["error"] == 0 < rows["doubt carried on (used)"]["error"]


def test_slices_are_filled_from_the_middle_and_compared() -> None:
    found = fill(Threshold(), open_volume(balls()), LEFT.astype(int), {1: 6})
    assert (
        len(found) == 10
        and {f.iou for f in found} == {1.0}
        and sum(f.ended for f in found) == 2
        and {round(f.carried, 3) for f in found if not f.ended} == {0.9}
    )


def test_ends_that_come_too_early_are_found_by_their_confidence() -> None:
    early = [Filled(0.2, 0.2, 0.0, True), Filled(0.3, 0.3, 0.0, True)]
    right = [Filled(0.9, 0.9, 1.0, True)] * 2
    found = ends([[*early, Filled(0.5, 0.5, 0.4)], right])
    assert found["ends"] == 4 and found["too early"] == 0.5 and found["error"] == pytest.approx(0.175)
    assert found["area"] == found["area of a perfect order"] == pytest.approx(0.75)
    assert found["bad slices that are ends"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("order", ORDERS)
def test_the_game_of_an_object_that_is_right_at_once_costs_nothing(order: str) -> None:
    result = play(EmbeddingCache(Threshold(), open_volume(balls())), LEFT, 6, order)
    assert (result.clicks, result.looks, result.iou) == (0, 0, 1.0)


@pytest.mark.parametrize("order", ORDERS)
def test_the_game_removes_what_does_not_belong(order: str) -> None:
    truth = LEFT.copy()
    truth[8:] = False
    result = play(EmbeddingCache(Threshold(), open_volume(balls())), truth, 6, order)
    assert 0 < result.clicks <= 3 and result.first_iou < 0.9 <= result.iou
    assert result.looks >= result.clicks


def test_what_clicks_do_not_get_right_is_painted() -> None:
    truth = np.roll(LEFT, 30, axis=2)  # in the dark, where this network sees nothing
    truth[6] = LEFT[6]
    result = play(EmbeddingCache(Threshold(), open_volume(balls())), truth, 6, "outwards")
    assert result.iou >= 0.9 and result.clicks % (CLICKS_A_SLICE + PAINTING) == 0 < result.clicks
