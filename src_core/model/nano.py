"""nano: the small network that ships with the package.

SAM's prompt encoder and mask decoder at width 96 over a convolutional encoder for 512 px tiles at native
resolution. The embedding has SAM's 64 x 64 grid, at 8 px instead of 16; features at 4 and 2 px join while the
decoder upscales, so that small objects keep their outline. A tile may be smaller than 512 px: its frame is
then the top-left part of the 512 px frame.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.mask_decoder import MLP, MaskDecoder
from src_core.model.prompt_encoder import PromptEncoder
from src_core.model.sam import Decoded, Features, Sam
from src_core.model.transformer import TwoWayTransformer

TILE_PX = 512
STRIDE_PX = 8
WIDTH = 96
SIZE_MULTIPLE_PX = 32
"""Tile sides must be multiples of it: the encoder halves the resolution five times."""


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

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return F.relu(x + self.branch(x))


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(inputs, outputs, stride=2), *(Residual(outputs) for _ in range(blocks)))


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class NanoEncoder(nn.Module):
    """A residual pyramid down to 32 px and back up to 8, 4 and 2 px."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 16, stride=2)
        self.stage4 = _stage(16, 48, 1)
        self.stage8 = _stage(48, 96, 1)
        self.stage16 = _stage(96, 160, 2)
        self.stage32 = _stage(160, 224, 2)
        self.top = ConvNorm(224, 128, kernel=1)
        self.lateral16 = ConvNorm(160, 128, kernel=1)
        self.smooth16 = ConvNorm(128, 128)
        self.lateral8 = ConvNorm(96, 128, kernel=1)
        self.smooth8 = ConvNorm(128, 128)
        self.neck = nn.Conv2d(128, width, kernel_size=1)
        self.lateral4 = ConvNorm(48, 32, kernel=1)
        self.down4 = ConvNorm(128, 32, kernel=1)
        self.smooth4 = ConvNorm(32, 32)
        self.high4 = nn.Conv2d(32, 32, kernel_size=1)
        self.down2 = ConvNorm(32, 16, kernel=1)
        self.smooth2 = ConvNorm(16, 16)
        self.high2 = nn.Conv2d(16, 16, kernel_size=1)

    def forward(self, image: Tensor) -> Features:
        """Encode (B, 3, H, W), sides multiples of 32, to maps at 8, 4 and 2 px: (B, 96 | 32 | 16, ...)."""
        x2 = self.stem(image.contiguous(memory_format=torch.channels_last))
        x4 = self.stage4(x2)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        top = self.top(self.stage32(x16))
        p16 = self.smooth16(_up(top) + self.lateral16(x16))
        p8 = self.smooth8(_up(p16) + self.lateral8(x8))
        p4 = self.smooth4(_up(self.down4(p8)) + self.lateral4(x4))
        p2 = self.smooth2(_up(self.down2(p4)) + x2)
        return self.neck(p8), self.high4(p4), self.high2(p2)


class NanoMaskDecoder(MaskDecoder):
    """SAM's mask decoder whose second upscaling is linear.

    Without an activation after the last transposed convolution, its weights fold into the hypernetworks'
    output: no prompt needs features of its own at 2 px, where the reference spends most of its time.
    """

    def forward_all(
        self, features: Features, image_pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode B prompts about G tiles, B a multiple of G, in the order of the tiles.

        Returns
        -------
        tuple of Tensor
            Logits (B, 4, H, W) at 2 px, predicted IoU (B, 4) and the IoU token (B, C).
        """
        image, high4, high2 = features
        each = len(sparse) // len(image)
        if len(image) > 1:
            image, high4 = image.repeat_interleave(each, 0), high4.repeat_interleave(each, 0)
        tokens, keys = self.attend(image, image_pe, sparse, dense)
        first, norm, act = (self.output_upscaling[i] for i in range(3))
        second = cast(nn.ConvTranspose2d, self.output_upscaling[3])
        bias = cast(Tensor, second.bias).reshape(-1, 1, 1)
        x4 = act(norm(first(keys) + high4))
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        hyper = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1
        )

        folded = torch.einsum("bmo,iokl->bmkli", hyper, second.weight).flatten(1, 3)
        own = F.pixel_shuffle((folded @ x4.flatten(2)).unflatten(2, x4.shape[-2:]), 2)
        grouped = hyper.reshape(len(high2), -1, hyper.shape[-1])
        shared = grouped @ (high2 + bias).flatten(2)
        logits = own + shared.reshape(own.shape)
        return logits, self.iou_prediction_head(tokens[:, 0]), tokens[:, 0]


class Nano(Sam):
    """The whole network; adds to SAM the logit that the object is on the plane at all."""

    native_tiles = True

    mask_decoder: NanoMaskDecoder

    def __init__(self) -> None:
        grid = TILE_PX // STRIDE_PX
        super().__init__(
            NanoEncoder(),
            PromptEncoder(WIDTH, (grid, grid), (TILE_PX, TILE_PX)),
            NanoMaskDecoder(
                WIDTH,
                TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=4, mlp_dim=384),
                upscaled_dims=(32, 16),
                iou_head_hidden_dim=128,
            ),
        )
        self.presence_head = MLP(WIDTH, 128, 1, 2)

    def encode(self, image: Tensor) -> Features:
        """Run the encoder on a normalised (B, 3, H, W) tile, sides multiples of 32 and at most 512."""
        return cast(Features, self.image_encoder(image))

    def decode(
        self,
        features: Features,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = True,
    ) -> Decoded:
        """Answer B prompts about one tile; `masks` covers the tile only, (B, 1, H / 2, W / 2)."""
        logits, iou, presence = self.decode_all(features, points, boxes, masks)
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        return Decoded(logits[:, wanted], iou[:, wanted], presence)

    def decode_all(
        self,
        features: Features,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        grid_offset: tuple[int, int] = (0, 0),
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer B prompts about G tiles with the single mask and the three candidates together.

        `grid_offset` (rows, columns) says where the tiles lie on the 64 x 64 grid of the frame; points and
        boxes are in pixels of the frame. Returns logits (B, 4, h, w), IoU (B, 4) and presence logit (B,).
        """
        height, width = features[0].shape[-2:]
        if masks is not None:
            masks = masks.clamp(-10, 10)
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=masks)
        top, left = grid_offset
        image_pe = self.prompt_encoder.get_dense_pe()[..., top : top + height, left : left + width]
        logits, iou, iou_token = self.mask_decoder.forward_all(
            features, image_pe, sparse, dense[..., :height, :width]
        )
        return logits, iou, self.presence_head(iou_token)[:, 0]


def build_nano() -> Nano:
    """Return nano with random weights."""
    return Nano()
