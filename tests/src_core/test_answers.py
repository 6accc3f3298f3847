"""One answer out of several looks at the same object."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from src_core.answers import CLEAR, together
from src_core.model.nano import build_nano
from src_core.tiles import Tile
from src_core.types import Candidates

PLANE = (256, 256)
FINE, WIDE = Tile(0, 0, 128, 128, (256, 256)), Tile(0, 0, 256, 256, (256, 256))


def _disc(tile: Tile, radius: float, sure: float = 4.0, at: float = 60.0) -> NDArray[np.float32]:
    """Logits of a disc, radius and middle in pixels of the plane."""
    y, x = ((np.arange(128) + 0.5) * tile.shape[0] / 128 for _ in range(2))
    inside = np.hypot(y[:, None] - at, x[None] - at) < radius
    return np.where(inside, sure, -sure).astype(np.float32)


def _look(tile: Tile, *discs: tuple[NDArray[np.float32], float], presence: float = 1.0) -> Candidates:
    window = tuple(float(n) for n in tile.box)
    logits = np.stack([d for d, _ in discs])
    masks = np.zeros((len(discs), *PLANE), bool)
    return Candidates(masks, np.array([s for _, s in discs], np.float32), logits, window, presence)  # type: ignore[arg-type]


def _radius(found: Candidates, k: int = 0) -> float:
    return float(np.sqrt(np.count_nonzero(found.masks[k]) / np.pi))


def test_one_look_is_taken_as_it_is() -> None:
    look = _look(FINE, (_disc(FINE, 20), 0.9))
    assert together(build_nano(), FINE, look, []) is look


def test_looks_that_agree_have_a_mean() -> None:
    first = _look(FINE, (_disc(FINE, 30, sure=1), 0.9), presence=0.8)
    larger = _look(WIDE, (_disc(WIDE, 34, sure=2), 0.7), presence=0.6)
    smaller = _look(WIDE, (_disc(WIDE, 26, sure=2), 0.5), presence=0.4)
    grown = together(build_nano(), FINE, first, [larger])
    assert _radius(grown) == pytest.approx(34, abs=0.7)
    assert grown.scores[0] == pytest.approx(0.8) and grown.presence == pytest.approx(0.7)
    assert grown.window == first.window and grown.logits.shape == first.logits.shape
    settled = together(build_nano(), FINE, first, [larger, smaller])
    assert _radius(settled) == pytest.approx(30, abs=0.7)


def test_a_look_at_something_else_changes_no_mask() -> None:
    first = _look(FINE, (_disc(FINE, 20, sure=1), 0.9))
    elsewhere = _look(WIDE, (_disc(WIDE, 20, sure=6, at=180), 0.2))
    nothing = _look(WIDE, (np.full((128, 128), -6, np.float32), 0.1))
    found = together(build_nano(), FINE, first, [elsewhere, nothing])
    np.testing.assert_array_equal(found.logits, first.logits)
    assert found.scores[0] == pytest.approx(0.9)


def test_each_candidate_takes_the_one_most_like_it_and_the_best_comes_first() -> None:
    first = _look(FINE, (_disc(FINE, 20), 0.8), (_disc(FINE, 50), 0.7))
    other = _look(WIDE, (_disc(WIDE, 50), 0.9), (_disc(WIDE, 20), 0.4))
    found = together(build_nano(), FINE, first, [other])
    assert [_radius(found, k) for k in range(2)] == pytest.approx([50, 20], abs=0.7)
    np.testing.assert_allclose(found.scores, [0.8, 0.6], atol=1e-6)


def test_a_look_that_is_sure_beyond_measure_drowns_no_others() -> None:
    first, surely = (
        _look(FINE, (_disc(FINE, 30, sure=CLEAR), 0.9)),
        _look(FINE, (_disc(FINE, 34, sure=80), 0.9)),
    )
    again = together(build_nano(), FINE, first, [surely, first])
    assert _radius(again) == pytest.approx(30, abs=0.7)


def test_a_look_that_shows_only_part_of_a_candidate_has_no_say_in_it() -> None:
    first = _look(WIDE, (_disc(WIDE, 20, sure=1), 0.8), (_disc(WIDE, 90, sure=1, at=110), 0.7))
    close = _look(FINE, (_disc(FINE, 20), 0.9), (_disc(FINE, 90, at=110), 0.9))
    found = together(build_nano(), WIDE, first, [close])
    assert [_radius(found, k) for k in range(2)] == pytest.approx([20, 90], abs=1)
    np.testing.assert_allclose(found.scores, [0.85, 0.7], atol=1e-6)
