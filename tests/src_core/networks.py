"""Networks for tests: nano with drawn weights, and one that answers by a plain formula."""

from __future__ import annotations

import functools

import torch

from src_core.model.nano import Nano, build_nano


@functools.cache
def random_nano(seed: int = 0) -> Nano:
    """Nano with weights drawn from `seed`, spread so that masks are neither empty nor full."""
    torch.manual_seed(seed)
    model = build_nano().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if value.ndim >= 2 and "embed" not in name:
            value.normal_(std=1.4 * value[0].numel() ** -0.5, generator=generator)
    return model
