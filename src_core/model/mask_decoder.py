"""The mask decoder (paper, section 3 and appendix A): tokens and image in, candidate masks and IoUs out."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.common import LayerNorm2d
from src_core.model.kept import Kept
from src_core.model.transformer import Projected, TwoWayAttentionBlock, TwoWayTransformer

IMAGES_KEPT = 4
"""Of so many images the decoder keeps what is the same for all clicks: 14 MB each for Segment Anything."""
PLACES = 4096
"""On a CPU, prompts are answered together as long as the places of their images are no more: what an answer is made of
then stays near the processor. One image of Segment Anything has as many."""
STRIP = 1024
"""So many places are upscaled at a time: their features at full size then stay near the processor."""


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
        self._images: Kept[tuple[Tensor, Projected]] = Kept(IMAGES_KEPT)

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
        wanted = range(self.num_mask_tokens)[1:] if multimask_output else range(1)
        sparse, dense = sparse_prompt_embeddings, dense_prompt_embeddings
        together = _together(len(sparse), dense)
        answers = [
            self._answer(image_embeddings, image_pe, *group, wanted)
            for group in zip(torch.split(sparse, together), torch.split(dense, together), strict=True)
        ]
        masks, iou = (torch.cat(parts) for parts in zip(*answers, strict=True))
        return masks, iou

    def _answer(
        self, image: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor, wanted: range
    ) -> tuple[Tensor, Tensor]:
        if dense.stride(-1) == 0:  # one learned embedding for every place and prompt
            keys, known = self._shared(image, image_pe, dense[:1])
        else:
            keys, known = _rows(image + dense), None
        used = [0, *(1 + i for i in wanted)]
        tokens, keys = self.transformer(keys, _rows(image_pe), self._tokens(sparse), known, used)
        hyper = torch.stack(
            [self.output_hypernetworks_mlps[i](tokens[:, k]) for k, i in enumerate(wanted, start=1)], dim=1
        )
        iou = self.iou_prediction_head(tokens[:, 0])[:, wanted.start : wanted.stop]
        return self._logits(keys, hyper, (image.shape[2], image.shape[3])), iou

    def attend(self, image: Tensor, image_pe: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Run the transformer on the image with its dense prompt, (1 or B, C, H, W).

        Returns output and prompt tokens (B, 5 + N, C) and the image (B, C, H, W).
        """
        tokens, keys = self.transformer(_rows(image), _rows(image_pe), self._tokens(sparse))
        return tokens, keys.transpose(1, 2).unflatten(2, image.shape[-2:])

    def _tokens(self, sparse: Tensor) -> Tensor:
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        return torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)

    def _shared(self, image: Tensor, image_pe: Tensor, dense: Tensor) -> tuple[Tensor, Projected | None]:
        """Return the image (1, P, C) with the dense embedding of all prompts, and its projections."""
        if torch.is_grad_enabled():
            return _rows(image + dense), None
        first = cast(TwoWayAttentionBlock, self.transformer.layers[0])

        def make() -> tuple[Tensor, Projected]:
            keys = _rows(image + dense)
            return keys, first.project(keys, _rows(image_pe))

        return self._images.get((image, image_pe, dense, *first.projections()), make)

    def _logits(self, keys: Tensor, hyper: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the logits (B, M, 4 H, 4 W) of an image (B, P, C) for the hypernetworks' output (B, M, C').

        `output_upscaling` and the product with `hyper`, place by place: a transposed convolution that doubles the
        size turns each place into four by a matrix product. Only the logits are brought into the order of an image.
        """
        first, norm, act, second, _ = self.output_upscaling
        first, second = cast(nn.ConvTranspose2d, first), cast(nn.ConvTranspose2d, second)
        norm = cast(LayerNorm2d, norm)
        parts = []
        for part in torch.split(keys, STRIP, dim=1):
            x = act(norm.last(doubled(part, first)))
            parts.append(hyper @ act(doubled(x, second)).mT)
        height, width = shape
        # height, width, then (row, column) within a place of the first upscaling and of the second
        logits = torch.cat(parts, 2).reshape(*hyper.shape[:2], height, width, 2, 2, 2, 2)
        return logits.permute(0, 1, 2, 4, 6, 3, 5, 7).reshape(*hyper.shape[:2], 4 * height, 4 * width)


def _together(count: int, dense: Tensor) -> int:
    """Return how many of `count` prompts with dense embeddings (B, C, H, W) to answer at a time."""
    if torch.is_grad_enabled() or dense.device.type != "cpu":
        return max(count, 1)
    return max(1, PLACES // (dense.shape[2] * dense.shape[3]))


def _rows(image: Tensor) -> Tensor:
    """Bring (B, C, H, W) into rows of channels, (B, H W, C)."""
    return image.flatten(2).transpose(1, 2).contiguous()


def doubled(x: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """Upscale (B, P, C) by a transposed convolution of kernel and stride 2: (B, 4 P, C'), four rows for each place."""
    weight = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
    bias = cast(Tensor, layer.bias).repeat(4)
    return F.linear(x, weight, bias).reshape(len(x), 4 * x.shape[1], -1)
