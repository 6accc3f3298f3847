"""The ViT image encoder (paper, section 3 and appendix A): windowed and global attention over 16 px patches.

Two things differ from a literal reading of the formulas, not the numbers: a window that reaches beyond the
grid costs no linear layer, because what the projections make of the zero padding is their bias; and the
relative-position bias is only ever held for a part of the attention matrix that fits the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.errors import CheckpointError
from src_core.model.adapter import Adapter
from src_core.model.common import LayerNorm2d, MLPBlock

PATCH = 16
WINDOW = 14
_EPS = 1e-6
_BIAS_ELEMENTS_CPU = 2**21  # 8 MB of float32: measured fastest, and memory stays flat
_BIAS_ELEMENTS_GPU = 2**28


@dataclass(frozen=True)
class ViTConfig:
    """The shape of a ViT image encoder.

    Attributes
    ----------
    dim, depth, heads
        Width, number of blocks and attention heads.
    global_blocks
        Indices of the blocks that attend over the whole grid; the others attend within 14 x 14 windows.
    image_size
        Side of the square input in pixels, a multiple of 16.
    adapters
        True for SAM-Med2D: one adapter in every block.
    """

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    adapters: bool = False


class ImageEncoderViT(nn.Module):
    """Turns an image into its embedding at 1/16 of the resolution.

    Parameters
    ----------
    config
        The network's shape.
    out_dim
        Channels of the embedding.
    """

    def __init__(self, config: ViTConfig, out_dim: int = 256) -> None:
        super().__init__()
        grid = config.image_size // PATCH
        self.image_size = config.image_size
        self.patch_embed = PatchEmbed(config.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, config.dim))
        self.blocks = nn.ModuleList(
            Block(config, grid, None if i in config.global_blocks else WINDOW) for i in range(config.depth)
        )
        self.neck = Neck(config.dim, out_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Encode a batch of images.

        Parameters
        ----------
        image
            (B, 3, S, S) float, normalised and padded to the network's side S.

        Returns
        -------
        Tensor
            (B, out_dim, S / 16, S / 16), channels-last in memory.

        Raises
        ------
        CheckpointError
            The image has another size than the network.
        """
        check_input(image, self.image_size)
        x = self.patch_embed(image) + self.pos_embed
        grid = x.shape[1:3]
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.neck(x.unflatten(1, grid).permute(0, 3, 1, 2))
        return embedding


def check_input(image: Tensor, size: int) -> None:
    """Raise `CheckpointError` unless `image` is (B, 3, size, size)."""
    if image.ndim != 4 or tuple(image.shape[1:]) != (3, size, size):
        raise CheckpointError(
            f"this network takes images of shape (B, 3, {size}, {size}), got {tuple(image.shape)}: "
            "resize and pad the image first, or choose a network of that size"
        )


class PatchEmbed(nn.Module):
    """Projects each 16 x 16 patch to a token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH, stride=PATCH)

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, S, S) to (B, S / 16, S / 16, dim)."""
        tokens: Tensor = self.proj(image)
        return tokens.permute(0, 2, 3, 1)


class Neck(nn.Sequential):
    """Maps (B, dim, H, W) to (B, out_dim, H, W) by a 1 x 1 and a 3 x 3 convolution and layer norms."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__(
            nn.Conv2d(dim, out_dim, kernel_size=1, bias=False),
            LayerNorm2d(out_dim),
            nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(out_dim),
        )


class Block(nn.Module):
    """A transformer block on (B, grid * grid, dim) tokens; `window` None attends over the whole grid."""

    def __init__(self, config: ViTConfig, grid: int, window: int | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=_EPS)
        self.attn = Attention(config.dim, config.heads, grid, window)
        self.norm2 = nn.LayerNorm(config.dim, eps=_EPS)
        self.mlp = MLPBlock(config.dim, 4 * config.dim)
        self.Adapter = Adapter(config.dim, grid) if config.adapters else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, grid * grid, dim) to the same shape."""
        x = x + self.attn(self.norm1(x))
        hidden = self.norm2(x)
        out: Tensor = x + self.mlp(hidden)
        if self.Adapter is not None:  # beside the MLP, not before it
            out = out + self.Adapter(hidden)
        return out


