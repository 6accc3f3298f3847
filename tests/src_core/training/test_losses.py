"""The losses: nothing to improve costs nothing, and the gradient goes where it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from src_core.model import affinity
from src_core.training.losses import PRESENCE_WEIGHT, affinity_loss, mask_iou, mask_loss, prompt_loss
from src_core.training.samples import affinity_queries
from tests.src_core.model.test_affinity import pointing_home


def _target() -> Tensor:
    target = torch.zeros(2, 16, 16)
    target[0, 2:9, 3:12] = 1
    target[1, 8:15, 1:5] = 1
    return target


def _sure(target: Tensor, count: int = 4) -> Tensor:
    return ((target * 2 - 1) * 20).unsqueeze(1).repeat(1, count, 1, 1)


def test_a_perfect_mask_costs_nothing_and_the_opposite_a_lot() -> None:
    target = _target()
    assert mask_loss(_sure(target), target).max() < 1e-3
    assert mask_loss(_sure(1 - target), target).min() > 1
    assert mask_loss(torch.zeros(2, 1, 16, 16), target).shape == (2, 1)


def test_an_empty_target_is_met_by_an_empty_mask() -> None:
    empty = torch.zeros(2, 16, 16)
    assert mask_loss(_sure(empty), empty).max() < 1e-3
    assert mask_loss(-_sure(empty), empty).min() > 1
    assert torch.equal(mask_iou(_sure(empty), empty), torch.ones(2, 4))
    assert torch.equal(mask_iou(-_sure(empty), empty), torch.zeros(2, 4))


def test_iou_is_intersection_over_union() -> None:
    target = torch.zeros(1, 4, 4)
    target[0, :2] = 1
    guess = torch.full((1, 1, 4, 4), -1.0)
    guess[0, 0, 1:3] = 1
    assert mask_iou(guess, target).item() == pytest.approx(4 / 12)


def test_a_perfect_answer_costs_nothing_in_all() -> None:
    target = _target()
    for ambiguous in (True, False):
        assert prompt_loss(_sure(target), torch.ones(2, 4), torch.full((2,), 20.0), target, ambiguous) < 1e-3


def test_presence_is_learned_from_empty_targets() -> None:
    empty = torch.zeros(2, 16, 16)
    right = prompt_loss(_sure(empty), torch.ones(2, 4), torch.full((2,), -20.0), empty, False)
    wrong = prompt_loss(_sure(empty), torch.ones(2, 4), torch.full((2,), 20.0), empty, False)
    assert right < 1e-3
    assert wrong - right == pytest.approx(20 * PRESENCE_WEIGHT, rel=1e-3)


def test_where_the_object_is_not_its_mask_and_iou_are_left_alone() -> None:
    empty = torch.zeros(2, 16, 16)
    logits, iou = torch.ones(2, 4, 16, 16, requires_grad=True), torch.zeros(2, 4, requires_grad=True)
    presence = torch.zeros(2, requires_grad=True)
    prompt_loss(logits, iou, presence, empty, False).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert iou.grad is not None
    assert presence.grad is not None
    assert not logits.grad.any()
    assert not iou.grad.any()
    assert (presence.grad > 0).all()


def test_after_one_click_only_the_best_candidate_learns() -> None:
    target = _target()
    logits = torch.zeros(2, 4, 16, 16)
    logits[:, 2] = _sure(target)[:, 0] * 0.05  # the best of the three
    for ambiguous, learning in ((True, [True, False, True, False]), (False, [True] * 4)):
        leaf = logits.clone().requires_grad_()
        prompt_loss(leaf, torch.zeros(2, 4), torch.zeros(2), target, ambiguous).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        assert [bool(leaf.grad[:, k].abs().sum() > 0) for k in range(4)] == learning


def test_the_iou_head_is_pulled_to_the_true_iou() -> None:
    target = _target()
    iou = torch.full((2, 4), 0.3, requires_grad=True)
    prompt_loss(_sure(1 - target), iou, torch.zeros(2), target, False).backward()  # type: ignore[no-untyped-call]
    assert iou.grad is not None
    assert (iou.grad > 0).all()  # the true IoU is 0


def test_maps_whose_pixels_point_home_cost_little_and_learning_brings_others_there() -> None:
    labels = np.zeros((1, 24, 24), np.int32)
    labels[0, 2:9, 3:12], labels[0, 2:9, 12:20], labels[0, 13:22, 5:15] = 1, 2, 3
    complete, queries = np.array([True]), affinity_queries(np.random.default_rng(0), labels)
    good = pointing_home(labels[0])
    loss, iou = affinity_loss(good, labels, queries, complete)
    assert iou > 0.9
    maps = torch.zeros_like(good, requires_grad=True)
    optimiser = torch.optim.Adam([maps], lr=0.05)
    first, first_iou = affinity_loss(maps, labels, queries, complete)
    assert first > 2 * loss and first_iou < 0.7
    for _ in range(200):
        optimiser.zero_grad()
        affinity_loss(maps, labels, queries, complete)[0].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert affinity_loss(maps, labels, queries, complete)[1] > 0.9
    assert ((maps[0, affinity.N_MAPS - 1] > 0).numpy() == (labels[0] > 0)).all()


def test_background_is_learned_only_where_all_objects_are_known() -> None:
    maps = torch.zeros(2, affinity.N_MAPS, 8, 8, requires_grad=True)
    labels = np.zeros((2, 8, 8), np.int32)
    labels[:, :4, :4] = 1
    queries = affinity_queries(np.random.default_rng(0), labels)
    affinity_loss(maps, labels, queries, np.array([True, False]))[0].backward()  # type: ignore[no-untyped-call]
    assert maps.grad is not None
    assert maps.grad[0, -1].any() and not maps.grad[1, -1].any()
    assert maps.grad[1, :-1].any()
    nothing = affinity_queries(np.random.default_rng(0), labels * 0)
    loss, iou = affinity_loss(maps, labels * 0, nothing, np.array([True, True]))
    assert loss == 0 and iou == 0
