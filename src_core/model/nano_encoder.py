"""nano's image encoder: a residual pyramid of convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.affinity import AffinityHead
from src_core.model.common import ConvNorm, Residual
from src_core.model.sam import Features

TILE_PX = 512
STRIDE_PX = 8
LOW_RES_PX = 2
"""Side of a low-resolution mask pixel in network pixels."""
SIZE_MULTIPLE_PX = 32
"""Tile sides must be multiples of it: the encoder halves the resolution five times."""
WIDTH = 96
"""Channels of the embedding, and width of prompt encoder and decoder."""
FINE = 32
"""Channels of the features at 4 px; the maps of `affinity` follow them."""


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(inputs, outputs, stride=2), *(Residual(outputs) for _ in range(blocks)))


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class NanoEncoder(nn.Module):
    """A residual pyramid down to 32 px and back up to 8, 4 and 2 px."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 16, stride=2)
        self.stage4 = _stage(16, 48, 5)
        self.stage8 = _stage(48, 96, 3)
        self.stage16 = _stage(96, 160, 4)
        self.stage32 = _stage(160, 224, 4)
        self.top = ConvNorm(224, 128, kernel=1)
        self.lateral16 = ConvNorm(160, 128, kernel=1)
        self.smooth16 = ConvNorm(128, 128)
        self.lateral8 = ConvNorm(96, 128, kernel=1)
        self.smooth8 = ConvNorm(128, 128)
        self.neck = nn.Conv2d(128, width, kernel_size=1)
        self.lateral4 = ConvNorm(48, FINE, kernel=1)
        self.down4 = ConvNorm(128, FINE, kernel=1)
        self.smooth4 = nn.Sequential(*ConvNorm(FINE, FINE), *(Residual(FINE) for _ in range(3)))
        self.high4 = nn.Conv2d(FINE, FINE, kernel_size=1)
        self.affinity = AffinityHead(128, FINE)
        self.down2 = ConvNorm(FINE, 16, kernel=1)
        self.smooth2 = nn.Sequential(*ConvNorm(16, 16), *(Residual(16) for _ in range(3)))
        self.high2 = nn.Conv2d(16, 16, kernel_size=1)

    def forward(self, image: Tensor) -> Features:
        """Encode (B, 3, H, W), sides multiples of 32, to maps at 8, 4 and 2 px: (B, 96 | 38 | 16, ...)."""
        x2 = self.stem(image.contiguous(memory_format=torch.channels_last))
        x4 = self.stage4(x2)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        top = self.top(self.stage32(x16))
        p16 = self.smooth16(_up(top) + self.lateral16(x16))
        p8 = self.smooth8(_up(p16) + self.lateral8(x8))
        p4 = self.smooth4(_up(self.down4(p8)) + self.lateral4(x4))
        p2 = self.smooth2(_up(self.down2(p4)) + x2)
        return self.neck(p8), torch.cat([self.high4(p4), self.affinity(p8, p4)], 1), self.high2(p2)
