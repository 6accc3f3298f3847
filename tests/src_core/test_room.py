"""How much room a box leaves, and the smaller box that is asked about instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from src_core.masks import Mask, bounds, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.room import N_FEATURES, SMALLER, Room, features, smaller, with_box, within_plane
from src_core.synthetic import make_stack
from src_core.tiles import Extent
from src_core.types import Candidates
from tests.src_core.networks import random_nano

WINDOW = (0.0, 0.0, 128.0, 128.0)
SHAPE = (128, 128)
BOX = (20.0, 30.0, 60.0, 110.0)


def _answer(mask: Mask, score: float = 0.8) -> Candidates:
    logits = np.where(mask, 5, -5).astype(np.float32)[None]
    return Candidates(np.zeros((0, 0, 0), bool), np.array([score], np.float32), logits, WINDOW, 0.9)


def _filled(box: Extent) -> Mask:
    """A mask over the window, 2 px each, that fills a box."""
    mask = np.zeros((64, 64), bool)
    y0, x0, y1, x1 = (round(n / 2) for n in box)
    mask[y0:y1, x0:x1] = True
    return mask


def _judge(promised: list[float]) -> Room:
    """A judge that always promises the same."""
    judge = Room().eval()
    for layer in (judge.layers[0], judge.layers[-1]):
        torch.nn.init.zeros_(layer.weight)
    judge.layers[-1].bias.data = torch.tensor(promised)
    return judge


def test_a_smaller_box_gives_way_on_every_side() -> None:
    assert smaller(BOX, 0.1, SHAPE) == pytest.approx((24, 38, 56, 102))
    assert smaller(BOX, 0.0, SHAPE) == BOX


def test_no_room_is_taken_at_the_rim_of_the_plane() -> None:
    assert smaller((0.0, 30.0, 60.0, 128.0), 0.1, SHAPE) == pytest.approx((0, 39.8, 54, 128))
    assert smaller((0.0, 0.0, 128.0, 128.0), 0.2, SHAPE) == (0, 0, 128, 128)
    rim = (0.0, 30.0, 60.0, 110.0)
    numbers = features(rim, [_answer(_filled(rim))] * len(SMALLER), SHAPE)
    np.testing.assert_allclose(numbers[:, 7], 0, atol=0.01)  # of the four gaps, the largest is at the rim
    assert numbers[-1, 3] == pytest.approx(1 / (0.8 * 0.6), abs=0.03)


def test_numbers_say_how_far_an_answer_stays_within_its_box() -> None:
    numbers = features(BOX, [_answer(_filled(smaller(BOX, 0.1, SHAPE)))] * len(SMALLER), SHAPE)
    assert numbers.shape == (len(SMALLER), N_FEATURES) and np.isfinite(numbers).all()
    gaps, fill = numbers[:, 4:8], numbers[:, 3]
    np.testing.assert_allclose(gaps.mean(1), 0.1 - np.array(SMALLER), atol=0.01)
    assert fill[0] == pytest.approx(0.8**2, abs=0.03) and fill[-1] > 1
    np.testing.assert_allclose(numbers[:, 9], 1)


def test_answers_that_show_nothing_have_numbers_too() -> None:
    empty = _answer(np.zeros((64, 64), bool), score=0.0)
    assert np.isfinite(features(BOX, [empty] * len(SMALLER), SHAPE)).all()


def test_the_box_is_taken_that_promises_most() -> None:
    answers = [_answer(_filled(BOX))] * len(SMALLER)
    assert _judge([0.7, 0.7, 0.6, 0.6, 0.6, 0.6]).fitting(BOX, answers, SHAPE) == BOX
    assert _judge([0.7, 0.6, 0.6, 0.8, 0.6, 0.6]).fitting(BOX, answers, SHAPE) == smaller(
        BOX, SMALLER[3], SHAPE
    )


def test_no_box_leaves_a_click_on_the_object_outside() -> None:
    inner = smaller(BOX, 0.2, SHAPE)
    on, rim = (40, 70), (21, 70)
    assert with_box(Prompts([on], box_yxyx=BOX), inner).box_yxyx == inner
    assert with_box(Prompts([on, rim], box_yxyx=BOX), inner).box_yxyx == BOX
    background = Prompts([on, rim], [1, 0], box_yxyx=BOX)
    assert with_box(background, inner).box_yxyx == inner
    assert with_box(Prompts(box_yxyx=BOX), BOX).box_yxyx == BOX


def test_what_a_box_reaches_beyond_the_plane_is_not_room(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(random_nano())
    embedding = predictor.embed(np.zeros((96, 128), np.uint8))
    monkeypatch.setattr(Room, "fitting", lambda self, box, answers, shape: smaller(box, SMALLER[-1], shape))
    for box, part in (
        ((-200.0, 20.0, 10.0, 60.0), (0.0, 20.0, 10.0, 60.0)),
        ((40.0, 100.0, 500.0, 900.0), (40.0, 100.0, 96.0, 128.0)),
    ):
        (found,) = predictor.fitted(embedding, [Prompts(box_yxyx=box)])
        assert found.box_yxyx == smaller(part, SMALLER[-1], embedding.shape)


def test_each_box_is_answered_at_every_size_and_no_mask_is_painted() -> None:
    predictor = Predictor(random_nano())
    embedding = predictor.embed(make_stack(8_000_001, (1, 96, 128)).image[0])
    boxes = [(10.0, 10.0, 40.0, 50.0), BOX, (30.0, 20.0, 90.0, 60.0)]
    found = predictor.within(embedding, boxes)
    assert [len(answers) for answers in found] == [len(SMALLER)] * 3
    assert all(a.masks.size == 0 and a.logits.shape[0] == 1 for answers in found for a in answers)
    alone = predictor.within(embedding, boxes[1:2])[0]
    for one, other in zip(alone, found[1], strict=True):
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-3)


def test_only_drawn_boxes_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(random_nano())
    embedding = predictor.embed(make_stack(8_000_001, (1, 96, 128)).image[0])
    asked: list[Extent] = []
    within = Predictor.within
    monkeypatch.setattr(
        Predictor, "within", lambda self, e, boxes: asked.extend(boxes) or within(self, e, boxes)
    )
    mask = np.zeros(embedding.shape, bool)
    mask[20:40, 20:40] = True
    predictor.predict_many(embedding, [Prompts([(30, 30)]), Prompts(mask=mask)])
    predictor.predict_many(embedding, [Prompts(box_yxyx=BOX)], beside=False)
    assert not asked
    predictor.predict_many(embedding, [Prompts([(30, 30)]), Prompts([(40, 70)], box_yxyx=BOX)])
    assert asked == [within_plane(BOX, embedding.shape)]


def test_what_ships_finds_objects_in_boxes_that_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.load("nano", "cpu")
    stack = make_stack(8_000_315, (3, 96, 96), "nuclei", 10.0)
    plane, labels = stack.image[1], stack.labels[1]
    embedding = predictor.embed(plane)
    truths = [labels == k for k in np.unique(labels)[1:] if np.count_nonzero(labels == k) > 60]
    assert len(truths) >= 3

    def mean(room: float) -> float:
        prompts = []
        for truth in truths:
            box = smaller(tuple(float(n) for n in bounds(truth)), -room, truth.shape)  # type: ignore[arg-type]
            height, width = truth.shape
            inside = (max(0.0, box[0]), max(0.0, box[1]), min(height, box[2]), min(width, box[3]))
            prompts.append(Prompts(box_yxyx=inside))
        found = predictor.predict_many(embedding, prompts)
        return float(np.mean([iou(f.masks[0], t) for f, t in zip(found, truths, strict=True)]))

    loose, exact = mean(0.2), mean(0.0)
    monkeypatch.setattr(Room, "fitting", lambda self, box, answers, shape: box)
    assert loose > mean(0.2) + 0.02 and exact > mean(0.0) - 0.02


def test_a_judge_comes_back_from_its_file(tmp_path: Path) -> None:
    judge = _judge([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    save_file(judge.state_dict(), tmp_path / "room.safetensors")
    numbers = torch.zeros(1, len(SMALLER) * N_FEATURES)
    torch.testing.assert_close(Room.load(tmp_path / "room.safetensors")(numbers), judge(numbers))
