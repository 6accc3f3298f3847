"""The prompt encoder (paper, section 3 and appendix A): points and boxes are sparse, masks are dense."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from src_core.model.common import LayerNorm2d


class PositionEmbeddingRandom(nn.Module):
    """Positional encoding by random spatial frequencies (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_pos_feats: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_pos_feats))

    def forward(self, coords_01: Tensor) -> Tensor:
        """Encode (..., 2) coordinates (x, y) in [0, 1] to (..., 2 * num_pos_feats)."""
        turns = (2 * coords_01 - 1) @ self.positional_encoding_gaussian_matrix
        phase = 2 * math.pi * turns
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Turns prompts into sparse tokens and a dense embedding.

    Parameters
    ----------
    embed_dim
        Width of the tokens and of the image embedding.
    image_embedding_size
        (H, W) of the image embedding.
    input_image_size
        (H, W) of the network's input in pixels, the frame of all prompt coordinates.
    mask_in_chans
        Width of the dense prompt's convolutions.
    """

    def __init__(
        self,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int = 16,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.image_embedding_size = image_embedding_size
        self.input_image_size = input_image_size
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        # background point, foreground point, top-left corner, bottom-right corner
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            nn.GELU(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            nn.GELU(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        self._dense_pe: tuple[Tensor, Tensor] | None = None

    def get_dense_pe(self) -> Tensor:
        """Return the positional encoding of the image embedding's grid, (1, C, H, W)."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        kept = self._dense_pe
        # Kept from prompt to prompt, and made anew when other weights have been loaded.
        if kept is None or kept[0].device != matrix.device or not torch.equal(kept[0], matrix):
            with torch.inference_mode(False), torch.no_grad():
                kept = self._dense_pe = (matrix.clone(), self._grid_pe(matrix.device))
        return kept[1]

    def _grid_pe(self, device: torch.device) -> Tensor:
        height, width = self.image_embedding_size
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return cast(Tensor, self.pe_layer(grid)).permute(2, 0, 1).unsqueeze(0)

    def forward(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Encode a batch of prompts, one object each.

        Parameters
        ----------
        points
            Coordinates (B, N, 2) as (x, y) in network pixels and labels (B, N): 1 foreground, 0 background,
            -1 padding.
        boxes
            (B, 4) as (x0, y0, x1, y1) in network pixels.
        masks
            (B, 1, 4 H, 4 W) low-resolution logits.

        Returns
        -------
        tuple of Tensor
            Sparse tokens (B, N', C), N' = 0 without points and boxes; dense embedding (B, C, H, W), expanded
            over the batch without a copy where there is no mask.
        """
        tokens = self.tokens(points, boxes, masks)
        if masks is not None:
            return tokens, self.mask_downscaling(masks)
        no_mask = self.no_mask_embed.weight.reshape(1, -1, 1, 1)
        return tokens, no_mask.expand(len(tokens), -1, *self.image_embedding_size)

    def tokens(
        self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None
    ) -> Tensor:
        """Return the sparse tokens (B, N', C) of prompts as `forward` takes them; masks only say how many."""
        batch = next((len(p) for p in ((points or (None,))[0], boxes, masks) if p is not None), 1)
        sparse = []
        if points is not None:
            sparse.append(self._embed_points(*points, pad=boxes is None))
        if boxes is not None:
            sparse.append(self._embed_boxes(boxes))
        if sparse:
            return torch.cat(sparse, dim=1)
        return self.no_mask_embed.weight.new_zeros(batch, 0, self.embed_dim)

    def _encode(self, coords_xy: Tensor) -> Tensor:
        height, width = self.input_image_size
        size = torch.tensor([width, height], dtype=torch.float32, device=coords_xy.device)
        return cast(Tensor, self.pe_layer((coords_xy.float() + 0.5) / size))

    def _embed_points(self, coords_xy: Tensor, labels: Tensor, pad: bool) -> Tensor:
        if pad:  # the reference pads where no box follows; the learned padding token is part of the weights
            coords_xy = torch.cat([coords_xy, coords_xy.new_zeros(len(coords_xy), 1, 2)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
        kinds = torch.stack([self.not_a_point_embed.weight[0], self._kind(0), self._kind(1)])
        encoded = self._encode(coords_xy) * (labels >= 0).unsqueeze(-1)
        return encoded + kinds[labels.long() + 1]

    def _embed_boxes(self, boxes_xyxy: Tensor) -> Tensor:
        corners = self._encode(boxes_xyxy.reshape(-1, 2, 2))
        return corners + torch.stack([self._kind(2), self._kind(3)])

    def _kind(self, index: int) -> Tensor:
        return cast(nn.Embedding, self.point_embeddings[index]).weight[0]
