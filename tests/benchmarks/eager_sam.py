"""The networks' formulas written out plainly, on a built network's weights: what the fast ones must equal.

Windows are padded before the projections, every attention matrix and its bias is materialised, batch norms
run as such, the image embedding is repeated for every prompt, and masks are enlarged with their padding.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.image_encoder import ImageEncoderViT
from src_core.model.sam import Sam
from src_core.model.tiny_vit import TinyViT


def encode(sam: Sam, image: Tensor) -> Tensor:
    """Embed a normalised (B, 3, S, S) image."""
    encoder = sam.image_encoder
    if isinstance(encoder, TinyViT):
        return tiny_vit(encoder, image)
    if isinstance(encoder, ImageEncoderViT):
        return vit(encoder, image)
    raise TypeError(f"no plain formulas for {type(encoder).__name__}")


def vit(encoder: ImageEncoderViT, image: Tensor) -> Tensor:
    """The ViT encoder of Segment Anything and of SAM-Med2D."""
    x = encoder.patch_embed.proj(image).permute(0, 2, 3, 1) + encoder.pos_embed
    for block in encoder.blocks:
        x = _vit_block(block, x)
    return _neck(encoder.neck, x.permute(0, 3, 1, 2))


def _vit_block(block: Any, x: Tensor) -> Tensor:
    height, width = x.shape[1:3]
    hidden = block.norm1(x)
    if block.attn.windows is None:
        hidden = _relative_attention(block.attn, hidden)
    else:
        windows, padded = _windows(hidden, block.attn.size)
        hidden = _unwindow(_relative_attention(block.attn, windows), padded, (height, width))
    x = x + hidden
    hidden = block.norm2(x)
    out = x + block.mlp.lin2(F.gelu(block.mlp.lin1(hidden)))
    return out if block.Adapter is None else out + _adapter(block.Adapter, hidden)


def _relative_attention(attn: Any, x: Tensor) -> Tensor:
    batch, height, width, dim = x.shape
    heads = attn.heads
    qkv = attn.qkv(x).reshape(batch, height * width, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.reshape(3, batch * heads, height * width, -1)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(1, 2)
    q = q.reshape(batch * heads, height, width, -1)
    rows = torch.arange(height, device=x.device)
    offsets = rows[:, None] - rows + height - 1
    by_row = torch.einsum("bhwc,hkc->bhwk", q, attn.rel_pos_h[offsets])
    by_column = torch.einsum("bhwc,wkc->bhwk", q, attn.rel_pos_w[offsets])
    scores = scores.reshape(-1, height, width, height, width) + by_row[..., None] + by_column[:, :, :, None]
    weights = scores.reshape(batch * heads, height * width, -1).softmax(-1)
    out = (weights @ v).reshape(batch, heads, height, width, -1).permute(0, 2, 3, 1, 4)
    return attn.proj(out.reshape(batch, height, width, dim))


def _adapter(adapter: Any, x: Tensor) -> Tensor:
    x = x.permute(0, 3, 1, 2)
    gate = adapter.channel(F.adaptive_avg_pool2d(x, 1).flatten(1))
    return adapter.norm((x + adapter.spatial(x * gate[:, :, None, None])).permute(0, 2, 3, 1))


def _windows(x: Tensor, size: int) -> tuple[Tensor, tuple[int, int]]:
    batch, height, width, dim = x.shape
    x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
    padded = (x.shape[1], x.shape[2])
    x = x.reshape(batch, padded[0] // size, size, padded[1] // size, size, dim)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size, size, dim), padded


def _unwindow(windows: Tensor, padded: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    size, dim = windows.shape[1], windows.shape[-1]
    x = windows.reshape(-1, padded[0] // size, padded[1] // size, size, size, dim)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, *padded, dim)
    return x[:, : shape[0], : shape[1]]


def _layer_norm_2d(norm: Any, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).square().mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + norm.eps)
    return norm.weight[:, None, None] * x + norm.bias[:, None, None]


def _neck(neck: nn.Sequential, x: Tensor) -> Tensor:
    return _layer_norm_2d(neck[3], neck[2](_layer_norm_2d(neck[1], neck[0](x))))


def tiny_vit(encoder: TinyViT, image: Tensor) -> Tensor:
    """MobileSAM's encoder."""
    first, _, second = encoder.patch_embed.seq
    x = _conv_norm(second, F.gelu(_conv_norm(first, image)))
    for index, stage in enumerate(encoder.layers):
        for block in stage.blocks:
            x = F.gelu(x + _bottleneck(block, x)) if index == 0 else _tiny_block(block, x)
        if stage.downsample is not None:
            x = _bottleneck(stage.downsample, x)
    return _neck(encoder.neck, x)


