"""How far objects reach across the slices, seen from the side, and what that is worth to a walk."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings, Step, crossing, propagate, reach
from src_core.propagation.reach import MOST, Reach, reaches, together
from src_core.propagation.settings import verdict
from src_core.types import Candidates, PlaneRef
from src_core.volumes import Volume, open_volume

SHAPE = (40, 96, 96)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("nano", "cpu")


def balls(step: float = 2.0) -> NDArray[np.uint8]:
    """Two in a column, of radius 9, and one beside them; labels (Z, Y, X)."""
    z, y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    for k, (cz, cy, cx) in enumerate([(14, 40, 50), (14 + 22 / step, 40, 50), (18, 70, 20)], start=1):
        labels[(step * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= 81] = k
    return labels


def stack(labels: NDArray[np.uint8], step: float = 2.0) -> Volume:
    rng = np.random.default_rng(0)
    pixels = np.clip(40 + 120 * (labels > 0) + rng.normal(0, 8, SHAPE), 0, 255).astype(np.uint8)
    return open_volume(pixels, axes="zyx", scale={"z": 0.3 * step, "y": 0.3, "x": 0.3})


def ends(mask: Mask, axis: int = 0) -> tuple[int, int]:
    there = np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis})))
    return int(there[0]), int(there[-1])


def seen_by(found: Iterable[tuple[int, tuple[Reach, ...]] | None]) -> dict[int, tuple[Reach, ...]]:
    return dict(answer for answer in found if answer is not None)


@pytest.mark.parametrize("step", [1.0, 2.0])
def test_planes_show_where_an_object_ends(predictor: Predictor, step: float) -> None:
    labels = balls(step)
    volume = stack(labels, step)
    found = seen_by(reaches(predictor, volume, "z", 14, {k: labels[14] == k for k in (1, 3)}))
    assert found.keys() == {1, 3}
    for k, seen in found.items():
        low, high = ends(labels == k)
        assert 2 <= len(seen) <= 6
        assert all(abs(r.low - low) <= 2 and abs(r.high - high) <= 2 for r in seen), (k, low, high, seen)
        assert all(14 in r.seen and r.weight > 0.3 for r in seen)


def test_along_another_axis(predictor: Predictor) -> None:
    labels = balls()
    found = seen_by(reaches(predictor, stack(labels), "x", 50, {1: labels[:, :, 50] == 1}))
    low, high = ends(labels == 1, axis=2)
    assert all(abs(r.low - low) <= 2 and abs(r.high - high) <= 2 for r in found[1]), found


def test_votes_grow_with_the_way_to_the_end_and_say_nothing_of_what_was_not_seen() -> None:
    one = Reach(10, 20, range(5, 26), 0.6)
    votes = [one.vote(z, 1) for z in range(15, 28)]
    assert votes[:3] == [pytest.approx(0.6)] * 3
    assert votes == [*sorted(votes[:11], reverse=True), 0.0, 0.0]
    assert votes[5] > 0 > votes[6], "20 is the last slice of it"
    assert one.vote(10, -1) > 0 > one.vote(9, -1)
    assert one.vote(4, -1) == 0
    assert together([one] * 6, 15, 1) == MOST
    assert together([one] * 6, 25, 1) == -MOST
    assert together([], 15, 1) == 0


def answer(presence: float, score: float = 0.9, side: int = 10) -> Candidates:
    mask = np.zeros((1, 40, 40), np.bool_)
    mask[0, 5 : 5 + side, 5 : 5 + side] = True
    return Candidates(
        mask, np.array([score], np.float32), np.zeros((1, 20, 20), np.float32), (0, 0, 40, 40), presence
    )


def test_the_sides_decide_where_the_walk_is_in_doubt_only() -> None:
    settings, before = PropagationSettings(), answer(1.0).masks[0]

    def goes_on(sides: float, **said: Any) -> bool:
        return verdict(before, answer(**said), settings, sides) is None

    assert [goes_on(0.0, presence=p) for p in (0.99, 0.6, 0.4, 0.01)] == [True, True, False, False]
    assert [goes_on(MOST, presence=p) for p in (0.99, 0.6, 0.4, 0.01)] == [True, True, True, False]
    assert [goes_on(-MOST, presence=p) for p in (0.99, 0.6, 0.4, 0.01)] == [True, False, False, False]
    for presence in (0.99, 0.4):
        assert not goes_on(MOST, presence=presence, side=30), "a mask that cannot be right stays wrong"
    assert not goes_on(MOST, presence=0.99, score=0.01)
    assert not goes_on(1.0, presence=0.99, side=0)
    assert "from the side" in str(verdict(before, answer(0.6), settings, -MOST))
    for least in (0.0, 1.0):
        strange = replace(settings, min_presence=least)
        assert (verdict(before, answer(0.6), strange, 0.0) is None) == (least == 0.0)


@pytest.mark.parametrize("least", [-1.0, 0.0, 1.0])
def test_presences_at_the_ends_of_what_is_possible_can_be_compared(least: float) -> None:
    settings = PropagationSettings(min_presence=least)
    for presence in (0.0, 1.0) if least <= 0 else (1.0,):
        assert verdict(answer(1.0).masks[0], answer(presence), settings, MOST) is None


def through(predictor: Predictor, volume: Volume, start: Mask, **options: Any) -> dict[int, Mask]:
    found: dict[int, Mask] = {}
    for step in propagate(predictor, volume, {14: {1: start}}, **options):
        found |= {step.index: step.masks[1]} if 1 in step.masks else {}
    return found


def test_a_walk_asks_the_sides_and_can_do_without(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = balls()
    volume, start = stack(labels), labels[14] == 1
    found = through(predictor, volume, start)
    low, high = ends(labels == 1)
    assert abs(min(found) - low) <= 1
    assert abs(max(found) - high) <= 1
    unknown = replace(volume, scale=dict.fromkeys("zyx", 1.0), units=dict.fromkeys("zyx"))
    cubes = stack(labels, step=1.0)
    with monkeypatch.context() as blind:
        blind.setattr("src_core.propagation.reach.reaches", None)
        alone = through(predictor, volume, start, settings=PropagationSettings(sides=False))
        assert len(alone) > 5
        for other in (unknown, cubes):
            assert through(predictor, other, start).keys() == alone.keys()
    monkeypatch.setattr("src_core.propagation.reach.together", lambda *args: -2.0)
    assert through(predictor, volume, start).keys() == {14}, "the sides have the last word"


def test_each_slice_that_is_read_and_each_object_that_is_looked_at_is_a_chance_to_cancel(
    predictor: Predictor,
) -> None:
    labels = balls()
    anchors = {14: {k: labels[14] == k for k in (1, 3)}}
    first, *later = itertools.takewhile(
        lambda s: s.anchor or s.index == 14, propagate(predictor, stack(labels), anchors)
    )
    assert first.anchor
    assert {(s.index, *s.masks, *s.stopped) for s in later} == {(14,)}
    assert len(later) == len(labels) + 2


def test_only_who_leaves_its_last_anchor_within_the_range_is_looked_at(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = balls()
    looked: list[tuple[int, set[int]]] = []

    def look(*args: Any, **options: Any) -> Any:
        looked.append((args[3], set(args[4])))
        return iter([(k, ()) for k in args[4]])

    monkeypatch.setattr("src_core.propagation.reach.reaches", look)
    volume, ball = stack(labels), labels[14] == 1
    nothing = np.zeros_like(ball)

    def looks(anchors: dict[int, dict[int, Mask]], **options: Any) -> list[tuple[int, set[int]]]:
        looked.clear()
        assert list(propagate(predictor, volume, anchors, **options))
        return list(looked)

    assert looks({14: {1: ball}}) == [(14, {1})]
    assert looks({12: {1: ball}, 16: {1: ball}}) == [(16, {1}), (12, {1})]
    assert looks({12: {1: ball}, 16: {1: ball}}, start=12, stop=17) == []
    assert looks({12: {1: ball}, 16: {1: nothing}}) == [(12, {1})]


def test_a_run_that_goes_on_looks_again(predictor: Predictor) -> None:
    labels = balls()
    volume, anchors = stack(labels), {14: {1: labels[14] == 1}}
    states: list[Any] = []
    whole = list(propagate(predictor, volume, anchors, checkpoint=states.append))
    state = next(s for s in states if s.direction < 0 and s.index == 13)
    rest = list(propagate(predictor, volume, anchors, resume=state))

    def answers(steps: list[Step]) -> dict[int, int]:
        return {s.index: int(np.count_nonzero(s.masks[1])) for s in steps if 1 in s.masks and s.index < 13}

    assert answers(rest) == answers(whole)
    assert answers(rest), "there is something left to do"


def test_a_run_that_goes_on_can_be_cancelled_while_it_looks_and_looks_at_what_still_walks_only(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = balls()
    anchors = {14: {k: labels[14] == k for k in (1, 3)}}
    states: list[Any] = []
    list(propagate(predictor, stack(labels), anchors, checkpoint=states.append))
    state = next(s for s in states if s.index == 16)
    state.tracks.pop(3)
    asked: list[int | None] = []

    def counted(*args: Any, **options: Any) -> Any:
        for found in reaches(*args, **options):
            asked.append(found and found[0])
            yield found

    monkeypatch.setattr("src_core.propagation.reach.reaches", counted)
    first, *_ = itertools.islice(propagate(predictor, stack(labels), anchors, resume=state), len(labels) + 1)
    assert (first.index, first.masks, asked) == (14, {}, [None] * len(labels) + [1])


class Damaged:
    """An array of which some slices cannot be read."""

    def __init__(self, pixels: NDArray[np.uint8], gone: range) -> None:
        self._pixels, self._gone = pixels, gone
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        wanted = np.atleast_1d(np.arange(self.shape[0])[index[0]])
        if set(wanted.tolist()) & set(self._gone):
            raise OSError("a chunk is damaged")
        return np.asarray(self._pixels[index])


def test_what_cannot_be_read_ends_what_is_seen_but_not_the_walk(predictor: Predictor) -> None:
    labels = balls()
    whole = stack(labels)
    limits = {0: whole.contrast_limits_of()}
    volume = replace(whole, arrays=(Damaged(np.asarray(whole.array[:]), range(27, 40)),), user_limits=limits)
    found = seen_by(reaches(predictor, volume, "z", 14, {1: labels[14] == 1}))
    assert {r.seen for r in found[1]} == {range(0, 27)}
    assert 17 in through(predictor, volume, labels[14] == 1, stop=27)
    for gone in (range(40), range(14, 16)):
        nothing = replace(volume, arrays=(Damaged(np.asarray(whole.array[:]), gone),))
        both = {k: labels[14] == k for k in (1, 3)}
        assert seen_by(reaches(predictor, nothing, "z", 14, both)) == {1: (), 3: ()}


def test_a_single_slice_has_no_sides(predictor: Predictor) -> None:
    labels = balls()
    one = open_volume(np.asarray(stack(labels).array[14:15]), axes="zyx")
    assert seen_by(reaches(predictor, one, "z", 0, {1: labels[14] == 1})) == {1: ()}


def test_planes_are_worth_asking_where_slices_lie_far_apart() -> None:
    pixels = np.zeros((4, 8, 9), np.uint8)

    def worth(axis: str, *scale: float) -> bool:
        return reach.worth_it(open_volume(pixels, scale=dict(zip("zyx", scale, strict=True))), axis)

    assert worth("z", 0.7, 0.4, 0.4)
    assert not worth("z", 0.5, 0.4, 0.4)
    assert worth("z", 0.7, 0.4, 0.8)
    assert not worth("y", 2.0, 0.4, 0.4)
    assert not reach.worth_it(open_volume(pixels), "z")
    flat = open_volume(pixels[0], scale=0.5, units="micrometer")
    assert list(propagate(Predictor.load("nano", "cpu"), flat, {0: {1: np.ones((8, 9), np.bool_)}}))


def test_only_lines_around_an_object_are_kept_and_very_large_ones_are_not_followed_without_end() -> None:
    labels = np.zeros((400, 64, 2048), np.uint8)
    labels[:, 10:50, 400:1600] = 1
    volume = open_volume(labels, axes="zyx", scale={"z": 1.0, "y": 1.0, "x": 1.0})
    seen = crossing.Crossed.of(labels[200] == 1, volume, "z")
    assert seen.reach <= seen.most == crossing.MOST_PX
    assert seen.box == (0, 400 - crossing.MOST_PX, 64, 1600 + crossing.MOST_PX)
    reading = crossing.read_crossing(volume, PlaneRef("z", 200, 0), None, {1: replace(seen, reach=20)})
    with pytest.raises(StopIteration) as read:
        while True:
            next(reading)
    _, pictures = read.value.value[1]
    assert {p.shape for p in pictures.values()} == {(41, 64, 3), (41, 1712, 3)}
