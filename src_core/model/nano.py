"""nano: the small network that ships with the package.

SAM's prompt encoder and mask decoder at width 96 over a convolutional encoder for 512 px tiles at native
resolution. The embedding has SAM's 64 x 64 grid, at 8 px instead of 16; features at 4 and 2 px join while the
decoder upscales, so that small objects keep their outline. Points and boxes are tokens, as in SAM, and are also
drawn beside the dense prompt, and a few convolutions look at prompts and image together before the transformer:
a small network learns from a few thousand steps where a large one needs attention to find every click. A tile
may be smaller than 512 px: its frame is then the top-left part of the 512 px frame.
"""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model import affinity, focus
from src_core.model.common import LayerNorm2d, pointwise
from src_core.model.evidence import MaskEvidence
from src_core.model.mask_decoder import MLP, MaskDecoder, doubled
from src_core.model.nano_encoder import FINE, STRIDE_PX, WIDTH, NanoEncoder
from src_core.model.nano_prompts import N_BELONGING, NanoPromptEncoder
from src_core.model.sam import Decoded, Features, Sam
from src_core.model.transformer import TwoWayTransformer


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
        reduced = F.relu(pointwise(self.reduce, self.norm(x)))
        out: Tensor = x + pointwise(self.expand, F.relu(self.spread(reduced)))
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
        self.lift = nn.Conv2d(8 + N_BELONGING, 32, kernel_size=1)
        self.refine = nn.Conv2d(32, 32, kernel_size=3, padding=1)
        for mlp in self.output_hypernetworks_mlps:
            # A mask that does not depend on the tokens yet: a first direction to learn from.
            nn.init.normal_(cast(MLP, mlp).layers[-1].bias, std=0.5)  # type: ignore[arg-type]

    def forward_all(
        self, features: Features, image_pe: Tensor, sparse: Tensor, dense: Tensor, fine: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decode B prompts about G tiles, B a multiple of G, in the order of the tiles.

        `sparse`, `dense` and `fine` come from `NanoPromptEncoder.encode`; `count` is M, 1 for the single mask or 4
        for the candidates, too.

        Returns
        -------
        tuple of Tensor
            Logits (B, M, H, W) at 2 px, predicted IoU (B, M), the IoU token (B, C) and the image after the
            transformer (B, C, h, w).
        """
        image, high4, high2 = features
        each = len(sparse) // len(image)
        if len(image) > 1:
            image, high4 = image.repeat_interleave(each, 0), high4.repeat_interleave(each, 0)
        # In this layout neither the norms nor the transformer have to copy the image.
        prompted = (image + dense).contiguous(memory_format=torch.channels_last)
        tokens, keys = self.attend(self.fuse(prompted), image_pe, sparse)
        first, norm, act = (self.output_upscaling[i] for i in range(3))
        upscaled = _upscaled(cast(nn.ConvTranspose2d, first), keys)
        second = cast(nn.ConvTranspose2d, self.output_upscaling[3])
        bias = cast(Tensor, second.bias).reshape(-1, 1, 1)
        x4 = act(norm(upscaled + high4 + pointwise(self.lift, fine)))
        x4 = x4 + F.relu(self.refine(x4))
        mlps = list(self.output_hypernetworks_mlps)[:count]
        hyper = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(mlps)], 1)

        folded = torch.einsum("bmo,iokl->bmkli", hyper, second.weight).flatten(1, 3)
        own = F.pixel_shuffle((folded @ x4.flatten(2)).unflatten(2, x4.shape[-2:]), 2)
        grouped = hyper.reshape(len(high2), -1, hyper.shape[-1])
        shared = grouped @ (high2 + bias).flatten(2)
        logits = own + shared.reshape(own.shape)
        return logits, self.iou_prediction_head(tokens[:, 0])[:, :count], tokens[:, 0], keys


def _upscaled(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Upscale (B, C, H, W) twice; `doubled` gives four rows for each place."""
    height, width = x.shape[-2:]
    rows = doubled(x.flatten(2).transpose(1, 2), layer).reshape(len(x), height, width, 2, 2, -1)
    out: Tensor = rows.permute(0, 1, 3, 2, 4, 5).reshape(len(x), 2 * height, 2 * width, -1)
    return out.permute(0, 3, 1, 2)


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

    def seeds(self, features: Features) -> Tensor:
        """Return (N, 2) points (x, y) in network pixels, one in each object of one tile, surest first."""
        return affinity.seeds(features[1][0, FINE:]) * affinity.CELL_PX

    def decode(
        self,
        features: Features,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = True,
    ) -> Decoded:
        """Answer B prompts about one tile; `masks` covers the tile only, (B, 1, H / 2, W / 2)."""
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        ask = functools.partial(
            self._answer, count=self.mask_decoder.num_mask_tokens if multimask_output else 1
        )
        return Decoded(*focus.answer(ask, features, points, boxes, masks, STRIDE_PX, wanted))

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
        corners, count = torch.tensor([grid_offset]), self.mask_decoder.num_mask_tokens
        return self._answer(features, points, boxes, masks, corners, count)

    def _answer(
        self,
        features: Features,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        corners: Tensor,
        count: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        height, width = features[0].shape[-2:]
        embedding, high4, high2 = features
        high4, maps = high4[:, :FINE], high4[:, FINE:]
        sparse, dense, fine = self.prompt_encoder.encode(points, boxes, masks, maps, corners)
        pe = self.prompt_encoder.get_dense_pe()
        image_pe = torch.cat([pe[..., y : y + height, x : x + width] for y, x in corners.tolist()])
        logits, iou, token, keys = self.mask_decoder.forward_all(
            (embedding, high4, high2), image_pe, sparse, dense, fine, count
        )
        correction, presence = self.evidence(token, keys, logits, masks, fine[:, -N_BELONGING:])
        return logits, iou + correction, presence


def build_nano() -> Nano:
    """Return nano with random weights."""
    return Nano()