def _conv_norm(layer: Any, x: Tensor) -> Tensor:
    return layer.bn(layer.c(x))


def _bottleneck(block: Any, x: Tensor) -> Tensor:
    x = F.gelu(_conv_norm(block.conv2, F.gelu(_conv_norm(block.conv1, x))))
    return _conv_norm(block.conv3, x)


def _tiny_block(block: Any, x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    size = math.isqrt(block.attn.attention_biases.shape[1])
    tokens = x.permute(0, 2, 3, 1)
    windows, padded = _windows(tokens, size)
    attended = _biased_attention(block.attn, windows.flatten(1, 2), size).unflatten(1, (size, size))
    tokens = tokens + _unwindow(attended, padded, (height, width))
    tokens = _conv_norm(block.local_conv, tokens.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    mlp = block.mlp
    tokens = tokens + mlp.fc2(F.gelu(mlp.fc1(mlp.norm(tokens))))
    return tokens.permute(0, 3, 1, 2)


def _biased_attention(attn: Any, x: Tensor, size: int) -> Tensor:
    q, k, v = attn.qkv(attn.norm(x)).unflatten(-1, (attn.heads, 3, -1)).permute(3, 0, 2, 1, 4)
    y, x_ = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack([y.flatten(), x_.flatten()], -1)
    dy, dx = (places[:, None] - places).abs().unbind(-1)
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 + attn.attention_biases[:, dy * size + dx]
    return attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def decode(
    sam: Sam,
    embedding: Tensor,
    points: tuple[Tensor, Tensor] | None = None,
    boxes: Tensor | None = None,
    masks: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Answer B prompts with three candidates each: low-resolution logits and predicted IoUs."""
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=masks)
    decoder: Any = sam.mask_decoder
    batch = len(sparse)
    output = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output.expand(batch, -1, -1), sparse], 1)
    image = torch.repeat_interleave(embedding, batch, 0) + dense
    pe = torch.repeat_interleave(sam.prompt_encoder.get_dense_pe(), batch, 0)
    tokens, keys = _two_way(decoder.transformer, image, pe, tokens)
    first, norm, _, second, _ = decoder.output_upscaling
    grid = keys.transpose(1, 2).reshape(image.shape)
    upscaled = F.gelu(second(F.gelu(_layer_norm_2d(norm, first(grid)))))
    count = decoder.num_mask_tokens
    hyper = torch.stack([decoder.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in range(count)], 1)
    logits = (hyper @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
    return logits[:, 1:], decoder.iou_prediction_head(tokens[:, 0])[:, 1:]


def _two_way(transformer: Any, image: Tensor, pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    keys, key_pe = image.flatten(2).transpose(1, 2), pe.flatten(2).transpose(1, 2)
    queries = tokens
    for index, layer in enumerate(transformer.layers):
        if index == 0:
            queries = _attention(layer.self_attn, queries, queries, queries)
        else:
            q = queries + tokens
            queries = queries + _attention(layer.self_attn, q, q, queries)
        queries = layer.norm1(queries)
        read = _attention(layer.cross_attn_token_to_image, queries + tokens, keys + key_pe, keys)
        queries = layer.norm2(queries + read)
        queries = layer.norm3(queries + layer.mlp.lin2(F.relu(layer.mlp.lin1(queries))))
        wrote = _attention(layer.cross_attn_image_to_token, keys + key_pe, queries + tokens, queries)
        keys = layer.norm4(keys + wrote)
    last = _attention(transformer.final_attn_token_to_image, queries + tokens, keys + key_pe, keys)
    return transformer.norm_final_attn(queries + last), keys


def _attention(attn: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = attn.q_proj(q), attn.k_proj(k), attn.v_proj(v)
    q, k, v = (x.unflatten(2, (attn.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1)
    return attn.out_proj((weights @ v).transpose(1, 2).flatten(2))


def upscale(logits: Tensor, size: int, input_hw: tuple[int, int], original_hw: tuple[int, int]) -> Tensor:
    """Enlarge low-resolution logits to the network's input, crop, and resize to the plane."""
    enlarged = F.interpolate(logits, (size, size), mode="bilinear", align_corners=False)
    cropped = enlarged[..., : input_hw[0], : input_hw[1]]
    return F.interpolate(cropped, original_hw, mode="bilinear", align_corners=False)
