"""Layers that several parts of the network share."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from src_core.model.kept import Kept


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
    """Convolution, batch norm and, unless it ends a residual branch, ReLU.

    Once trained, the norm is part of the convolution: that takes an eighth less time.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, act: bool = True) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.03),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if act else []))
        self._folded: Kept[tuple[Tensor, Tensor]] = Kept(1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        if self.training or torch.is_grad_enabled():
            out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
            return out
        conv, norm = cast(nn.Conv2d, self[0]), cast(nn.BatchNorm2d, self[1])
        mean, var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        # Training writes to mean and variance unnoticed, but it also counts.
        sources = (conv.weight, norm.weight, norm.bias, mean, var, cast(Tensor, norm.num_batches_tracked))
        weight, bias = self._folded.get(sources, lambda: _folded(conv, norm))
        out = F.conv2d(x, weight, bias, conv.stride, cast(tuple[int, int], conv.padding))
        return F.relu_(out) if len(self) > 2 else out


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution that does what `conv` and then `norm` do, in the encoder's layout."""
    fused = fuse_conv_bn_eval(conv, norm).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return fused.weight.detach(), cast(Tensor, fused.bias).detach()


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
