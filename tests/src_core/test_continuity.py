from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from src_core.continuity import (
    MAX_SIDE,
    N_FEATURES,
    Continuity,
    Look,
    Memory,
    Picture,
    features,
    look,
    picture_of,
)
from tests.src_core.propagation_stub import answer

SHAPE = (80, 90)


def disk(
    radius: float = 12, y: float = 40, x: float = 45, shape: tuple[int, int] = SHAPE
) -> NDArray[np.bool_]:
    ys, xs = np.indices(shape)
    return np.asarray((ys - y) ** 2 + (xs - x) ** 2 < radius**2)


def picture(mask: NDArray[np.bool_], bright: float = 200, dark: float = 30, noise_seed: int = 0) -> Picture:
    rng = np.random.default_rng(noise_seed)
    grey = np.where(mask, bright, dark) + rng.normal(0, 3, mask.shape)
    return picture_of(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, -1))


def test_a_look_measures_brightness_inside_and_around() -> None:
    grey = np.full(SHAPE, 0.2, np.float32)
    grey[disk()] = 0.7
    seen = look(grey, disk())
    assert seen.inside == pytest.approx(0.7)
    assert seen.around == pytest.approx(0.2)
    assert seen.spread == pytest.approx(0, abs=1e-6)
    assert seen.edge > 0.05


def test_numbers_are_those_of_the_change() -> None:
    memory = Memory.of(picture(disk()), disk())
    same = features(memory, disk(), answer(disk()), picture(disk(), noise_seed=1), picture(disk()))
    faded = features(memory, disk(), answer(disk()), picture(disk(), 80, 30), picture(disk()))
    small = features(memory, disk(), answer(disk(6)), picture(disk(6)), picture(disk()))
    assert same.shape == (N_FEATURES,)
    assert same.dtype == np.float32
    assert same[3] == 1
    assert same[4] == same[5] == 0
    assert same[10] == pytest.approx(0.96, abs=0.04)
    assert faded[10] < 0.4
    assert small[4] == pytest.approx(2 * np.log(0.5), abs=0.15)
    assert small[3] == pytest.approx(0.25, abs=0.04)


def test_memory_survives_being_stored() -> None:
    memory = Memory(
        Look(0.5, 0.25, 0.125, 0.0625), 300, 200, 400, 350, np.arange(N_FEATURES, dtype=np.float32)
    )
    back = Memory.from_numbers(memory.numbers())
    assert (back.anchor, back.area, back.low, back.high, back.shoulder) == (memory.anchor, 300, 200, 400, 350)
    with pytest.raises(ValueError, match="numbers"):
        Memory.from_numbers(memory.numbers()[:-1])
    np.testing.assert_array_equal(back.last, memory.last)


def test_large_objects_are_looked_at_reduced() -> None:
    shape = (600, 700)
    mask = disk(200, 300, 350, shape)
    sides: list[tuple[int, ...]] = []

    def spy(box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        part = picture(mask)(box)
        sides.append(part.shape)
        return part

    memory = Memory.of(spy, mask)
    assert max(sides[0][:2]) > 3 * MAX_SIDE
    assert memory.anchor.inside - memory.anchor.around == pytest.approx(170 / 255, abs=0.02)


@pytest.mark.parametrize("mask", [disk(2, 0, 0), disk(1.5, 79, 89), np.ones(SHAPE, bool), disk(0.5)])
def test_objects_on_the_border_of_one_pixel_and_of_the_whole_plane_are_judged(
    mask: NDArray[np.bool_],
) -> None:
    judge = Continuity.load()
    memory = Memory.of(picture(mask), mask)
    found, _ = judge.revise(memory, mask, answer(mask), picture(mask), picture(mask))
    assert 0 <= found.presence <= 1
    assert 0 <= found.scores[0] <= 1


def test_planes_of_one_row_are_judged() -> None:
    mask = np.zeros((1, 50), bool)
    mask[0, 10:30] = True
    memory = Memory.of(picture(mask), mask)
    found, _ = Continuity.load().revise(memory, mask, answer(mask), picture(mask), picture(mask))
    assert 0 <= found.presence <= 1


def test_an_empty_answer_stays_as_it_is() -> None:
    memory = Memory.of(picture(disk()), disk())
    empty = answer(np.zeros(SHAPE, bool))
    found, after = Continuity.load().revise(memory, disk(), empty, picture(disk()), picture(disk()))
    assert found is empty
    assert after is memory


def test_an_object_that_fades_away_is_doubted_and_one_that_stays_is_not() -> None:
    judge = Continuity.load()
    worth = {}
    for bright in (200, 34):
        memory = Memory.of(picture(disk()), disk())
        # the network itself is of two minds, and its answer shrinks as it does at ends
        said = answer(disk(12 if bright == 200 else 8), 0.7, 0.6)
        found, after = judge.revise(memory, disk(), said, picture(disk(), bright), picture(disk()))
        worth[bright] = found.presence * float(found.scores[0])
        assert after.low == np.count_nonzero(said.masks[0])
        assert after.last.any()
    assert worth[200] > 0.5
    assert worth[34] < 0.2


def test_the_same_question_gets_the_same_answer() -> None:
    memory = Memory.of(picture(disk()), disk())
    asked = [
        Continuity.load().revise(memory, disk(), answer(disk()), picture(disk()), picture(disk()))
        for _ in "ab"
    ]
    assert asked[0][0].presence == asked[1][0].presence
