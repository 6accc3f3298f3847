"""From low-resolution logits back to pixels of the plane: only what lies around the foreground is enlarged."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from src_core import frames
from src_core.masks import bounds
from src_core.model.sam import Sam
from src_core.tiles import Tile

PRODUCTS = 64
"""Up to so many multiplications per pixel of a tile take no longer than interpolating it."""


def upscale(model: Sam, logits: Tensor, tile: Tile) -> Tensor:
    """Bring low-resolution logits (B, M, h, w) to the size of the tile on the plane."""
    if not model.native_tiles:
        return _upscale_by_way_of_the_input(logits, model.image_size, tile)
    rows, columns = (_weights(model, tile, axis).to(logits.device) for axis in (0, 1))
    return rows @ logits @ columns.mT


def paint(model: Sam, logits: Tensor, tile: Tile, mask: NDArray[np.bool_]) -> None:
    """Set what low-resolution logits (h, w) call foreground in a mask (H, W) of the tile, all background before.

    Only what lies around the foreground is enlarged: most objects are small.
    """
    inside = (logits > model.mask_threshold).cpu().numpy()
    if not inside.any():
        return
    extent = bounds(inside)
    spans = [_reached(model, tile, axis, (extent[axis], extent[axis + 2])) for axis in (0, 1)]
    (y0, y1), (x0, x1) = (span for span, _ in spans)
    if _is_large(model, tile, spans):
        mask[:] = (upscale(model, logits[None, None], tile)[0, 0] > model.mask_threshold).cpu().numpy()
        return
    (rows, used_rows), (columns, used_columns) = (
        (_weights(model, tile, axis)[slice(*span), used].to(logits.device), used)
        for axis, (span, used) in enumerate(spans)
    )
    part = rows @ logits[used_rows, used_columns] @ columns.mT
    mask[y0:y1, x0:x1] = (part > model.mask_threshold).cpu().numpy()


def _is_large(model: Sam, tile: Tile, spans: list[tuple[tuple[int, int], slice]]) -> bool:
    """Say whether matrix products take longer than interpolating all of a reference network's tile."""
    if model.native_tiles:
        return False
    ((y0, y1), _), ((x0, x1), used) = spans
    operations: int = (y1 - y0) * (x1 - x0) * (used.stop - used.start)
    return operations > PRODUCTS * tile.shape[0] * tile.shape[1]


def _reached(model: Sam, tile: Tile, axis: int, inside: tuple[int, int]) -> tuple[tuple[int, int], slice]:
    """Return the pixels of a tile that low-resolution pixels `inside` may make foreground, and what these need."""
    step = frames.LOW_RES[model.native_tiles] / tile.zoom_yx[axis]
    size = frames.low_res_shape(model, tile)[axis]
    # Interpolation reaches less than a pixel far: of the logits, then of the network's input.
    slack = 1.25
    start = max(0, math.floor((inside[0] + 0.5 - slack) * step) - 1)
    stop = min(tile.shape[axis], math.ceil((inside[1] - 0.5 + slack) * step) + 1)
    used = math.floor((start + 0.5) / step - 0.5 - slack), math.ceil((stop - 0.5) / step - 0.5 + slack) + 1
    # Where the plane ends within the padding, its last pixels are those of the rim.
    return (start, max(start, stop)), slice(max(0, min(used[0], size - 1)), min(size, max(used[1], 1)))


def _weights(model: Sam, tile: Tile, axis: int) -> Tensor:
    """Return how the pixels of a tile are made of its low-resolution ones along an axis, (n, size)."""
    shape = (tile.shape[axis], tile.input_hw[axis], frames.low_res_shape(model, tile)[axis])
    return _weights_of(model.native_tiles, *shape)


@functools.lru_cache(8)
def _weights_of(native_tiles: bool, length: int, input_length: int, size: int) -> Tensor:
    """Return the weights (length, size) of an axis; tiles of a plane are alike, and so are those of a stack.

    nano's are interpolated in one step, whose positions agree with the resize in `encode`. The others' are by way of
    the network's input without its padding, as the reference does.
    """
    places = (torch.arange(length, dtype=torch.float64) + 0.5) * (input_length / length) - 0.5
    step = frames.LOW_RES[native_tiles]
    if native_tiles:
        return _interpolation((places + 0.5) / step - 0.5, size)
    last = input_length - 1
    places = places.clamp(0, last)
    low = places.floor()
    first, second = (_interpolation((p + 0.5) / step - 0.5, size) for p in (low, (low + 1).clamp(max=last)))
    return torch.lerp(first, second, (places - low).float().unsqueeze(1))


def _interpolation(places: Tensor, size: int) -> Tensor:
    """Return the weights (n, size) of linear interpolation at places (n,); beyond the rim is the rim."""
    places = places.clamp(0, size - 1)
    low = places.floor().long()
    share = (places - low).float()
    weights = torch.zeros(len(places), size)
    row = torch.arange(len(places))
    weights[row, low] = 1 - share
    weights[row, (low + 1).clamp(max=size - 1)] += share
    return weights


def _upscale_by_way_of_the_input(logits: Tensor, network_size: int, tile: Tile) -> Tensor:
    """Resize to the network's input, without the padding, then to the plane: as the reference does.

    Only rows and columns that are not padding are computed.
    """
    step = network_size / logits.shape[-1]
    # what the last kept pixel interpolates between, and one more so that the border rule does not reach it
    rows, columns = (
        min(math.ceil(n / step) + 2, full) for n, full in zip(tile.input_hw, logits.shape[-2:], strict=True)
    )
    # one map per batch entry: the kernel for three interleaved channels takes twice as long
    part = logits[..., :rows, :columns].flatten(0, 1).unsqueeze(1)
    enlarged = (round(rows * step), round(columns * step))
    part = F.interpolate(part, enlarged, mode="bilinear", align_corners=False)
    part = part[..., : tile.input_hw[0], : tile.input_hw[1]]
    if tile.input_hw != tile.shape:
        part = F.interpolate(part, tile.shape, mode="bilinear", align_corners=False)
    return part.reshape(*logits.shape[:2], *tile.shape)