class Attention(nn.Module):
    """Multi-head attention with decomposed relative positions (MViTv2), over windows or everywhere."""

    offsets: Tensor
    windows: WindowIndex | None

    def __init__(self, dim: int, heads: int, grid: int, window: int | None) -> None:
        super().__init__()
        self.heads = heads
        self.size = window or grid
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * self.size - 1, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * self.size - 1, dim // heads))
        steps = torch.arange(self.size)
        self.register_buffer("offsets", steps[:, None] - steps + self.size - 1, persistent=False)
        self.windows = WindowIndex(grid, window) if window else None

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, grid * grid, dim) to the same shape."""
        batch, _, dim = x.shape
        qkv = self.qkv(x)
        if self.windows is not None:
            qkv = self.windows.split(qkv, padding=self.qkv.bias)
        q, k, v = qkv.reshape(-1, self.size, self.size, 3, self.heads, dim // self.heads).unbind(3)
        rel_h = torch.einsum("byxhc,ykc->bhyxk", q, self.rel_pos_h[self.offsets]).flatten(2, 3)
        rel_w = torch.einsum("byxhc,xkc->bhyxk", q, self.rel_pos_w[self.offsets]).flatten(2, 3)
        q, k, v = (t.flatten(1, 2).transpose(1, 2) for t in (q, k, v))
        out = attend(q, k, v, rel_h, rel_w).transpose(1, 2).reshape(batch, -1, dim)
        if self.windows is not None:
            out = self.windows.join(out)
        projected: Tensor = self.proj(out)
        return projected


def attend(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
    """Attention with a relative-position bias that is the sum of a row term and a column term.

    Parameters
    ----------
    q
        (B, heads, N, C).
    k, v
        (B, heads, R * S, C): keys of R rows and S columns.
    rel_h, rel_w
        (B, heads, N, R) and (B, heads, N, S), added to the scaled products.

    Returns
    -------
    Tensor
        (B, heads, N, C).
    """
    budget = _BIAS_ELEMENTS_CPU if q.device.type == "cpu" else _BIAS_ELEMENTS_GPU
    elements = q.shape[:3].numel() * k.shape[2]
    if elements <= budget or q.shape[:3].numel() == 1:
        bias = (rel_h.unsqueeze(-1) + rel_w.unsqueeze(-2)).flatten(-2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    axis = next(i for i in range(3) if q.shape[i] > 1)
    step = max(1, budget * q.shape[axis] // elements)
    parts = []
    for start in range(0, q.shape[axis], step):
        length = min(step, q.shape[axis] - start)
        q_, h_, w_ = (t.narrow(axis, start, length) for t in (q, rel_h, rel_w))
        # a part of the batch or of the heads has its own keys; a part of the queries needs them all
        k_, v_ = (t if axis == 2 else t.narrow(axis, start, length) for t in (k, v))
        parts.append(attend(q_, k_, v_, h_, w_))
    return torch.cat(parts, axis)


class WindowIndex(nn.Module):
    """Where the tokens of a grid go when it is cut into windows, and back.

    A grid that is no multiple of the window is padded at the bottom and right. Padded positions are keys like
    any other, so they exist in the windows, but nowhere else.

    Parameters
    ----------
    grid, window
        Sides in tokens.
    """

    to_windows: Tensor
    from_windows: Tensor

    def __init__(self, grid: int, window: int) -> None:
        super().__init__()
        count = -(-grid // window)
        tokens = torch.arange(grid * grid).reshape(grid, grid)
        rim = count * window - grid
        padded = F.pad(tokens, (0, rim, 0, rim), value=grid * grid)
        order = padded.reshape(count, window, count, window).transpose(1, 2).reshape(-1)
        self.register_buffer("to_windows", order, persistent=False)
        back = torch.argsort(order, stable=True)[: grid * grid]
        self.register_buffer("from_windows", back, persistent=False)
        self.tokens = window * window

    def split(self, x: Tensor, padding: Tensor) -> Tensor:
        """Map (B, grid * grid, C) to (B * windows, window * window, C), `padding` (C,) filling the rim."""
        rim = padding.expand(len(x), 1, -1).to(x.dtype)
        return torch.cat([x, rim], 1).index_select(1, self.to_windows).reshape(-1, self.tokens, x.shape[-1])

    def join(self, x: Tensor) -> Tensor:
        """Map (B, windows * window * window, C) back to (B, grid * grid, C), leaving the rim out."""
        return x.index_select(1, self.from_windows)


def vit_configs() -> dict[str, ViTConfig]:
    """Return the published ViT shapes by network name (paper, appendix A; SAM-Med2D, section 3)."""
    return {
        "vit_b": ViTConfig(768, 12, 12, (2, 5, 8, 11)),
        "vit_l": ViTConfig(1024, 24, 16, (5, 11, 17, 23)),
        "vit_h": ViTConfig(1280, 32, 16, (7, 15, 23, 31)),
        "med2d_b": ViTConfig(768, 12, 12, (2, 5, 8, 11), image_size=256, adapters=True),
    }
