"""Between two anchors: neighbours, interpolation by signed distance, and where it stands in for the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from src_core.errors import PromptError
from src_core.masks import Mask
from src_core.propagation import PropagationSettings, Step, propagate
from src_core.propagation.between import UNSEEN, Placed, interpolated
from tests.src_core.propagation_stub import SHAPE, RulePredictor, answer, box, stack

NOTHING = np.zeros(SHAPE, bool)


def _disc(y: float, x: float, radius: float, shape: tuple[int, int] = (60, 80)) -> Mask:
    yy, xx = np.indices(shape)
    return np.asarray((yy - y) ** 2 + (xx - x) ** 2 <= radius**2)


def test_neighbours_are_the_next_anchors_with_a_mask() -> None:
    some = box(0, 0, 3, 3)
    placed = Placed({2: {1: some}, 9: {1: some, 2: some}, 5: {1: NOTHING}})
    assert placed.sides(1, 3) == (2, None) and placed.sides(1, 7) == (None, 9)
    assert placed.between(1, 3) is placed.between(1, 7) is None
    assert Placed({2: {1: some}, 9: {1: some}}).between(1, 3) == (2, 9)
    assert placed.sides(2, 3) == (None, 9) and placed.sides(2, 10) == (9, None)
    assert placed.has(1, 5) and not placed.has(2, 5) and sorted(placed.objects) == [1, 2]


def test_sizes_and_places_go_over_into_each_other() -> None:
    below, above = _disc(20, 20, 6), _disc(40, 60, 14)
    for weight in (0.25, 0.5, 0.75):
        drawn = interpolated(below, above, weight)
        expected = _disc(20 + 20 * weight, 20 + 40 * weight, 6 + 8 * weight)
        assert (drawn & expected).sum() / (drawn | expected).sum() > 0.93
    for weight, mask in ((0.0, below), (1.0, above)):
        assert np.array_equal(interpolated(below, above, weight), mask)


def test_objects_on_the_rim_stay_on_it() -> None:
    below, above = box(0, 0, 5, 20), box(0, 0, 9, 20)
    assert np.array_equal(interpolated(below, above, 0.5), box(0, 0, 7, 20))


def _between(rule: Any, **options: Any) -> dict[int, Step]:
    anchors = {0: {1: box(2, 2, 6, 6)}, 4: {1: box(4, 6, 8, 10)}}
    steps = list(propagate(RulePredictor(rule), stack(5), anchors, **options))  # type: ignore[arg-type]
    return {s.index: s for s in steps if s.masks and not s.anchor}


def test_what_no_direction_reaches_is_interpolated() -> None:
    found = _between(lambda index, previous: answer(previous, presence=0.1 if index == 2 else 1.0))
    assert sorted(found) == [1, 2, 3]
    assert np.array_equal(found[2].masks[1], box(3, 4, 7, 8)) and found[2].scores == {1: UNSEEN}
    assert np.array_equal(found[1].masks[1], box(2, 2, 6, 6)) and found[1].scores[1] == pytest.approx(0.9)
    assert not any(s.stopped for s in found.values())


def test_outlines_are_drawn_up_to_an_anchor_outside_the_range() -> None:
    anchors = {0: {1: box(2, 2, 6, 6)}, 6: {1: box(2, 2, 6, 6)}}
    predictor = RulePredictor(lambda index, previous: answer(box(0, 0, 0, 0)))
    steps = list(propagate(predictor, stack(8), anchors, start=2))  # type: ignore[arg-type]
    assert {s.index for s in steps if s.masks and not s.anchor} == {2, 3, 4, 5}


def test_what_the_network_is_unsure_of_is_interpolated_and_stays_unsure() -> None:
    found = _between(lambda index, previous: answer(previous, score=0.25))
    for z in (1, 2, 3):  # the two overlap by an eighth or less, and are a quarter sure
        assert np.array_equal(found[z].masks[1], interpolated(box(2, 2, 6, 6), box(4, 6, 8, 10), z / 4))
        assert found[z].scores[1] < 0.35


def test_without_interpolation_holes_stay() -> None:
    rule = lambda index, previous: answer(previous, presence=0.1 if index == 2 else 1.0)  # noqa: E731
    assert sorted(_between(rule, settings=PropagationSettings(interpolate_below=0))) == [1, 3]
    with pytest.raises(PromptError):
        PropagationSettings(interpolate_below=float("nan"))


def test_directions_that_disagree_make_a_slice_less_sure() -> None:
    anchors = {0: {1: box(2, 2, 6, 6)}, 2: {1: box(2, 4, 6, 8)}}
    steps = list(propagate(RulePredictor(), stack(3), anchors))  # type: ignore[arg-type]
    (middle,) = [s for s in steps if s.index == 1 and s.masks]
    assert middle.scores[1] == pytest.approx((0.9 + 8 / 24) / 2)
