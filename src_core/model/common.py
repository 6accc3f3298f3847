"""Layers that several parts of the network share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of a (B, C, H, W) tensor."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        # Channels-last is the layout the fused kernel wants; on channels-last input both permutes are free.
        return self.last(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def last(self, x: Tensor) -> Tensor:
        """Normalise (..., C)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class MLPBlock(nn.Module):
    """Two linear layers with an activation between them, on the last axis."""

    def __init__(self, dim: int, hidden: int, act: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        out: Tensor = self.lin2(self.act(self.lin1(x)))
        return out
