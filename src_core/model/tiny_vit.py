"""TinyViT (Wu et al. 2022, section 3.3), MobileSAM's image encoder: four stages, the first convolutional.

Convolutions carry no bias but a batch norm. Outside training the two are one convolution, folded at each
call: that costs a product per weight, and no folded copy can go stale.
"""

from __future__ import annotations

from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.image_encoder import Neck, WindowIndex, check_input

_DIMS = (64, 128, 160, 320)
_DEPTHS = (2, 2, 6, 2)
_HEADS = (2, 4, 5, 10)
_WINDOWS = (7, 7, 14, 7)
_CLASSES = 1000
_STRIP_ELEMENTS = 2**20  # 4 MB of float32: measured fastest


class TinyViT(nn.Module):
    """Turns a 1024 px image into its embedding at 1/16 of the resolution.

    Parameters
    ----------
    image_size
        Side of the square input in pixels, a multiple of 16.
    out_dim
        Channels of the embedding.
    """

    def __init__(self, image_size: int = 1024, out_dim: int = 256) -> None:
        super().__init__()
        self.image_size = image_size
        self.patch_embed = PatchEmbed(_DIMS[0])
        grids = (image_size // 4, image_size // 8, image_size // 16, image_size // 16)
        self.layers = nn.ModuleList(Stage(i, grids[i]) for i in range(4))
        # the checkpoint still carries the classifier; nothing here runs it
        self.norm_head = nn.LayerNorm(_DIMS[-1])
        self.head = nn.Linear(_DIMS[-1], _CLASSES)
        self.neck = Neck(_DIMS[-1], out_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Encode (B, 3, S, S), normalised and padded, to (B, out_dim, S / 16, S / 16).

        Raises
        ------
        CheckpointError
            The image has another size than the network.
        """
        check_input(image, self.image_size)
        x = self.layers[0](self.patch_embed(image))
        x = x.contiguous(memory_format=torch.channels_last)  # from here on maps are views of tokens
        for stage in self.layers[1:]:
            x = stage(x)
        embedding: Tensor = self.neck(x)
        return embedding


class ConvNorm(nn.Module):
    """A convolution without bias, then batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        if self.training:
            out: Tensor = self.bn(self.c(x))
            return out
        weight, bias = self.fold()
        return F.conv2d(x, weight, bias, self.c.stride, self.c.padding, groups=self.c.groups)

    def fold(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the one convolution that this is outside training."""
        bn = self.bn
        scale = bn.weight * torch.rsqrt(cast(Tensor, bn.running_var) + bn.eps)
        bias = bn.bias - cast(Tensor, bn.running_mean) * scale
        return self.c.weight * scale[:, None, None, None], bias


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2: (B, 3, S, S) to (B, dim, S / 4, S / 4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, dim // 2, 3, 2), nn.GELU(), ConvNorm(dim // 2, dim, 3, 2))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, S, S) to (B, dim, S / 4, S / 4)."""
        out: Tensor = self.seq(image)
        return out


class Stage(nn.Module):
    """The `index`-th stage's blocks on a `grid` x `grid` map, then the way down to the next stage."""

    def __init__(self, index: int, grid: int) -> None:
        super().__init__()
        dim, depth = _DIMS[index], _DEPTHS[index]
        if index == 0:
            self.blocks = nn.ModuleList(MBConv(dim) for _ in range(depth))
        else:
            blocks = (TinyViTBlock(dim, _HEADS[index], grid, _WINDOWS[index]) for _ in range(depth))
            self.blocks = nn.ModuleList(blocks)
        # MobileSAM keeps the last stage at 1/16, where SAM's decoder expects it
        stride = 2 if index < 2 else 1
        out_dim = _DIMS[min(index + 1, 3)]
        self.downsample = PatchMerging(dim, out_dim, out_dim, stride) if index < 3 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, grid, grid) to the next stage's (B, dim', grid', grid')."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class PatchMerging(nn.Module):
    """Pointwise, depthwise 3 x 3 and pointwise convolution: (B, dim, H, W) to (B, out_dim, H / s, W / s)."""

    def __init__(self, dim: int, hidden: int, out_dim: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, stride, groups=hidden)
        self.conv3 = ConvNorm(hidden, out_dim)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to (B, out_dim, H / stride, W / stride).

        Outside training in strips of rows: the widened maps are by far the largest of the network, and a
        strip of them stays in the processor's cache.
        """
        if self.training:
            out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
            return out
        (w1, b1), (w2, b2), (w3, b3) = (conv.fold() for conv in (self.conv1, self.conv2, self.conv3))
        height, width = x.shape[2:]
        rows = max(1, _STRIP_ELEMENTS // (len(w1) * width * self.stride)) * self.stride
        strips = []
        for start in range(0, height, rows):
            first, last = max(start - 1, 0), min(start + rows + 1, height)
            hidden = F.gelu(F.conv2d(x[:, :, first:last], w1, b1))
            rim = (0, 0, int(start == 0), int(start + rows >= height))
            hidden = F.conv2d(F.pad(hidden, rim), w2, b2, self.stride, (0, 1), groups=len(w2))
            strips.append(F.conv2d(F.gelu(hidden), w3, b3))
        return torch.cat(strips, 2)


class MBConv(PatchMerging):
    """Inverted bottleneck (Sandler et al. 2018): widen four times, depthwise 3 x 3, narrow, add."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, H, W) to the same shape."""
        return F.gelu(x + super().forward(x))


class TinyViTBlock(nn.Module):
    """Window attention, a depthwise convolution that joins the windows, and an MLP."""

    def __init__(self, dim: int, heads: int, grid: int, window: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads, grid, window)
        self.mlp = Mlp(dim)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, dim, grid, grid) to the same shape."""
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(tokens)
        x = self.local_conv(tokens.transpose(1, 2).reshape(x.shape))
        tokens = x.flatten(2).transpose(1, 2)
        out: Tensor = (tokens + self.mlp(tokens)).transpose(1, 2).reshape(x.shape)
        return out


class Mlp(nn.Module):
    """Layer norm and two linear layers on (..., dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to the same shape."""
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class Attention(nn.Module):
    """Window attention with a learned bias per head and absolute offset (|dy|, |dx|)."""

    offsets: Tensor
    bias_table: Tensor

    def __init__(self, dim: int, heads: int, grid: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        steps = torch.arange(window)
        apart = (steps[:, None] - steps).abs()
        offsets = apart[:, None, :, None] * window + apart[None, :, None, :]
        self.register_buffer("offsets", offsets.reshape(window**2, window**2), persistent=False)
        self.register_buffer("bias_table", torch.zeros(1, heads, window**2, window**2), persistent=False)
        self.windows = WindowIndex(grid, window)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, grid * grid, dim) to the same shape."""
        batch, _, dim = x.shape
        # the norm follows the padding with zeros here, so that a padded token is the norm's bias
        padding = self.qkv(self.norm.bias)
        qkv = self.windows.split(self.qkv(self.norm(x)), padding)
        # each head's query, key and value lie side by side
        q, k, v = qkv.reshape(*qkv.shape[:2], self.heads, 3, -1).transpose(1, 2).unbind(3)
        bias = self._gathered() if self.training else self.bias_table
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        projected: Tensor = self.proj(self.windows.join(out.transpose(1, 2).reshape(batch, -1, dim)))
        return projected

    def train(self, mode: bool = True) -> Self:
        """Enter or leave training; on leaving it the biases are gathered into a table.

        As in the reference, weights loaded in eval mode do not reach the table: `train()` and `eval()` bring
        them there, which `zoo.load` does.
        """
        if self.training and not mode:
            self.bias_table = self._gathered().detach()
        return super().train(mode)

    def _gathered(self) -> Tensor:
        return self.attention_biases[:, self.offsets].unsqueeze(0)  # the fused kernel wants four axes
