"""Simulated prompts lie where a user would put them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from scipy import ndimage as ndi

from src_core.masks import innermost
from src_core.training import clicks

MASK = np.zeros((40, 60), bool)
MASK[10:30, 15:50] = True


def test_first_clicks_are_inside_and_not_all_the_same() -> None:
    found = {clicks.first_click(np.random.default_rng(s), MASK) for s in range(40)}
    assert all(MASK[int(y), int(x)] and label == 1 for x, y, label in found)
    assert len(found) > 5


def test_seven_first_clicks_in_ten_are_the_innermost_pixel() -> None:
    assert "0.7" in (clicks.first_click.__doc__ or "")
    y, x = innermost(MASK)
    rng = np.random.default_rng(0)
    middle = sum(clicks.first_click(rng, MASK) == (x, y, 1) for _ in range(400))
    assert 0.63 * 400 < middle < 0.77 * 400


def test_corrections_go_to_the_larger_error() -> None:
    guess = MASK.copy()
    guess[10:30, 15:25] = False  # misses 200 pixels
    guess[0:5, 0:5] = True  # and adds 25
    for seed in range(10):
        x, y, label = clicks.correction(np.random.default_rng(seed), MASK, guess)
        assert label == 1
        assert (MASK & ~guess)[int(y), int(x)]
    guess = MASK.copy()
    guess[32:38] = True
    x, y, label = clicks.correction(np.random.default_rng(0), MASK, guess)
    assert label == 0
    assert (guess & ~MASK)[int(y), int(x)]


def test_no_error_no_click() -> None:
    assert clicks.correction(np.random.default_rng(0), MASK, MASK) == (0.0, 0.0, -1)


def test_boxes_are_exact_loose_or_a_little_off() -> None:
    true = np.array((15, 10, 50, 30))
    boxes = np.array([clicks.drawn_box(np.random.default_rng(s), MASK) for s in range(200)])
    room = (boxes - true) * clicks.OUTWARDS / (35, 20, 35, 20)
    exact, loose = (room == 0).all(1), (room > 0).all(1)
    assert 0.3 < exact.mean() < 0.5
    assert 0.25 < loose.mean() < 0.45
    assert (room[:, 0] < -0.05).any()  # some cut in
    assert 0.2 < room[loose].max() <= 10 / 20
    assert (boxes[:, 0] < boxes[:, 2]).all()
    assert (boxes[:, 1] < boxes[:, 3]).all()


def test_tiny_masks_still_make_boxes_with_area() -> None:
    dot = np.zeros((9, 9), bool)
    dot[4, 4] = True
    for seed in range(60):
        x0, y0, x1, y1 = clicks.drawn_box(np.random.default_rng(seed), dot)
        assert x0 < x1
        assert y0 < y1


def test_background_clicks_lie_beside_the_object_but_not_far() -> None:
    rng = np.random.default_rng(4)
    reach = 2 * np.sqrt(np.count_nonzero(MASK) / np.pi) + 1
    away = ndi.distance_transform_edt(~MASK)
    for _ in range(40):
        x, y, label = clicks.beside(rng, MASK)
        assert label == 0
        assert 1 < away[int(y), int(x)] <= reach
    for nothing in (np.zeros((16, 16), bool), np.ones((16, 16), bool)):
        assert clicks.beside(rng, nothing)[2] == -1


@pytest.mark.parametrize("seed", range(8))
def test_neighbours_resemble_the_mask(seed: int) -> None:
    near = clicks.neighbour_mask(np.random.default_rng(seed), MASK)
    assert near.shape == MASK.shape
    assert near.dtype == np.bool_
    shared = np.count_nonzero(near & MASK) / np.count_nonzero(near | MASK)
    assert 0.3 < shared < 1


def test_the_neighbour_of_nothing_is_nothing() -> None:
    assert not clicks.neighbour_mask(np.random.default_rng(0), np.zeros((16, 16), bool)).any()


def test_other_processes_draw_the_same() -> None:
    truths = np.stack([np.roll(MASK, k, 1) for k in range(12)])
    guesses = np.stack([np.roll(MASK, 3 * k, 0) for k in range(12)])
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        here, there = (
            list(clicks.each(clicks.correction, np.random.default_rng(4), truths, guesses, pool=where))
            for where in (None, pool)
        )
    assert here == there
    assert len(set(here)) > 6
