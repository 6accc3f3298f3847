"""What is pooled inside and around a mask, and that it can tell a good mask from a bad one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from src_core.model.evidence import N_STATISTICS, MaskEvidence, _overlap, _pooled, _statistics
from src_core.model.nano_prompts import N_BELONGING

C, SIDE = 6, 16


def _square(y0: int, x0: int, size: int) -> Tensor:
    mask = torch.full((4 * SIDE, 4 * SIDE), -8.0)
    mask[4 * y0 : 4 * (y0 + size), 4 * x0 : 4 * (x0 + size)] = 8.0
    return mask


def test_untrained_it_corrects_nothing() -> None:
    torch.manual_seed(0)
    evidence = MaskEvidence(C, 8)
    logits, guesses = torch.randn(2, 4, 4 * SIDE, 4 * SIDE), torch.rand(2, N_BELONGING, 2 * SIDE, 2 * SIDE)
    for prompt in (None, logits[:, :1]):
        iou, presence = evidence(torch.randn(2, C), torch.randn(2, C, SIDE, SIDE), logits, prompt, guesses)
        assert iou.shape == (2, 4)
        assert presence.shape == (2,)
        assert not iou.any()


def test_features_are_averaged_inside_and_in_the_ring_around() -> None:
    keys = torch.zeros(1, 2, SIDE, SIDE)
    keys[0, 0, 5:9, 5:9] = 3.0  # inside
    keys[0, 1] = 1.0
    keys[0, 1, 5:9, 5:9] = 0.0  # everywhere else
    masks = _square(5, 5, 4).sigmoid()[None, None]
    inside, around = _pooled(masks, keys)
    assert inside[0, 0].tolist() == pytest.approx([3.0, 0.0], abs=0.1)
    assert around[0, 0].tolist() == pytest.approx([0.0, 1.0], abs=0.1)
    nothing, _ = _pooled(torch.zeros(1, 1, 4 * SIDE, 4 * SIDE), keys)
    assert not nothing.any()


def test_statistics_say_size_stability_and_overlap_with_the_prompt() -> None:
    logits = torch.stack([_square(5, 5, 4), 0.1 * _square(5, 5, 4)])[None]
    before = _square(5, 7, 4).sigmoid()[None, None]
    numbers = _statistics(logits, logits.sigmoid(), before)
    assert numbers.shape == (1, 2, N_STATISTICS)
    size, stability, certainty, overlap, prompt_size = numbers[0, 0].tolist()
    assert size == pytest.approx(math.log(257) / 10, abs=0.01)
    assert stability == 1
    assert certainty == pytest.approx(1, abs=0.02)
    assert overlap == pytest.approx(1 / 3, abs=0.02)
    assert prompt_size == pytest.approx(size, abs=0.01)
    assert numbers[0, 1, 1] == 0  # logits of 0.8 do not survive a threshold of 1


def test_it_learns_iou_and_presence_without_touching_the_mask() -> None:
    torch.manual_seed(1)
    evidence = MaskEvidence(C, 8)
    keys = torch.randn(1, C, SIDE, SIDE)
    keys[:, :, 5:9, 5:9] += 2
    logits = torch.stack([_square(5, 5, 4), _square(5, 1, 4)])[None].requires_grad_()
    target, token = torch.tensor([[1.0, 0.0]]), torch.zeros(1, C)
    guesses = torch.zeros(1, N_BELONGING, 2 * SIDE, 2 * SIDE)
    optimiser = torch.optim.Adam(evidence.parameters(), lr=0.01)
    for _ in range(150):
        iou, presence = evidence(token, keys, logits, None, guesses)
        loss = (iou - target).abs().mean() + (presence - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1
    assert logits.grad is None


def test_masks_are_compared_with_guesses() -> None:
    masks = torch.zeros(1, 2, 8, 8)
    masks[0, 0, :4] = 1.0
    masks[0, 1, :, :4] = 1.0
    guesses = torch.zeros(1, 3, 8, 8)
    guesses[0, 0, :4] = 1.0
    guesses[0, 1, 4:] = 0.5
    shared = _overlap(masks, guesses)
    assert shared.shape == (1, 2, 3)
    assert shared[0, 0].tolist() == pytest.approx([32 / 33, 0, 0])
    assert shared[0, 1].tolist() == pytest.approx([16 / 49, 8 / 41, 0])
