"""Muon: steps are orthogonal, as large as AdamW's, and lead somewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from src_core.model.nano import build_nano
from src_core.training.muon import Muon, is_matrix, orthogonal


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_all_singular_values_come_near_one_however_small_they_were(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    rank = min(shape)
    values = torch.logspace(0, -2, rank)
    u, v = (torch.linalg.qr(torch.randn(n, rank))[0] for n in shape)
    found = orthogonal(u @ torch.diag(values) @ v.T)
    assert found.shape == shape
    projected = torch.diag(u.T @ found @ v)
    assert projected.min() > 0.6 and projected.max() < 1.3
    assert torch.linalg.matrix_norm(found - u @ torch.diag(projected) @ v.T) < 1e-3


def test_a_step_is_as_large_as_one_of_adamw_and_a_rate_of_nothing_changes_nothing() -> None:
    torch.manual_seed(1)
    kernel = nn.Parameter(torch.zeros(32, 16, 3, 3))
    kernel.grad = torch.randn_like(kernel)
    Muon([kernel], lr=0.0, weight_decay=0.1).step()
    assert not kernel.any()
    Muon([kernel], lr=1e-2, weight_decay=0.1).step()
    # The root mean square of AdamW's steps is usually 0.2 to 0.4 of the rate.
    assert 0.1e-2 < kernel.square().mean().sqrt() < 0.4e-2


def test_it_learns_a_linear_map() -> None:
    torch.manual_seed(2)
    inputs = torch.randn(512, 32)
    target = inputs @ torch.randn(32, 32)
    weight = nn.Parameter(torch.zeros(32, 32))
    optimiser = Muon([weight], lr=0.2, weight_decay=0.0)
    losses = []
    for step in range(120):
        optimiser.param_groups[0]["lr"] = 0.2 * (1 - step / 120)
        optimiser.zero_grad()
        loss = (inputs @ weight - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


def test_it_takes_what_mixes_features_and_leaves_what_is_looked_up() -> None:
    model = build_nano()
    taken = {name for name, p in model.named_parameters() if is_matrix(name, p)}
    assert "image_encoder.stage8.1.branch.0.0.weight" in taken
    assert not any("embed" in name or name.endswith("bias") for name in taken)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sum(sizes[name] for name in taken) > 0.95 * sum(sizes.values())


def test_matrices_of_one_shape_go_together_and_do_not_mix() -> None:
    torch.manual_seed(3)
    start, grads = torch.randn(3, 24, 24), torch.randn(2, 3, 24, 24)
    together, alone = ([nn.Parameter(w.clone()) for w in start] for _ in range(2))
    optimisers = [Muon(together, 0.1, 0.02), *(Muon([p], 0.1, 0.02) for p in alone)]
    for step in grads:
        for params in (together, alone):
            for p, grad in zip(params, step, strict=True):
                p.grad = grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for one, other, before in zip(together, alone, start, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
        assert not torch.allclose(one, before, atol=1e-2)
