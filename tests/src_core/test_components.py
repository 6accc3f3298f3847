"""An answer shows what was asked about, and nothing else that looks like it."""

from __future__ import annotations

from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src_core.components import asked_about
from src_core.embedding import Embedding
from src_core.model.focus import BACKGROUND
from src_core.model.sam import Decoded
from src_core.predictor import Predictor
from src_core.prompts import Prompts

SHAPE = (20, 30)
PARTS = ((slice(2, 8), slice(3, 9)), (slice(12, 18), slice(4, 8)), (slice(5, 7), slice(20, 26)))


def logits(*parts: tuple[slice, slice]) -> NDArray[np.float32]:
    found = np.full(SHAPE, -3, np.float32)
    for part in parts:
        found[part] = 4
    return found


def at(*places: tuple[float, float]) -> NDArray[np.float32]:
    return np.array(places, np.float32).reshape(-1, 2)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"inside": at((5, 4))}, [0]),
        ({"inside": at((5, 4), (22, 5.5))}, [0, 2]),
        ({"inside": at((9.4, 8.3))}, [0]),  # right beside it: a click on the outline
        ({"box": np.array([2.6, 1.2, 9.4, 19], np.float32)}, [0, 1]),
        ({"inside": at((5, 4)), "before": logits(PARTS[1]) > 0}, [0, 1]),
        ({"inside": at((15, 15))}, [0, 1, 2]),  # about none of it: the answer stays as it is
        ({"inside": at((-40, 500))}, [0, 1, 2]),
        ({"inside": at()}, [0, 1, 2]),
        ({"box": np.array([-9, -9, 99, 99], np.float32)}, [0, 1, 2]),
    ],
)
def test_parts_that_were_not_asked_about_go(asked: dict[str, Any], kept: list[int]) -> None:
    found = asked_about(logits(*PARTS), **asked)
    for k, part in enumerate(PARTS):
        assert (found[part] == (4 if k in kept else BACKGROUND)).all()
    assert (found[logits(*PARTS) < 0] == -3).all()


def test_one_part_and_no_part_stay_the_same_array() -> None:
    for given in (logits(PARTS[0]), logits()):
        assert asked_about(given, at((25, 15))) is given


def test_parts_that_touch_at_a_corner_are_one() -> None:
    given = logits((slice(2, 5), slice(2, 5)), (slice(5, 8), slice(5, 8)))
    assert asked_about(given, at((3, 3))) is given


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """nano with an answer that always shows two squares."""
    predictor = Predictor.load("nano", "cpu")

    def decode(
        self: Any, features: Any, points: Any, boxes: Any, masks: Any, multimask_output: bool
    ) -> Decoded:
        many = multimask_output
        count = len(next(p for p in (boxes, masks, points and points[0]) if p is not None))
        height, width = (4 * n for n in features[0].shape[-2:])
        found = torch.full((count, 3 if many else 1, height, width), -5.0)
        found[..., 20:40, 20:40] = found[..., 80:100, 80:100] = 5
        return Decoded(found, torch.full(found.shape[:2], 0.95), torch.full((count,), 9.0))

    monkeypatch.setattr(predictor.model, "decode", MethodType(decode, predictor.model))
    return predictor


@pytest.fixture
def embedding(predictor: Predictor) -> Embedding:
    return predictor.embed(np.random.default_rng(0).integers(0, 255, (512, 512), np.uint8))


def test_a_click_and_a_box_get_the_part_they_are_about(predictor: Predictor, embedding: Embedding) -> None:
    for prompts in (Prompts([(60, 60)]), Prompts(box_yxyx=(38, 38, 82, 82))):
        found = predictor.predict(embedding, prompts)
        assert found.masks[:, 60, 60].all() and not found.masks[:, 180, 180].any()
        assert not (found.logits[:, 80:100, 80:100] > 0).any()
    both = predictor.predict(embedding, Prompts([(60, 60), (180, 180)]))
    assert both.masks[0, 60, 60] and both.masks[0, 180, 180]


def test_an_object_may_part_while_it_travels(predictor: Predictor, embedding: Embedding) -> None:
    before = np.zeros((512, 512), bool)
    before[40:80, 40:80] = True
    found = predictor.predict(embedding, Prompts(mask=before), multimask=False)
    assert found.masks[0, 60, 60] and found.masks[0, 180, 180]
    clicked = predictor.predict(embedding, Prompts([(62, 62)], mask=before), multimask=False)
    assert clicked.masks[0, 60, 60] and not clicked.masks[0, 180, 180]


def rated(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, own: float, afresh: float) -> list[bool]:
    """Have answers rated `own` where they begin with a mask and `afresh` where they do not; note which are asked."""
    asked: list[bool] = []

    def decode(
        self: Any, features: Any, points: Any, boxes: Any, masks: Any, multimask_output: bool
    ) -> Decoded:
        asked.append(masks is not None)
        height, width = (4 * n for n in features[0].shape[-2:])
        found = torch.full((len(points[0]), 1, height, width), -5.0)
        found[..., 20 : 40 if masks is None else 60, 20:40] = 5
        score = afresh if masks is None else own
        return Decoded(found, torch.full((len(found), 1), score), torch.full((len(found),), 9.0))

    monkeypatch.setattr(predictor.model, "decode", MethodType(decode, predictor.model))
    return asked


@pytest.mark.usefixtures("one_look")
@pytest.mark.parametrize(("afresh", "kept"), [(0.97, True), (0.9, False)])
def test_a_click_against_an_answer_may_begin_anew(
    predictor: Predictor,
    embedding: Embedding,
    monkeypatch: pytest.MonkeyPatch,
    afresh: float,
    kept: bool,
) -> None:
    asked = rated(predictor, monkeypatch, 0.88, afresh)
    logits = np.full((256, 256), -5, np.float32)
    logits[20:60, 20:40] = 5
    prompts = Prompts([(60, 60), (100, 60)], [1, 0], mask=logits)
    other = Prompts([(60, 60)], mask=logits)
    first, second = predictor.predict_many(embedding, [prompts, other])
    assert first.masks[0, 86, 44] == (not kept)
    assert not first.masks[0, 100, 60], "where the click is, it is obeyed in any case"
    assert first.scores[0] == pytest.approx(afresh if kept else 0.88)
    assert second.masks[0, 100, 60] and set(asked) == {True, False}


@pytest.mark.parametrize(
    ("points", "labels", "own"),
    [([(60, 60), (70, 60)], [1, 1], True), ([(100, 60)], [0], True), ([(60, 60), (100, 60)], [1, 0], False)],
)
def test_what_the_user_made_and_what_clicks_agree_with_is_never_forgotten(
    predictor: Predictor,
    embedding: Embedding,
    monkeypatch: pytest.MonkeyPatch,
    points: list[tuple[int, int]],
    labels: list[int],
    own: bool,
) -> None:
    asked = rated(predictor, monkeypatch, 0.5, 0.97)
    logits = np.full((256, 256), -5, np.float32)
    logits[20:60, 20:40] = 5
    mask: Any = logits
    if not own:
        mask = np.zeros((512, 512), bool)
        mask[40:120, 40:80] = True
    predictor.predict(embedding, Prompts(points, labels, mask=mask))
    assert all(asked)
