"""nano: the small network that ships with the package.

SAM's prompt encoder and mask decoder at width 96 over a convolutional encoder for 512 px tiles at native
resolution. The embedding has SAM's 64 x 64 grid, at 8 px instead of 16; features at 4 and 2 px join while the
decoder upscales, so that small objects keep their outline. Points and boxes are tokens, as in SAM, and are also
drawn beside the dense prompt, and a few convolutions look at prompts and image together before the transformer:
a small network learns from a few thousand steps where a large one needs attention to find every click. A tile
may be smaller than 512 px: its frame is then the top-left part of the 512 px frame.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.common import LayerNorm2d
from src_core.model.evidence import MaskEvidence
from src_core.model.mask_decoder import MLP, MaskDecoder
from src_core.model.prompt_encoder import PromptEncoder
from src_core.model.sam import Decoded, Features, Sam
from src_core.model.transformer import TwoWayTransformer

TILE_PX = 512
STRIDE_PX = 8
LOW_RES_PX = 2
"""Side of a low-resolution mask pixel in network pixels."""
WIDTH = 96
CLICK_SIGMA_PX = 5.0
"""Size of the spot that a click becomes in the dense prompt."""
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
        # It begins as the identity: trained weights can be given more blocks and lose nothing.
        nn.init.zeros_(self.branch[1][1].weight)  # type: ignore[index]

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
        self.stage8 = _stage(48, 96, 2)
        self.stage16 = _stage(96, 160, 4)
        self.stage32 = _stage(160, 224, 4)
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


class NanoPromptEncoder(PromptEncoder):
    """SAM's prompt encoder that also draws points and boxes, as three more channels of the dense prompt."""

    def __init__(self) -> None:
        grid = TILE_PX // STRIDE_PX
        super().__init__(WIDTH, (grid, grid), (TILE_PX, TILE_PX))
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(4, 8, kernel_size=2, stride=2),
            LayerNorm2d(8),
            nn.GELU(),
            nn.Conv2d(8, 32, kernel_size=2, stride=2),
            LayerNorm2d(32),
            nn.GELU(),
            nn.Conv2d(32, WIDTH, kernel_size=1),
        )

    def encode(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        shape: tuple[int, int],
        origin_xy: tuple[int, int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a batch of prompts about tiles of `shape` (h, w) at low resolution.

        `origin_xy` is the tiles' position in the frame, in pixels. Returns tokens (B, N, C), the dense
        embedding (B, C, h / 4, w / 4), and what it is made of half-way, (B, 8, h / 2, w / 2).
        """
        tokens = self.tokens(points, boxes, masks)
        fine = self.mask_downscaling[:3](self._drawn(len(tokens), points, boxes, masks, shape, origin_xy))
        dense = self.mask_downscaling[3:](fine)
        if masks is None:
            dense = dense + self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return tokens, dense, fine

    def _drawn(
        self,
        batch: int,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        shape: tuple[int, int],
        origin_xy: tuple[int, int],
    ) -> Tensor:
        height, width = shape
        step = STRIDE_PX / 4
        device = self.no_mask_embed.weight.device
        canvas = torch.zeros(batch, 4, height, width, device=device)
        x = (torch.arange(width, device=device) + 0.5) * step - 0.5 + origin_xy[0]
        y = (torch.arange(height, device=device) + 0.5) * step - 0.5 + origin_xy[1]
        if masks is not None:
            canvas[:, 0] = masks[:, 0].clamp(-10, 10) / 5
        if points is not None:
            coords, labels = points
            near_x = (-((x - coords[..., :1]) ** 2) / (2 * CLICK_SIGMA_PX**2)).exp()
            near_y = (-((y - coords[..., 1:]) ** 2) / (2 * CLICK_SIGMA_PX**2)).exp()
            for channel, sign in ((1, 1), (2, 0)):
                spots = (near_y * (labels == sign).unsqueeze(-1)).unsqueeze(-1) * near_x.unsqueeze(-2)
                canvas[:, channel] = spots.amax(1)
        if boxes is not None:
            x0, y0, x1, y1 = (boxes[:, i : i + 1] for i in range(4))
            in_x = (torch.minimum(x - x0, x1 - x) / step + 0.5).clamp(0, 1)
            in_y = (torch.minimum(y - y0, y1 - y) / step + 0.5).clamp(0, 1)
            canvas[:, 3] = in_y.unsqueeze(-1) * in_x.unsqueeze(-2)
        return canvas


class Fuse(nn.Module):
    """A bottleneck residual block that spreads what prompts say over the image around them."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.reduce = nn.Conv2d(channels, hidden, kernel_size=1)
        self.spread = nn.Conv2d(hidden, hidden, kernel_size=3, padding=dilation, dilation=dilation)
        self.expand = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out: Tensor = x + self.expand(F.relu(self.spread(F.relu(self.reduce(self.norm(x))))))
        return out


class NanoMaskDecoder(MaskDecoder):
    """SAM's mask decoder with convolutions before the transformer and a linear second upscaling.

    Without an activation after the last transposed convolution, its weights fold into the hypernetworks'
    output: no prompt needs features of its own at 2 px, where the reference spends most of its time.
    """

    def __init__(self) -> None:
        transformer = TwoWayTransformer(depth=2, embedding_dim=WIDTH, num_heads=4, mlp_dim=384)
        super().__init__(WIDTH, transformer, upscaled_dims=(32, 16), iou_head_hidden_dim=128)
        self.fuse = nn.Sequential(*(Fuse(WIDTH, 32, dilation) for dilation in (1, 2, 4, 2)))
        self.lift = nn.Conv2d(8, 32, kernel_size=1)
        self.refine = nn.Conv2d(32, 32, kernel_size=3, padding=1)
        for mlp in self.output_hypernetworks_mlps:
            # A mask that does not depend on the tokens yet: a first direction to learn from.
            nn.init.normal_(cast(MLP, mlp).layers[-1].bias, std=0.5)  # type: ignore[arg-type]

    def forward_all(
        self, features: Features, image_pe: Tensor, sparse: Tensor, dense: Tensor, fine: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decode B prompts about G tiles, B a multiple of G, in the order of the tiles.

        `sparse`, `dense` and `fine` come from `NanoPromptEncoder.encode`.

        Returns
        -------
        tuple of Tensor
            Logits (B, 4, H, W) at 2 px, predicted IoU (B, 4), the IoU token (B, C) and the image after the
            transformer (B, C, h, w).
        """
        image, high4, high2 = features
        each = len(sparse) // len(image)
        if len(image) > 1:
            image, high4 = image.repeat_interleave(each, 0), high4.repeat_interleave(each, 0)
        tokens, keys = self.attend(self.fuse(image + dense), image_pe, sparse)
        first, norm, act = (self.output_upscaling[i] for i in range(3))
        second = cast(nn.ConvTranspose2d, self.output_upscaling[3])
        bias = cast(Tensor, second.bias).reshape(-1, 1, 1)
        x4 = act(norm(first(keys) + high4 + self.lift(fine)))
        x4 = x4 + F.relu(self.refine(x4))
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        hyper = torch.stack(
            [mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1
        )

        folded = torch.einsum("bmo,iokl->bmkli", hyper, second.weight).flatten(1, 3)
        own = F.pixel_shuffle((folded @ x4.flatten(2)).unflatten(2, x4.shape[-2:]), 2)
        grouped = hyper.reshape(len(high2), -1, hyper.shape[-1])
        shared = grouped @ (high2 + bias).flatten(2)
        logits = own + shared.reshape(own.shape)
        return logits, self.iou_prediction_head(tokens[:, 0]), tokens[:, 0], keys


class Nano(Sam):
    """The whole network; adds to SAM the logit that the object is on the plane at all."""

    native_tiles = True

    prompt_encoder: NanoPromptEncoder
    mask_decoder: NanoMaskDecoder

    def __init__(self) -> None:
        super().__init__(NanoEncoder(), NanoPromptEncoder(), NanoMaskDecoder())
        self.evidence = MaskEvidence(WIDTH, 128)

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
        top, left = grid_offset
        sparse, dense, fine = self.prompt_encoder.encode(
            points, boxes, masks, (4 * height, 4 * width), (left * STRIDE_PX, top * STRIDE_PX)
        )
        image_pe = self.prompt_encoder.get_dense_pe()[..., top : top + height, left : left + width]
        logits, iou, token, keys = self.mask_decoder.forward_all(features, image_pe, sparse, dense, fine)
        correction, presence = self.evidence(token, keys, logits, masks)
        return logits, iou + correction, presence


def build_nano() -> Nano:
    """Return nano with random weights."""
    return Nano()
