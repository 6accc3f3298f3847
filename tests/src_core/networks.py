"""Networks for tests, with drawn weights."""

from __future__ import annotations

import functools

import torch

from src_core.model.nano import Nano, build_nano


@functools.cache
def random_nano(seed: int = 2) -> Nano:
    """Nano with weights drawn from `seed`, so large that masks are neither empty nor full."""
    torch.manual_seed(seed)
    model = build_nano().eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if value.ndim >= 2 and "embed" not in name:
            value.normal_(std=value[0].numel() ** -0.5)
    return model
