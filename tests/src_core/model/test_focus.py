from __future__ import annotations

import torch
from torch import Tensor

from src_core.model import focus
from src_core.model.sam import Features
from tests.src_core.model.test_nano import random_nano

CELL = 8
GRID = (64, 64)


class Ask:
    """A network that paints a disk of a radius, in low-resolution pixels, around each click or dense prompt."""

    def __init__(self, radius: float) -> None:
        self.radius, self.asked = radius, []

    def __call__(
        self,
        features: Features,
        points: focus.Points | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        corners: Tensor,
    ) -> focus.Answer:
        height, width = (4 * n for n in features[0].shape[-2:])
        self.asked.append((height, width))
        if points is not None:
            centres = points[0][:, 0] / 2 - 4 * corners[:, [1, 0]]
        elif boxes is not None:
            centres = (boxes[:, :2] + boxes[:, 2:]) / 4 - 4 * corners[:, [1, 0]]
        else:
            assert masks is not None
            centres = torch.stack([(m[0] > 0).nonzero().float().mean(0).flip(0) for m in masks])
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        far = ((x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2).sqrt()
        logits = (self.radius - far).unsqueeze(1).expand(-1, 4, -1, -1)
        n = len(centres)
        return logits, centres[:, :1].expand(n, 4), features[0].mean((1, 2, 3)).expand(n)


def _features(grid: tuple[int, int] = GRID) -> Features:
    h, w = grid
    return tuple(torch.zeros(1, 1, h * s, w * s) for s in (1, 2, 4))


def _click(*places: tuple[float, float]) -> focus.Points:
    return torch.tensor(places).unsqueeze(1), torch.ones(len(places), 1, dtype=torch.int64)


def _answer(ask: Ask, grid: tuple[int, int] = GRID, **prompts: object) -> focus.Answer:
    given = {"points": None, "boxes": None, "masks": None} | prompts
    return focus.answer(ask, _features(grid), **given, cell_px=CELL, wanted=slice(1, None))  # type: ignore[arg-type]


def _disk(x: float, y: float, radius: float) -> Tensor:
    ys, xs = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    return ((xs - x / 2) ** 2 + (ys - y / 2) ** 2).sqrt() < radius


def test_small_objects_are_answered_in_a_window_at_their_place() -> None:
    places = ((30.0, 40.0), (300.0, 210.0), (505.0, 500.0))
    ask = Ask(10)
    logits, _, _ = _answer(ask, points=_click(*places))
    assert ask.asked == [(128, 128)]
    assert logits.shape == (3, 3, 256, 256)
    for found, (x, y) in zip(logits, places, strict=True):
        assert torch.equal(found[0] > 0, _disk(x, y, 10))


def test_answers_that_reach_the_window_s_border_are_asked_again_on_the_whole_tile() -> None:
    places = ((256.0, 256.0), (30.0, 30.0))
    ask = Ask(80)
    logits, iou, _ = _answer(ask, points=_click(*places))
    assert ask.asked == [(128, 128), (256, 256)]
    for found, (x, y) in zip(logits, places, strict=True):
        assert torch.equal(found[0] > 0, _disk(x, y, 80))
    assert iou.shape == (2, 3)


def test_each_prompt_is_answered_where_it_fits_and_the_order_stays() -> None:
    boxes = torch.tensor([[10.0, 10, 500, 500], [300, 300, 340, 340], [0, 0, 40, 512]])
    ask = Ask(10)
    logits, _, _ = _answer(ask, boxes=boxes)
    assert ask.asked == [(128, 128), (256, 256)]
    for found, box in zip(logits, boxes.tolist(), strict=True):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        assert torch.equal(found[0] > 0, _disk(x, y, 10))


def test_dense_prompts_say_where_to_look() -> None:
    masks = torch.where(torch.stack([_disk(400, 100, 12), _disk(90, 450, 12)]), 6.0, -6.0).unsqueeze(1)
    ask = Ask(12)
    logits, _, _ = _answer(ask, masks=masks)
    assert ask.asked == [(128, 128)]
    for found, mask in zip(logits, masks, strict=True):
        overlap = (found[0] > 0) & (mask[0] > 0)
        assert overlap.sum() > 0.9 * (mask > 0).sum()


def test_an_empty_dense_prompt_is_asked_on_the_whole_tile() -> None:
    class Empty(Ask):
        def __call__(self, features: Features, *rest: object) -> focus.Answer:
            shape = tuple(4 * n for n in features[0].shape[-2:])
            self.asked.append(shape)  # type: ignore[arg-type]
            return torch.full((1, 4, *shape), -1.0), torch.zeros(1, 4), torch.zeros(1)

    ask = Empty(1)
    _answer(ask, masks=torch.full((1, 1, 256, 256), -6.0))
    assert ask.asked == [(256, 256)]


def test_padding_points_do_not_widen_the_window() -> None:
    points = torch.tensor([[[400.0, 400.0], [0.0, 0.0]]]), torch.tensor([[1, -1]])
    ask = Ask(10)
    _answer(ask, points=points)
    assert ask.asked == [(128, 128)]


def test_narrow_tiles_have_windows_of_their_own_width() -> None:
    ask = Ask(5)
    logits, _, _ = _answer(ask, (64, 8), points=_click((20.0, 400.0)))
    assert ask.asked == [(128, 32)]
    assert torch.equal(logits[0, 0] > 0, _disk(20, 400, 5)[:, :32])


def test_small_tiles_are_answered_whole() -> None:
    ask = Ask(5)
    _answer(ask, (32, 20), points=_click((20.0, 40.0)))
    assert ask.asked == [(128, 80)]


def test_a_window_of_nano_says_what_its_crop_would_say() -> None:
    model = random_nano()
    with torch.inference_mode():
        features = model.encode(torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(5)))
        points = _click((250.0, 270.0))
        corner = (18, 15)
        crop = tuple(
            f[:, :, s * corner[0] : s * (corner[0] + 32), s * corner[1] : s * (corner[1] + 32)]
            for s, f in zip((1, 2, 4), features, strict=True)
        )
        logits, iou, presence = model.decode_all(crop, points, None, None, corner)
        logits = logits - logits.max() - 1  # nothing reaches the border: not asked again
        found = focus.answer(
            lambda *given: (logits, *model._answer(*given, 4)[1:]),
            features,
            points,
            None,
            None,
            8,
            slice(0, 4),
        )
    top, left = (4 * n for n in corner)
    torch.testing.assert_close(found[0][:, :, top : top + 128, left : left + 128], logits)
    torch.testing.assert_close(found[1], iou)
    torch.testing.assert_close(found[2], presence)
