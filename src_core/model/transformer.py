"""The two-way transformer of the mask decoder (paper, appendix A, "Lightweight mask decoder").

A few tokens read thousands of places of the image and write to them. Projecting the places costs most, and is rarely
needed: (W_k p) . (W_q t) = p . (W_k^T W_q t), so that a token can be folded with the weights of the other side
instead, and the places be used as they are. Only where there are many tokens, or several objects share the places, is
projecting them cheaper; what is projected can be kept, see `Projected`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.common import MLPBlock


@dataclass(frozen=True, eq=False)
class Projected:
    """What attention makes of places (1 or B, P, C) that are the same for many prompts.

    `keys` and `queries`, without their biases, are (1 or B, heads, C', P), `values` (1 or B, heads, P, C').
    """

    keys: Tensor
    values: Tensor
    queries: Tensor


class Attention(nn.Module):
    """Multi-head attention whose inner width is the embedding's divided by `downsample_rate`."""

    def __init__(self, dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        inner = dim // downsample_rate
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (B, Nq, dim) to k, v (B, Nk, dim)."""
        q, k, v = (self.heads(f(x)) for f, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v)))
        return self._joined(F.scaled_dot_product_attention(q, k, v))

    def read(self, tokens: Tensor, places: Tensor, values: Tensor, known: Projected | None = None) -> Tensor:
        """Attend from tokens (B, N, dim) to the places of an image.

        Parameters
        ----------
        tokens
            (B, N, dim).
        places, values
            (1 or B, P, dim), with and without the positional encoding.
        known
            What the places are projected to, if that has been done.
        """
        q = self._scaled(self.q_proj(tokens))
        # The bias of the keys adds the same to all scores of a token: softmax takes no notice.
        weights = self._scores(q, places, self.k_proj, known.keys if known else None).softmax(-1)
        if known is not None:
            return self._joined(weights @ known.values)
        if not self._fold(q, values):
            return self._joined(weights @ self.heads(self.v_proj(values)))
        seen = (weights.flatten(1, 2) @ values).reshape(*q.shape[:3], -1)
        weight, bias = self._per_head(self.v_proj)
        return self._joined(seen @ weight.mT + bias.unsqueeze(1))

    def write(
        self, image: Tensor, places: Tensor, keys: Tensor, values: Tensor, known: Projected | None = None
    ) -> Tensor:
        """Return an image (B, P, dim) with what each of its places reads from tokens added to it.

        Parameters
        ----------
        image, places
            (1 or B, P, dim), without and with the positional encoding.
        keys, values
            Tokens (B, N, dim), with and without the prompts.
        known
            What the places are projected to, if that has been done.
        """
        k = self._scaled(self.k_proj(keys))
        scores = self._scores(k, places, self.q_proj, known.queries if known else None)
        _, bias = self._per_head(self.q_proj)
        weights = (scores + k @ bias.unsqueeze(-1)).softmax(2)
        # A head's weights add up to one: each brings its part of the bias.
        out = self.out_proj.weight.reshape(len(self.out_proj.weight), self.num_heads, -1).permute(1, 2, 0)
        moved = self.heads(self.v_proj(values)) @ out + self.out_proj.bias / self.num_heads
        image = image.expand(len(weights), -1, -1)
        return torch.baddbmm(image, weights.flatten(1, 2).mT, moved.flatten(1, 2))

    def _scores(self, tokens: Tensor, places: Tensor, side: nn.Linear, known: Tensor | None) -> Tensor:
        """Return the scores (B, heads, N, P) of tokens (B, heads, N, C') with the places projected by `side`.

        Its bias is left out.
        """
        if known is not None:
            return tokens @ known
        if not self._fold(tokens, places):
            return tokens @ self.heads(F.linear(places, side.weight)).mT
        weight, _ = self._per_head(side)
        folded = (tokens @ weight).flatten(1, 2)
        return (folded @ places.mT).reshape(*tokens.shape[:3], -1)

    def _fold(self, tokens: Tensor, places: Tensor) -> bool:
        """Say whether folding tokens (B, heads, N, C') takes fewer operations than projecting the places."""
        batch, heads, count, width = tokens.shape
        dim = places.shape[-1]
        return batch * heads * count * dim < heads * width * (len(places) * dim + batch * count)

    def heads(self, x: Tensor) -> Tensor:
        """Split (B, N, C) into heads, (B, heads, N, C')."""
        return x.reshape(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _scaled(self, x: Tensor) -> Tensor:
        x = self.heads(x)
        return x * math.sqrt(1 / x.shape[-1])

    def _per_head(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Return weights (heads, C', dim) and bias (heads, C')."""
        weight, bias = linear.weight, linear.bias
        return weight.reshape(self.num_heads, -1, weight.shape[1]), bias.reshape(self.num_heads, -1)

    def _joined(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))
        return out


class TwoWayAttentionBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP, image to tokens."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_dim: int,
        downsample_rate: int = 2,
        skip_first_layer_pe: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, num_heads, downsample_rate)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLPBlock(dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, num_heads, downsample_rate)
        self.skip_first_layer_pe = skip_first_layer_pe

    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        query_pe: Tensor,
        key_pe: Tensor,
        known: Projected | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update tokens (B, N, dim) and image (1 or B, P, dim); positional encodings match their input."""
        if self.skip_first_layer_pe:
            queries = self.self_attn(queries, queries, queries)
        else:
            q = queries + query_pe
            queries = queries + self.self_attn(q, q, queries)
        queries = self.norm1(queries)

        places = keys + key_pe if known is None else keys  # what is known stands in for them
        seen = self.cross_attn_token_to_image.read(queries + query_pe, places, keys, known)
        queries = self.norm2(queries + seen)
        queries = self.norm3(queries + self.mlp(queries))
        written = self.cross_attn_image_to_token.write(keys, places, queries + query_pe, queries, known)
        return queries, self.norm4(written)

    def projections(self) -> tuple[Tensor, ...]:
        """Return the weights that `project` uses."""
        read, write = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        linear = (read.k_proj, read.v_proj, write.q_proj)
        return tuple(p for layer in linear for p in (layer.weight, layer.bias))

    def project(self, keys: Tensor, key_pe: Tensor) -> Projected:
        """Return what `forward` computes of an image (1, P, dim) whatever the prompts."""
        places = keys + key_pe
        read, write = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        return Projected(
            read.heads(F.linear(places, read.k_proj.weight)).mT.contiguous(),
            read.heads(read.v_proj(keys)).contiguous(),
            write.heads(F.linear(places, write.q_proj.weight)).mT.contiguous(),
        )


class TwoWayTransformer(nn.Module):
    """Lets prompt tokens and image tokens read each other, `depth` times."""

    def __init__(self, depth: int, embedding_dim: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(embedding_dim, num_heads, mlp_dim, skip_first_layer_pe=i == 0)
            for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(embedding_dim, num_heads, 2)
        self.norm_final_attn = nn.LayerNorm(embedding_dim)

    def forward(
        self,
        keys: Tensor,
        key_pe: Tensor,
        tokens: Tensor,
        known: Projected | None = None,
        wanted: Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer.

        Parameters
        ----------
        keys, key_pe
            The image and its positional encoding, (1 or B, P, C), one row per place.
        tokens
            (B, N, C) output tokens followed by the prompt's sparse embeddings.
        known
            What the first layer's `project` makes of an image that several prompts share.
        wanted
            The tokens to return, all by default.

        Returns
        -------
        tuple of Tensor
            Tokens (B, N, C), N those wanted, and image (B, P, C).
        """
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, query_pe=tokens, key_pe=key_pe, known=known)
            known = None
        if wanted is not None:
            queries, tokens = queries[:, wanted], tokens[:, wanted]
        attended = self.final_attn_token_to_image.read(queries + tokens, keys + key_pe, keys)
        return self.norm_final_attn(queries + attended), keys
