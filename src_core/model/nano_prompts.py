"""nano's prompt encoder: prompts are tokens, as in SAM, and are also drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model import affinity
from src_core.model.common import LayerNorm2d, pointwise
from src_core.model.nano_encoder import STRIDE_PX, TILE_PX, WIDTH
from src_core.model.prompt_encoder import PromptEncoder

CLICK_SIGMA_PX = 5.0
"""Size of the spot that a click becomes in the dense prompt."""
N_BELONGING = 3
"""Clicks on the object, clicks on background, and the mask or box: for each, what of the picture belongs to it."""


class NanoPromptEncoder(PromptEncoder):
    """SAM's prompt encoder that also draws points and boxes, and what of the picture belongs to them.

    Points and boxes are three more channels of the dense prompt. What belongs to clicks on the object, to those on
    background and to the mask or box are three channels at half the resolution.
    """

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
        self.belonging = nn.Conv2d(N_BELONGING, 8, kernel_size=3, padding=1, bias=False)
        nn.init.zeros_(self.belonging.weight)  # weights trained without it lose nothing

    def encode(
        self,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        maps: Tensor,
        corners: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode a batch of prompts about tiles with affinity maps (1 or B, C, h, w).

        `corners` (1 or B, 2) is the tiles' position (y, x) on the frame's grid. Returns tokens (B, N, C), the dense
        embedding (B, C, h / 2, w / 2), and what it is made of half-way, (B, 8 + N_BELONGING, h, w).
        """
        tokens = self.tokens(points, boxes, masks)
        height, width = maps.shape[-2:]
        drawn = self._drawn(len(tokens), points, boxes, masks, (2 * height, 2 * width), corners)
        belonging = self._belonging(len(tokens), points, boxes, masks, maps, corners)
        fine = self.mask_downscaling[1:3](self.mask_downscaling[0](drawn) + self.belonging(belonging))
        last = cast(nn.Conv2d, self.mask_downscaling[6])
        dense = pointwise(last, self.mask_downscaling[3:6](fine))
        if masks is None:
            dense = dense + self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return tokens, dense, torch.cat([fine, belonging], 1)

    def _belonging(
        self,
        batch: int,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        maps: Tensor,
        corners: Tensor,
    ) -> Tensor:
        """Return how likely pixels belong to clicks, to background clicks, and to the mask or box: (B, 3, h, w)."""
        where = affinity.places(maps)
        if len(where) < batch:
            where = where.repeat_interleave(batch // len(where), 0)
        found = where.new_zeros(batch, N_BELONGING, *where.shape[-2:])
        origin = STRIDE_PX * corners.to(where.device).flip(1)
        if points is not None:
            coords, labels = points
            clicked = affinity.at_points(where, (coords - origin.unsqueeze(1)) / affinity.CELL_PX)
            like = affinity.likeness(where, clicked).sigmoid()
            for channel, sign in enumerate((1, 0)):
                found[:, channel] = (like * (labels == sign)[..., None, None]).amax(1)
        weights = None
        if masks is not None:
            # What is surely outside must not count, however much there is of it.
            weights = F.avg_pool2d((masks.clamp(-10, 10).sigmoid() - 0.2).clamp(min=0), 2)
        elif boxes is not None:
            weights = _dome((boxes - origin.repeat(1, 2)) / affinity.CELL_PX, where.shape[-2:])
        if weights is not None:
            found[:, 2:] = affinity.likeness(where, affinity.over(where, weights)).sigmoid()
        return found

    def _drawn(
        self,
        batch: int,
        points: tuple[Tensor, Tensor] | None,
        boxes: Tensor | None,
        masks: Tensor | None,
        shape: tuple[int, int],
        corners: Tensor,
    ) -> Tensor:
        height, width = shape
        step = STRIDE_PX / 4
        device = self.no_mask_embed.weight.device
        canvas = torch.zeros(batch, 4, height, width, device=device)
        y, x = (
            (torch.arange(n, device=device) + 0.5) * step - 0.5 + STRIDE_PX * corners[:, i : i + 1].to(device)
            for i, n in enumerate(shape)
        )
        if masks is not None:
            canvas[:, 0] = masks[:, 0].clamp(-10, 10) / 5
        if points is not None:
            coords, labels = points
            near_x = (-((x.unsqueeze(1) - coords[..., :1]) ** 2) / (2 * CLICK_SIGMA_PX**2)).exp()
            near_y = (-((y.unsqueeze(1) - coords[..., 1:]) ** 2) / (2 * CLICK_SIGMA_PX**2)).exp()
            for channel, sign in ((1, 1), (2, 0)):
                spots = (near_y * (labels == sign).unsqueeze(-1)).unsqueeze(-1) * near_x.unsqueeze(-2)
                canvas[:, channel] = spots.amax(1)
        if boxes is not None:
            x0, y0, x1, y1 = (boxes[:, i : i + 1] for i in range(4))
            in_x = (torch.minimum(x - x0, x1 - x) / step + 0.5).clamp(0, 1)
            in_y = (torch.minimum(y - y0, y1 - y) / step + 0.5).clamp(0, 1)
            canvas[:, 3] = in_y.unsqueeze(-1) * in_x.unsqueeze(-2)
        return canvas


def _dome(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """Return (B, 1, h, w) weights, one in the middle of (B, 4) boxes, none outside of their ellipse."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=0.5)
    y, x = (
        ((torch.arange(n, device=boxes.device) + 0.5 - middle[:, i : i + 1]) / half[:, i : i + 1]).square()
        for n, i in zip(shape, (1, 0), strict=True)
    )
    return (1 - y.unsqueeze(-1) - x.unsqueeze(-2)).clamp(min=0).unsqueeze(1)
