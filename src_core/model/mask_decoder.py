"""The mask decoder (paper, section 3 and appendix A): tokens and image in, candidate masks and IoUs out."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.common import LayerNorm2d
from src_core.model.transformer import TwoWayTransformer


class MLP(nn.Module):
    """Linear layers with ReLU between them, on the last axis."""

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        out: Tensor = self.layers[-1](x)
        return out


class MaskDecoder(nn.Module):
    """Predicts one mask for a clear prompt or three for an ambiguous one, each with its IoU.

    Parameters
    ----------
    transformer_dim
        Width C of tokens and image embedding.
    transformer
        The two-way transformer.
    num_multimask_outputs
        Candidates for an ambiguous prompt; one more token answers a clear one.
    upscaled_dims
        Channels after the first and the second 2x upscaling; default (C / 4, C / 8).
    iou_head_depth, iou_head_hidden_dim
        The MLP that predicts the IoUs.
    """

    def __init__(
        self,
        transformer_dim: int,
        transformer: TwoWayTransformer,
        num_multimask_outputs: int = 3,
        upscaled_dims: tuple[int, int] | None = None,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
    ) -> None:
        super().__init__()
        dim = transformer_dim
        half, full = upscaled_dims or (dim // 4, dim // 8)
        self.transformer = transformer
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, half, kernel_size=2, stride=2),
            LayerNorm2d(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, full, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            MLP(dim, dim, full, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = MLP(dim, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth)

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
    ) -> tuple[Tensor, Tensor]:
        """Decode B prompts about one image.

        Parameters
        ----------
        image_embeddings, image_pe
            (1, C, H, W).
        sparse_prompt_embeddings, dense_prompt_embeddings
            (B, N, C) and (B, C, H, W), from the prompt encoder.
        multimask_output
            True for the three candidates of an ambiguous prompt, False for the single mask.

        Returns
        -------
        tuple of Tensor
            Low-resolution logits (B, M, 4 H, 4 W) and predicted IoU (B, M), M = 3 or 1.
        """
        dense = dense_prompt_embeddings
        if dense.stride(0) == 0:  # one learned embedding for all: keep what the prompts share shared
            dense = dense[:1]
        tokens, keys = self.attend(image_embeddings + dense, image_pe, sparse_prompt_embeddings)
        wanted = slice(1, None) if multimask_output else slice(0, 1)
        upscaled = self.output_upscaling(keys)
        mask_tokens = tokens[:, 1 : 1 + self.num_mask_tokens]
        index = range(self.num_mask_tokens)[wanted]
        hyper = torch.stack([self.output_hypernetworks_mlps[i](mask_tokens[:, i]) for i in index], dim=1)
        masks = (hyper @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
        return masks, self.iou_prediction_head(tokens[:, 0])[:, wanted]

    def attend(self, image: Tensor, image_pe: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Run the transformer on the image with its dense prompt, (1 or B, C, H, W).

        Returns output and prompt tokens (B, 5 + N, C) and the image (B, C, H, W).
        """
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(sparse.shape[0], -1, -1), sparse], dim=1)
        tokens, keys = self.transformer(image, image_pe, tokens)
        return tokens, keys.transpose(1, 2).unflatten(2, image.shape[-2:])
