"""Propagation by rules: where it goes, in which order, when it stops, and that anchors stay as they are."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from src_core.errors import PromptError, SamError
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings, Step, propagate
from src_core.volumes import open_volume
from tests.src_core.networks import random_nano
from tests.src_core.propagation_stub import SHAPE, Mask, RulePredictor, answer, box, stack

SQUARE = box(2, 4, 8, 10)


def _run(predictor: RulePredictor, anchors: Any, volume: Any = None, **options: Any) -> list[Step]:
    return list(propagate(predictor, volume or stack(), anchors, **options))  # type: ignore[arg-type]


def _collect(steps: list[Step]) -> dict[int, dict[int, Mask]]:
    """Return plane -> object -> mask, and make sure that nothing came twice."""
    found: dict[int, dict[int, Mask]] = {}
    for step in steps:
        here = found.setdefault(step.index, {})
        assert not here.keys() & step.masks.keys()
        here.update(step.masks)
        assert step.scores.keys() == step.masks.keys()
    return found


def test_anchors_first_then_up_then_down_each_plane_once() -> None:
    predictor = RulePredictor()
    steps = _run(predictor, {5: {7: SQUARE}})
    assert [s.index for s in steps] == [5, 6, 7, 8, 9, 10, 11, 4, 3, 2, 1, 0]
    assert [s.anchor for s in steps] == [True] + [False] * 11
    assert predictor.embedded == [6, 7, 8, 9, 10, 11, 4, 3, 2, 1, 0]
    assert all(list(s.masks) == [7] for s in steps)
    assert steps[0].scores == {7: 1.0}
    assert steps[1].scores[7] == pytest.approx(0.9)


def test_each_plane_is_asked_with_the_answer_of_the_one_before() -> None:
    predictor = RulePredictor(lambda index, previous: answer(np.roll(previous, 1, 1)))
    found = _collect(_run(predictor, {5: {1: SQUARE}}, stack(9)))
    for index in range(9):
        assert np.array_equal(found[index][1], np.roll(SQUARE, abs(index - 5), 1)), index
    first, second = predictor.asked[0][1][0], predictor.asked[1][1][0]
    assert first.mask is not None
    assert second.mask is not None
    assert first.mask.dtype == np.bool_  # the anchor's own pixels
    assert second.mask.dtype == np.float32  # then logits, with where they lie
    assert second.mask_window == (0, 0, *SHAPE)


def test_anchors_are_yielded_as_they_are_and_never_changed() -> None:
    ragged = np.random.default_rng(0).random(SHAPE) > 0.4
    before = ragged.copy()
    found = _collect(_run(RulePredictor(lambda *_: answer(SQUARE)), {3: {1: ragged}, 6: {1: SQUARE}}))
    assert np.array_equal(found[3][1], before)
    assert np.array_equal(ragged, before)
    assert sorted(found) == list(range(12))


def test_between_two_anchors_both_ends_count_by_distance() -> None:
    low, high = box(2, 2, 8, 10), box(2, 6, 8, 14)

    def rule(index: int, previous: Mask) -> Any:
        return answer(previous, score=0.5 if previous[2, 2] else 0.9)

    steps = _run(RulePredictor(rule), {1: {1: low}, 9: {1: high}}, stack(11))
    found = _collect(steps)
    for index in range(11):
        expected = low if index < 5 else high
        if index == 5:  # half way only what both say is above zero
            expected = low & high
        assert np.array_equal(found[index][1], expected), index
    scores = {s.index: s.scores[1] for s in steps if s.masks and not s.anchor}
    for index in range(2, 9):
        weight = (index - 1) / 8
        sure = (1 - weight) * 0.5 + weight * 0.9
        overlap = (low & high).sum() / (low | high).sum()
        assert scores[index] == pytest.approx((sure + overlap) / 2, abs=1e-5)


def test_every_plane_visited_between_anchors_gives_the_caller_a_turn() -> None:
    predictor = RulePredictor()
    steps = propagate(predictor, stack(9), {1: {1: SQUARE}, 7: {1: SQUARE}})
    next(steps), next(steps)
    for visited in range(1, 6):
        assert not next(steps).masks, "the answer waits for the way back"
        assert len(predictor.asked) == visited


def test_logits_are_no_anchor() -> None:
    with pytest.raises(PromptError, match="expected bool"):
        _run(RulePredictor(), {5: {1: np.full(SHAPE, -5.0)}})  # type: ignore[dict-item]


@pytest.mark.parametrize("wrong", [{"min_presence": float("nan")}, {"max_growth": 0.0}, {"cues": ("boxes",)}])
def test_senseless_settings_are_refused(wrong: Any) -> None:
    with pytest.raises(PromptError):
        PropagationSettings(**wrong)


def test_a_middle_anchor_splits_the_stretch() -> None:
    a, b, c = box(0, 0, 6, 6), box(1, 1, 7, 7), box(2, 2, 8, 8)
    found = _collect(_run(RulePredictor(), {2: {1: a}, 5: {1: b}, 10: {1: c}}))
    assert np.array_equal(found[3][1], a)
    assert np.array_equal(found[4][1], b)
    assert np.array_equal(found[7][1], b)
    assert np.array_equal(found[8][1], c)
    assert np.array_equal(found[0][1], a)
    assert np.array_equal(found[11][1], c)


def test_where_the_ends_disagree_entirely_the_nearer_one_is_taken() -> None:
    low, high = box(0, 0, 4, 4), box(6, 12, 10, 18)
    found = _collect(_run(RulePredictor(), {0: {1: low}, 4: {1: high}}, stack(5)))
    assert np.array_equal(found[1][1], low)
    assert np.array_equal(found[3][1], high)
    assert found[2][1].any()


def test_one_direction_fills_what_the_other_could_not_reach() -> None:
    """Going down ends at once; the answers of the way up are used as they are."""
    low, high = box(0, 0, 4, 4), box(6, 12, 10, 18)

    def rule(index: int, previous: Mask) -> Any:
        return answer(previous, presence=0.1 if previous[6, 12] else 1.0)

    steps = _run(RulePredictor(rule), {0: {1: low}, 5: {1: high}}, stack(6))
    found = _collect(steps)
    assert all(np.array_equal(found[i][1], low) for i in range(5))
    assert not any(s.stopped for s in steps)


def test_a_hole_that_no_direction_reaches_has_a_reason() -> None:
    def rule(index: int, previous: Mask) -> Any:
        return answer(previous, presence=0.1 if index in (3, 4) else 1.0)

    settings = PropagationSettings(interpolate_below=0)
    steps = _run(RulePredictor(rule), {0: {1: SQUARE}, 7: {1: SQUARE}}, stack(8), settings=settings)
    assert sorted(_collect([s for s in steps if s.masks])) == [0, 1, 2, 5, 6, 7]
    stopped = {s.index: s.stopped for s in steps if s.stopped}
    assert list(stopped) == [4]
    assert "presence" in stopped[4][1]


def test_an_object_ends_before_an_anchor_that_says_nothing_here() -> None:
    """On either side of it, slices stand by themselves: nothing is blended across it."""
    low, high, nothing = box(2, 2, 8, 10), box(2, 6, 8, 14), np.zeros(SHAPE, bool)
    predictor = RulePredictor()
    steps = _run(predictor, {1: {1: low}, 5: {1: nothing}, 9: {1: high}}, stack(11))
    found = _collect(steps)
    assert all(np.array_equal(found[i][1], low) for i in range(5))
    assert all(np.array_equal(found[i][1], high) for i in range(6, 11))
    assert not found[5][1].any() and 5 not in predictor.embedded
    said = [(s.index, s.stopped[1]) for s in steps if s.index == 5 and s.stopped]
    assert said == [(5, "you have said that it is not here")] * 2
    assert not any(s.ends for s in steps), "what the user says is no question"


def test_an_object_that_is_said_to_be_nowhere_is_refused_and_spares_others() -> None:
    with pytest.raises(PromptError, match="no other"):
        _run(RulePredictor(), {3: {1: SQUARE, 2: np.zeros(SHAPE, bool)}})


def test_ends_are_as_sure_as_the_object_is_not_seen() -> None:
    def rule(index: int, previous: Mask) -> Any:
        return answer(previous, 0.8, presence={2: 0.4, 9: 0.1}.get(index, 1.0))

    steps = _run(RulePredictor(rule), {5: {1: SQUARE}})
    ends = {s.index: s.ends[1] for s in steps if s.ends}
    assert ends == {2: pytest.approx(0.6), 9: pytest.approx(0.9)}
    blind = RulePredictor(lambda index, previous: answer(previous, 0.05 if index == 7 else 0.8))
    (end,) = [s.ends for s in _run(blind, {5: {1: SQUARE}}) if s.ends]
    assert end == {1: pytest.approx(0.95)}, "of a network that says nothing of presence, the score"
    to_the_rim = _run(RulePredictor(), {5: {1: SQUARE}}, start=3, stop=8)
    assert not any(s.ends for s in to_the_rim), "the stack or the range ends there, not the object"


LEFT = box(2, 0, 6, 4)
REASONS = {
    "empty": (answer(np.zeros(SHAPE, bool)), "empty"),
    "presence": (answer(LEFT, presence=0.49), "ended"),
    "score": (answer(LEFT, score=0.09), "unsure"),
    "growth": (answer(box(0, 0, 7, 7)), "grew 3.1 times"),
    "jump": (answer(box(2, 12, 6, 16)), "jumped"),
}


@pytest.mark.parametrize("kind", REASONS)
def test_an_object_ends_with_its_reason_and_nothing_is_asked_beyond(kind: str) -> None:
    last, word = REASONS[kind]
    predictor = RulePredictor(lambda index, previous: last if index in (2, 8) else answer(previous))
    steps = _run(predictor, {5: {1: LEFT}})
    assert sorted(_collect([s for s in steps if s.masks])) == [3, 4, 5, 6, 7]
    assert predictor.embedded == [6, 7, 8, 4, 3, 2]
    stopped = {s.index: s.stopped for s in steps if s.stopped}
    assert list(stopped) == [8, 2]
    assert all(word in reasons[1] for reasons in stopped.values())


def test_what_is_just_good_enough_goes_on() -> None:
    good = [
        answer(LEFT, presence=0.51),
        answer(LEFT, score=0.11),
        answer(box(0, 0, 6, 8)),  # 48 pixels are 3 times 16
        answer(box(3, 1, 5, 3)),  # small, but inside
    ]
    for last in good:
        predictor = RulePredictor(lambda index, previous, last=last: last)  # type: ignore[misc]
        steps = _run(predictor, {0: {1: LEFT}}, stack(2))
        assert [s.index for s in steps if 1 in s.masks] == [0, 1]


def test_limits_are_settings() -> None:
    rule = RulePredictor(lambda index, previous: answer(previous, score=0.6, presence=0.6))
    assert len(_run(rule, {0: {1: LEFT}}, stack(3), settings=PropagationSettings(min_score=0.61))) == 2
    assert len(_run(rule, {0: {1: LEFT}}, stack(3), settings=PropagationSettings(min_presence=0.61))) == 2
    assert len(_run(rule, {0: {1: LEFT}}, stack(3))) == 3


@pytest.mark.parametrize(
    ("start", "stop", "planes"),
    [
        (None, None, range(12)),
        (3, 8, range(3, 8)),
        (5, 6, range(5, 6)),
        (0, 12, range(12)),
        (7, None, range(7, 12)),
        (None, 3, range(3)),
        (9, 12, range(9, 12)),
    ],
)
def test_only_the_range_is_filled(start: int | None, stop: int | None, planes: range) -> None:
    predictor = RulePredictor()
    steps = _run(predictor, {5: {1: SQUARE}}, start=start, stop=stop)
    assert sorted(_collect([s for s in steps if s.masks and not s.anchor])) == [i for i in planes if i != 5]
    # what lies between the anchor and the range has to be passed, nothing else
    assert set(predictor.embedded) <= set(range(min(5, *planes), max(5, *planes) + 1)) - {5}


def test_a_range_between_two_anchors_is_blended_as_without_a_range() -> None:
    anchors = {1: {1: box(2, 2, 8, 10)}, 9: {1: box(2, 6, 8, 14)}}
    whole = _collect(_run(RulePredictor(), anchors))
    steps = _run(RulePredictor(), anchors, start=4, stop=7)
    part = _collect([s for s in steps if s.masks and not s.anchor])
    assert sorted(part) == [4, 5, 6]
    assert all(np.array_equal(part[i][1], whole[i][1]) for i in part)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (0, 13), (5, 5), (6, 4), (12, None), (None, 0)])
def test_a_range_outside_the_stack_is_refused(start: int | None, stop: int | None) -> None:
    with pytest.raises(PromptError, match="range"):
        _run(RulePredictor(), {5: {1: SQUARE}}, start=start, stop=stop)


def test_all_objects_of_a_plane_share_one_batch() -> None:
    masks = {k: box(0, 3 * k, 3, 3 * k + 2) for k in range(1, 6)}
    predictor = RulePredictor()
    found = _collect(_run(predictor, {4: masks}, stack(7)))
    assert [(index, len(prompts)) for index, prompts in predictor.asked] == [
        (i, 5) for i in (5, 6, 3, 2, 1, 0)
    ]
    assert predictor.embedded == [5, 6, 3, 2, 1, 0]
    for index in range(7):
        assert all(np.array_equal(found[index][k], masks[k]) for k in masks)


def test_objects_with_anchors_on_different_planes_share_the_walk() -> None:
    one, two = box(0, 0, 4, 4), box(6, 10, 10, 16)
    predictor = RulePredictor()
    found = _collect(_run(predictor, {2: {1: one}, 5: {2: two}}, stack(8)))
    assert all(found[i].keys() == {1, 2} for i in range(8))
    assert sorted(predictor.embedded) == [0, 1, 2, 3, 3, 4, 4, 5, 6, 7]
    assert {i: len(p) for i, p in predictor.asked if i > 5} == {6: 2, 7: 2}


def test_an_object_that_ends_does_not_end_the_others() -> None:
    one, two = box(0, 0, 4, 4), box(6, 10, 10, 16)
    rule = RulePredictor(lambda i, m: answer(m, presence=0.0 if m[0, 0] and i >= 3 else 1.0))
    steps = _run(rule, {0: {1: one, 2: two}}, stack(6))
    found = _collect(steps)
    assert [i for i in range(6) if 1 in found[i]] == [0, 1, 2]
    assert [i for i in range(6) if 2 in found[i]] == list(range(6))
    assert {s.index: s.stopped for s in steps if 2 in s.stopped} == {5: {2: "the stack ends here"}}
    assert [s.index for s in steps if 1 in s.stopped] == [3]


def test_contested_pixels_go_to_the_surer_object() -> None:
    one, two = box(0, 0, 6, 8), box(0, 6, 6, 14)

    def rule(index: int, previous: Mask) -> Any:
        return answer(one, score=0.6) if previous[0, 0] else answer(two, score=0.8)

    steps = _run(RulePredictor(rule), {0: {1: box(0, 0, 6, 6), 2: two}}, stack(2))
    masks = steps[1].masks
    assert np.array_equal(masks[2], two)
    assert np.array_equal(masks[1], one & ~two)


def test_another_objects_anchor_is_never_taken() -> None:
    wide, narrow = box(0, 0, 6, 16), box(2, 2, 4, 6)
    found = _collect(_run(RulePredictor(), {0: {1: wide}, 2: {2: narrow}}, stack(4)))
    assert np.array_equal(found[2][2], narrow)
    assert np.array_equal(found[2][1], wide & ~narrow)


def test_overlapping_anchors_of_the_caller_stay_his() -> None:
    a, b = box(0, 0, 6, 8), box(0, 6, 6, 14)
    steps = _run(RulePredictor(), {0: {1: a, 2: b}}, stack(1))
    assert np.array_equal(steps[0].masks[1], a)
    assert np.array_equal(steps[0].masks[2], b)


BAD = {
    "nothing": ({}, "nothing"),
    "no object": ({3: {}}, "nothing"),
    "beyond the stack": ({12: {1: SQUARE}}, "z=12"),
    "before the stack": ({-1: {1: SQUARE}}, "z=-1"),
    "wrong shape": ({3: {1: SQUARE.T}}, r"\(20, 12\).*\(12, 20\)"),
    "empty": ({3: {1: np.zeros(SHAPE, bool)}}, "empty"),
    "background's id": ({3: {0: SQUARE}}, "ids"),
    "negative id": ({3: {-4: SQUARE}}, "ids"),
    "a name for an id": ({3: {"a": SQUARE}}, "object ids are whole numbers"),
    "between planes": ({3.5: {1: SQUARE}}, "planes are whole numbers"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_anchors_are_refused_before_any_work(kind: str) -> None:
    anchors, word = BAD[kind]
    predictor = RulePredictor()
    with pytest.raises(PromptError, match=word):
        _run(predictor, anchors)
    assert predictor.embedded == []


def test_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(SamError):
        _run(RulePredictor(), {0: {1: SQUARE}}, axis="w")
    with pytest.raises(SamError):
        _run(RulePredictor(), {0: {1: SQUARE}}, open_volume(np.zeros(SHAPE, np.uint8)), axis="x")


def test_a_single_plane_yields_its_anchor_alone() -> None:
    assert [
        s.anchor for s in _run(RulePredictor(), {0: {1: SQUARE}}, open_volume(np.zeros(SHAPE, np.uint8)))
    ] == [True]


@pytest.mark.parametrize(("axis", "shape", "count"), [("y", (6, 8), 7), ("x", (6, 7), 8)])
def test_it_travels_along_any_axis(axis: str, shape: tuple[int, int], count: int) -> None:
    predictor = RulePredictor()
    mask = box(1, 1, 4, 4, shape)
    steps = _run(predictor, {3: {1: mask}}, open_volume(np.zeros((6, 7, 8), np.uint8)), axis=axis)
    assert sorted(_collect(steps)) == list(range(count))
    assert predictor.axes == {axis}


def test_integer_masks_and_numpy_indices_are_fine() -> None:
    found = _collect(_run(RulePredictor(), {np.int64(1): {np.uint32(3): SQUARE.astype(np.uint8)}}, stack(3)))
    assert found[2].keys() == {3}
    assert all(m.dtype == np.bool_ for masks in found.values() for m in masks.values())


def test_who_stops_listening_stops_the_work() -> None:
    predictor = RulePredictor()
    steps = propagate(predictor, stack(500), {0: {1: SQUARE}})  # type: ignore[arg-type]
    assert predictor.embedded == []
    assert [s.index for s in islice(steps, 4)] == [0, 1, 2, 3]
    assert predictor.embedded == [1, 2, 3]
    steps.close()  # type: ignore[attr-defined]
    assert predictor.embedded == [1, 2, 3]


def test_only_the_plane_at_hand_is_in_memory() -> None:
    """The planes are read one at a time, when their turn comes."""
    read: list[Any] = []

    class Recorder:
        shape, dtype, ndim = (9, *SHAPE), np.dtype(np.uint8), 3

        def __getitem__(self, where: Any) -> Any:
            read.append(where)
            return np.zeros(self.shape, np.uint8)[where]

    settings = PropagationSettings(follow=False)  # else two are compared
    steps = propagate(RulePredictor(), open_volume(Recorder()), {4: {1: SQUARE}}, settings=settings)  # type: ignore[arg-type]
    next(steps)
    assert len(read) == 0
    for done in range(1, 4):
        next(steps)
        assert len(read) == done


def test_callers_can_bring_their_own_embeddings() -> None:
    predictor, asked = RulePredictor(), []

    def embed(index: int) -> Any:
        asked.append(index)
        return index

    _run(predictor, {1: {1: SQUARE}}, stack(4), embed=embed)
    assert asked == [2, 3, 0]
    assert predictor.embedded == []


@pytest.mark.parametrize(
    ("native", "cues", "with_box", "with_point"),
    [
        (True, None, False, False),
        (False, None, True, False),
        (True, ("point",), False, True),
        (False, ("box", "point"), True, True),
        (False, (), False, False),
    ],
)
def test_cues_come_from_the_previous_mask(
    native: bool, cues: tuple[str, ...] | None, with_box: bool, with_point: bool
) -> None:
    predictor = RulePredictor(native=native)
    _run(predictor, {0: {1: SQUARE}}, stack(3), settings=PropagationSettings(cues=cues))
    for _, (prompts,) in predictor.asked:
        assert prompts.box_yxyx == ((2, 4, 8, 10) if with_box else None)
        assert len(prompts.points_yx) == with_point
        if with_point:
            y, x = prompts.points_yx[0].astype(int)
            assert SQUARE[y - 1 : y + 2, x - 1 : x + 2].all()


def test_a_real_network_goes_the_same_way() -> None:
    volume = open_volume(np.random.default_rng(0).integers(0, 255, (4, 40, 50), np.uint8))
    mask = box(5, 5, 30, 30, (40, 50))
    lenient = PropagationSettings(min_presence=0, min_score=-9, min_overlap=0, max_growth=1e9)
    steps = list(propagate(Predictor(random_nano()), volume, {0: {1: mask}, 3: {1: mask}}, settings=lenient))
    again = list(propagate(Predictor(random_nano()), volume, {0: {1: mask}, 3: {1: mask}}, settings=lenient))
    assert {s.index for s in steps if s.masks} >= {0, 1, 2, 3}
    for a, b in zip(steps, again, strict=True):
        assert (a.index, a.scores, a.stopped) == (b.index, b.scores, b.stopped)
        assert all(np.array_equal(a.masks[k], b.masks[k]) for k in a.masks)
