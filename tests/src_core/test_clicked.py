"""Answers do what their clicks say, and change nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from src_core.clicked import SURE, _at, obeyed
from src_core.predictor import Predictor
from src_core.prompts import Prompts


def disc(radius: float = 12.3) -> NDArray[np.float32]:
    """(64, 64) logits of a disc around (32, 32), steep at its outline."""
    y, x = np.indices((64, 64))
    return np.clip(radius - np.hypot(y - 32, x - 32), -6, 6).astype(np.float32)


def clicks(*places: tuple[float, float]) -> NDArray[np.float32]:
    """Clicks (x, y) in pixels from the corner of the first."""
    return np.array(places, np.float32).reshape(-1, 2)


def test_what_clicks_already_say_stays_the_same_array() -> None:
    logits = disc()
    kept = obeyed(logits, clicks((32.5, 32.5), (3.5, 3.5)), np.array([True, False]))
    assert kept is logits
    assert obeyed(logits, clicks(), np.zeros(0, np.bool_)) is logits


@pytest.mark.parametrize(
    ("place", "wanted"), [((49.2, 32.1), True), ((40.0, 33.0), False), ((0.2, 32.0), True)]
)
def test_the_outline_gives_way_around_a_click(place: tuple[float, float], wanted: bool) -> None:
    logits = disc()
    before = logits.copy()
    done = obeyed(logits, clicks(place), np.array([wanted]))
    x, y = place
    assert _at(done, y - 0.5, x - 0.5) == pytest.approx(SURE if wanted else -SURE, abs=1e-4)
    assert np.array_equal(logits, before), "the network's own answer is left as it was"
    changed = (done > 0) != (before > 0)
    assert changed.any()
    assert (done > 0)[changed].all() == wanted
    rows, columns = np.nonzero(changed)
    way = abs(np.hypot(x - 32.5, y - 32.5) - 12.3)
    assert np.hypot(rows + 0.5 - y, columns + 0.5 - x).max() <= 2 * way + 2, (
        "far from the click nothing changes"
    )


def test_the_last_of_two_clicks_on_one_pixel_counts() -> None:
    place = (44.0, 32.0)
    for said in ([True, False], [False, True]):
        done = obeyed(disc(), clicks(place, place), np.array(said))
        assert (_at(done, place[1] - 0.5, place[0] - 0.5) > 0) == said[-1]


def test_no_click_undoes_another() -> None:
    places, said = clicks((38.5, 32.5), (34.5, 32.5), (30.5, 37.5)), np.array([True, False, True])
    rng = np.random.default_rng(0)
    cases = [(places, said)]
    cases += [(rng.uniform(14, 50, (4, 2)).astype(np.float32), rng.random(4) < 0.5) for _ in range(100)]
    for where, wanted in cases:
        apart = np.hypot(*(where[:, None] - where[None]).T) + 9 * np.eye(len(where))
        if apart.min() < 1:
            continue
        done = obeyed(disc(), where, wanted)
        assert [_at(done, y - 0.5, x - 0.5) > 0 for x, y in where] == wanted.tolist(), (where, wanted)


def test_odd_clicks_do_no_harm() -> None:
    empty = np.full((8, 8), -3, np.float32)
    assert obeyed(empty, clicks((4, 4)), np.array([True])) is empty, "where there is nothing, nothing is made"
    assert obeyed(disc(), clicks((-3, 90)), np.array([True])).max() == disc().max()
    full = np.full((8, 8), 3, np.float32)
    out = obeyed(full, clicks((0.1, 0.1), (7.9, 7.9), (4, 4)), np.array([False, False, False]))
    assert not (out[[0, 7, 4], [0, 7, 4]] > 0).any()
    dot = np.full((8, 8), -3, np.float32)
    dot[4, 4] = 1
    gone = obeyed(dot, clicks((4.5, 4.5), (6.5, 6.5)), np.array([False, True]))
    assert gone[4, 4] < 0


def test_corrections_stick_on_every_kind_of_plane() -> None:
    predictor = Predictor.load("nano", "cpu")
    rng = np.random.default_rng(0)
    for side in (40, 150, 700):  # enlarged, as it is, and in tiles
        y, x = np.indices((side, side))
        centre, radius = side // 2, min(side // 5, 40)
        image = np.clip(
            30 + 120 * (np.hypot(y - centre, x - centre) < radius) + rng.normal(0, 9, (side, side)), 0, 255
        )
        embedding = predictor.embed(image.astype(np.uint8), lazily=True)
        first = predictor.predict(embedding, Prompts([(centre, centre)]))
        out, back = (centre, centre + radius // 2), (centre + radius + 4, centre)
        assert first.masks[0][out] and not first.masks[0][back]
        points, labels = [(centre, centre), out, back], [1, 0, 1]
        for n in (2, 3):
            asked = Prompts(points[:n], labels[:n], mask=first.logits[0], mask_window=first.window)
            found = predictor.predict(embedding, asked)
            says = [bool(found.masks[0][p]) for p in points[:n]]
            assert says == [bool(label) for label in labels[:n]], (side, n, says)
