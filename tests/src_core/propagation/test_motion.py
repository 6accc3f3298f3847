"""Jumps of the whole picture are found, and masks and what is compared follow them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from src_core.continuity import picture_of
from src_core.propagation import PropagationSettings, propagate
from src_core.propagation.motion import FARTHEST, MAX_SIDE, STILL, Shift, motion, moved, moved_picture
from src_core.volumes import Volume, open_volume
from tests.src_core.propagation_stub import Mask, RulePredictor, answer

RNG = np.random.default_rng(3)
SCENE = np.kron(RNG.integers(0, 255, (40, 40)), np.ones((5, 5))).astype(np.uint8)
DISC = (np.indices((100, 100)) - 50 < 12).all(0) & (np.indices((100, 100)) - 50 > -12).all(0)


def _seen(shift: Shift, side: int = 100) -> np.ndarray:
    y, x = 50 - shift[0], 50 - shift[1]
    return np.repeat(SCENE[y : y + side, x : x + side, None], 3, -1)


@pytest.mark.parametrize("shift", [(7, -4), (0, 12), (-20, 1), (0, 0)])
def test_jumps_are_found(shift: Shift) -> None:
    assert motion(_seen(STILL), _seen(shift)) == shift


def test_what_is_no_jump_is_not_followed() -> None:
    other = RNG.integers(0, 255, (100, 100, 3)).astype(np.uint8)
    assert motion(_seen(STILL), other) == STILL, "another scene"
    assert motion(_seen(STILL), np.zeros_like(other)) == STILL, "a lost section"
    assert motion(_seen(STILL), _seen((FARTHEST + 10, 0))) == STILL, "too far to be believed"
    disc = np.full((100, 100, 3), 60, np.uint8)
    grown = disc.copy()
    disc[30:60, 30:60] = 200
    grown[29:62, 29:62] = 200
    assert motion(disc, grown) == STILL, "an object that grows"
    assert motion(np.zeros((3, 3, 3), np.uint8), np.ones((3, 3, 3), np.uint8)) == STILL


def test_large_pictures_are_registered_coarsely() -> None:
    large = np.kron(SCENE, np.ones((6, 6), np.uint8))
    step = -(-1100 // MAX_SIDE)
    before, now = (np.repeat(large[y : y + 1100, :1100, None], 3, -1) for y in (60, 30))
    assert abs(motion(before, now)[0] - 30) <= step


def test_masks_and_pictures_move_alike() -> None:
    mask = moved(DISC, (5, -9))
    assert np.array_equal(np.argwhere(mask) - np.argwhere(DISC), np.tile((5, -9), (DISC.sum(), 1)))
    assert np.array_equal(moved(DISC, (90, 0)), DISC), "it would be gone"
    part = moved_picture(picture_of(_seen(STILL)), (5, -9), (100, 100))
    assert np.array_equal(part((20, 20, 60, 70)), _seen((5, -9))[20:60, 20:70])
    assert np.array_equal(part((0, 0, 10, 10))[0], part((4, 0, 5, 10))[0]), "the rim is repeated"


def _volume() -> Volume:
    """A scene that jumps by (6, -8) before slice 3 and stays there."""
    return open_volume(np.array([_seen(STILL)[..., 0]] * 3 + [_seen((6, -8))[..., 0]] * 3))


@pytest.mark.parametrize(("follow", "down"), [(True, False), (True, True), (False, False)])
def test_a_mask_follows_a_jump_both_ways(follow: bool, down: bool) -> None:
    windows = []

    def rule(index: int, previous: Mask) -> Any:
        return answer(previous)

    predictor = RulePredictor(rule)
    jump, start = ((-6, 8), 5) if down else ((6, -8), 0)
    steps = list(
        propagate(
            predictor,
            _volume(),
            {start: {1: DISC}},
            settings=PropagationSettings(follow=follow),  # type: ignore[arg-type]
        )
    )
    windows = {index: prompts[0].mask_window for index, prompts in predictor.asked}
    at = 2 if down else 3
    expected = (*jump, 100 + jump[0], 100 + jump[1]) if follow else (0, 0, 100, 100)
    assert windows[at] == expected
    assert all(w in (None, (0, 0, 100, 100)) for i, w in windows.items() if i != at)
    assert len(steps) == 6


def test_the_mask_of_an_anchor_follows_too() -> None:
    predictor = RulePredictor()
    list(propagate(predictor, _volume(), {2: {1: DISC}}, stop=4))  # type: ignore[arg-type]
    assert np.array_equal(predictor.asked[0][1][0].mask, moved(DISC, (6, -8)))
