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


def pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a convolution of kernel 1 to (B, C, H, W) as the matrix product it is.

    On a few thousand places PyTorch's convolution spends longer on preparing than on computing; channels-last input
    need not even be copied, and the output is channels-last.
    """
    return F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)


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


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, unless it ends a residual branch, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.03),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if act else []))


class Residual(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels, act=False))
        # It begins as the identity: trained weights can be given more blocks and lose nothing.
        nn.init.zeros_(self.branch[1][1].weight)  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return F.relu(x + self.branch(x))
