"""Masks that grow again before their object ends were somebody else's, and are taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from src_core.continuity import N_FEATURES, Look, Memory
from src_core.propagation import Step, propagate
from src_core.propagation.held import MOST
from src_core.propagation.tracks import PropagationState
from src_core.types import Candidates
from tests.src_core.propagation_stub import Mask, RulePredictor, answer, box, stack

WAIST = [20, 16, 12, 8, 5, 7, 11]
"""Lengths of a bar from slice to slice; after the last it is gone."""


class Believing:
    """A judge that believes whatever the network says, and remembers areas."""

    def revise(self, memory: Memory, previous: Mask, found: Candidates, *pictures: Any) -> tuple[Any, Memory]:
        if not found.masks[0].any():
            return found, memory
        return found, memory.after(found, np.zeros(N_FEATURES, np.float32))


def bars(lengths: Sequence[int], judged: bool = True, start: int = 0) -> RulePredictor:
    """Answer with a bar of these lengths on the slices away from `start`."""

    def rule(index: int, previous: Mask) -> Candidates:
        there = abs(index - start)
        if previous[9, 19]:
            return answer(box(2, 3, 10, 20), score=0.5)
        if there >= len(lengths):
            return answer(previous, presence=0.1)
        return answer(box(2, 0, 4, lengths[there]))

    predictor = RulePredictor(rule)
    if judged:
        predictor.continuity = Believing()  # type: ignore[assignment]
    return predictor


def walk(
    predictor: RulePredictor, lengths: Sequence[int], n: int = 12, **options: Any
) -> tuple[dict[int, int], list[Step]]:
    """Return the areas of object 1 by slice, and all steps."""
    steps = list(propagate(predictor, stack(n), {0: {1: box(2, 0, 4, lengths[0])}}, **options))  # type: ignore[arg-type]
    assert [s.index for s in steps] == sorted(s.index for s in steps)
    return {s.index: int(s.masks[1].sum()) for s in steps if 1 in s.masks}, steps


def test_what_grew_again_before_the_end_is_taken_back() -> None:
    areas, steps = walk(bars(WAIST), WAIST)
    assert areas == {0: 40, 1: 32, 2: 24, 3: 16, 4: 10}
    ((index, reason),) = [(s.index, s.stopped[1]) for s in steps if s.stopped]
    assert index == 5
    assert "grew again" in reason
    assert "2 planes later, the object has probably ended" in reason
    assert {s.index: s.ends for s in steps if s.ends} == {5: {1: pytest.approx(0.9)}}
    assert all(s.masks.keys() == s.scores.keys() for s in steps)


def test_nothing_is_taken_back_without_an_end_a_waist_or_a_judge() -> None:
    assert walk(bars(WAIST), WAIST, n=7)[0].keys() == set(range(7)), "the stack ends, not the object"
    assert walk(bars(WAIST, judged=False), WAIST)[0].keys() == set(range(7))
    growing = [10, 11, 10, 11, 12]
    assert walk(bars(growing), growing)[0].keys() == set(range(5))
    through = [20, 10, 14, 18, 15, 12, 9]
    assert walk(bars(through), through)[0].keys() == set(range(7)), "it has become smaller than ever again"


def test_no_more_than_a_few_planes_are_taken_back_and_no_earlier_ones_wait() -> None:
    lengths = [20, 18, 10, *range(12, 20)]
    seen: list[int] = []
    predictor = bars(lengths)
    late = {}
    for step in propagate(predictor, stack(14), {0: {1: box(2, 0, 4, 20)}}):  # type: ignore[arg-type]
        late[step.index] = predictor.asked[-1][0] - step.index if predictor.asked else 0
        seen += [step.index] * (1 in step.masks)
    assert seen == list(range(len(lengths) - MOST))
    assert late[1] == 1, "it might be the last"
    assert late[2] == late[3] == MOST + 1, "it might be the last, or taken back, until then"


def test_on_its_last_plane_only_what_is_surer_stays_of_an_object() -> None:
    core, rim = box(2, 0, 4, 6), box(2, 0, 4, 8)

    def fading(faint: float) -> RulePredictor:
        def rule(index: int, previous: Mask) -> Candidates:
            found = answer(rim, presence=0.9 if index < 4 else 0.1)
            logits = np.where(core, 6, np.where(rim, faint, -6)).astype(np.float32)
            return replace(found, logits=logits[None])

        predictor = RulePredictor(rule)
        predictor.continuity = Believing()  # type: ignore[assignment]
        return predictor

    anchors = {0: {1: rim}}
    found = {s.index: s.masks[1] for s in propagate(fading(0.3), stack(), anchors) if s.masks}  # type: ignore[arg-type]
    assert found.keys() == {0, 1, 2, 3}
    assert all(np.array_equal(found[z], rim) for z in (0, 1, 2))
    np.testing.assert_array_equal(found[3], core)
    found = {s.index: s.masks[1] for s in propagate(fading(0.3), stack(4), anchors) if s.masks}  # type: ignore[arg-type]
    assert np.array_equal(found[3], rim), "it goes on where the stack ends"
    core = box(0, 0, 0, 0)
    found = {s.index: s.masks[1] for s in propagate(fading(0.3), stack(), anchors) if s.masks}  # type: ignore[arg-type]
    assert np.array_equal(found[3], rim), "or nothing would be left"


def test_the_caller_is_asked_after_every_plane_that_waits() -> None:
    lengths = [20, 10, *range(12, 20)]
    predictor = bars(lengths)
    asked = 0
    for _ in propagate(predictor, stack(14), {0: {1: box(2, 0, 4, 20)}}):  # type: ignore[arg-type]
        assert len(predictor.asked) <= asked + 1, "a stopped run ends with the plane under way"
        asked = len(predictor.asked)


def test_who_was_there_all_along_gets_the_pixels_back() -> None:
    anchors = {0: {1: box(2, 0, 4, 20)}, 5: {2: box(2, 3, 10, 20)}}
    steps = list(propagate(bars(WAIST), stack(), anchors))  # type: ignore[arg-type]
    (at_six,) = (s for s in steps if s.index == 6 and s.masks)
    assert at_six.masks.keys() == {2}
    np.testing.assert_array_equal(at_six.masks[2], box(2, 3, 10, 20))


def test_both_ways() -> None:
    lengths = [20, 16, 12, 5, 7]
    steps = list(propagate(bars(lengths, start=5), stack(), {5: {1: box(2, 0, 4, 20)}}))  # type: ignore[arg-type]
    assert sorted(s.index for s in steps if s.index < 5 and 1 in s.masks) == [2, 3, 4]
    assert [s.index for s in steps if 1 in s.stopped and s.index < 5] == [1]


def test_between_anchors_nothing_is_taken_back() -> None:
    anchors = {0: {1: box(2, 0, 4, 20)}, 9: {1: box(2, 0, 4, 12)}}
    steps = list(propagate(bars(WAIST), stack(), anchors))  # type: ignore[arg-type]
    there = {s.index for s in steps if 1 in s.masks and s.masks[1].any()}
    assert there >= set(range(7))


def test_a_run_goes_on_from_every_plane_to_the_same_end() -> None:
    def plain(steps: Sequence[Step]) -> list[Any]:
        return [
            (s.index, {k: m.tolist() for k, m in s.masks.items()}, s.scores, s.stopped, s.ends)
            for s in steps
            if s.masks or s.stopped
        ]

    states: list[tuple[int, PropagationState]] = []
    steps: list[Step] = []
    volume, anchors = stack(), {0: {1: box(2, 0, 4, 20)}}
    whole = propagate(bars(WAIST), volume, anchors, checkpoint=lambda s: states.append((len(steps), s)))  # type: ignore[arg-type]
    for step in whole:
        steps.append(step)
    assert len(states) > 8
    for done, state in states:
        rest = list(propagate(bars(WAIST), volume, anchors, resume=state))  # type: ignore[arg-type]
        assert plain(rest) == plain(steps[done:])


def test_a_waist_is_narrower_than_what_was_before_and_after() -> None:
    memory = Memory(Look(0.5, 0.2, 0.1, 0.1), 100, 100, 100, 100, np.zeros(N_FEATURES, np.float32))

    def after(*areas: int) -> Memory:
        found = memory
        for area in areas:
            found = found.after(answer(box(0, 0, 1, area, (1, 400))), np.zeros(N_FEATURES, np.float32))
        return found

    assert not memory.is_past_waist(130)
    assert not after(90).is_past_waist(130), "not narrow enough"
    assert after(80).is_past_waist(95)
    assert not after(80).is_past_waist(90), "not wide enough"
    assert after(120, 101).shoulder == 100, "not smaller than the anchor"
    assert after(200, 99).is_past_waist(130)
    assert replace(after(120, 90), high=500).shoulder == 120, "what comes later is no shoulder"
