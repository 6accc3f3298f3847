"""Between a tile of a plane and the network's frame: every resize and every change of coordinates.

A plane is (row, column), y before x, with the centre of its first pixel at (0, 0). The network wants (x, y) in
pixels of its frame (paper, appendix A, "Image encoder"); that order exists in this module only.

The frame is the network's input; low-resolution logits cover all of it, padding included. The *window* of a
tile is its frame in pixels of the plane, and may reach beyond the plane where the input is padded.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from torch import Tensor
from torch.nn import functional as F

from src_core.model.nano import LOW_RES_PX, SIZE_MULTIPLE_PX
from src_core.model.sam import Features, Sam
from src_core.prompts import Prompts
from src_core.tiling import Extent, Tile

BOOL_LOGIT = 6.0
"""What a bool mask becomes as a dense prompt: plus inside, minus outside."""
LOW_RES = {True: LOW_RES_PX, False: 4}
"""Side of a low-resolution pixel in network pixels, for networks with and without native tiles."""


def frame_shape(model: Sam, tile: Tile) -> tuple[int, int]:
    """Return (height, width) of the padded network input."""
    if not model.native_tiles:
        return (model.image_size, model.image_size)
    height, width = (-(-n // SIZE_MULTIPLE_PX) * SIZE_MULTIPLE_PX for n in tile.input_hw)
    return height, width


def low_res_shape(model: Sam, tile: Tile) -> tuple[int, int]:
    """Return (h, w) of the low-resolution logits."""
    height, width = frame_shape(model, tile)
    step = LOW_RES[model.native_tiles]
    return height // step, width // step


def window(model: Sam, tile: Tile) -> Extent:
    """Return the frame of `tile` in pixels of the plane."""
    (height, width), (zoom_y, zoom_x) = frame_shape(model, tile), tile.zoom_yx
    return (tile.y0, tile.x0, tile.y0 + height / zoom_y, tile.x0 + width / zoom_x)


def to_plane(extent: Extent, shape: tuple[int, ...], window_yxyx: Extent) -> Extent:
    """Map an extent in low-resolution pixels of `shape` (h, w) over a window to pixels of the plane."""
    top, left, bottom, right = window_yxyx
    step_y, step_x = (bottom - top) / shape[0], (right - left) / shape[1]
    y0, x0, y1, x1 = extent
    return (top + y0 * step_y, left + x0 * step_x, top + y1 * step_y, left + x1 * step_x)


@torch.inference_mode()
def encode(model: Sam, part: NDArray[np.uint8], tile: Tile, where: Extent | None = None) -> Features:
    """Resize, normalise, pad and encode what is seen of `tile`.

    Parameters
    ----------
    model
        The network.
    part
        (h, w, 3) uint8, at the plane's resolution or coarser.
    tile
        Says what size it gets.
    where
        The rectangle of `part` that shows the tile, (y0, x0, y1, x1) in pixels; all of it by default.
    """
    height, width = tile.input_hw
    full = (0, 0, *part.shape[:2])
    y0, x0, y1, x1 = where or full
    if part.shape[:2] != tile.input_hw or (y0, x0, y1, x1) != full:
        resized = Image.fromarray(part).resize(
            (width, height), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)
        )
        part = np.asarray(resized)
    image = torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1))).to(model.device).float()[None]
    image = model.normalise(image)
    full_height, full_width = frame_shape(model, tile)
    padding = (0, full_width - width, 0, full_height - height)
    if any(padding):
        # Reference networks were trained on zeros beside the image, nano on images that fill the frame.
        image = F.pad(image, padding, mode="replicate") if model.native_tiles else F.pad(image, padding)
    return model.encode(image)


def points(prompts: list[Prompts], tile: Tile, model: Sam) -> tuple[Tensor, Tensor] | None:
    """Return coordinates (B, N, 2) as (x, y) in network pixels and labels (B, N); None without points."""
    if not len(prompts[0].points_yx):
        return None
    # The middle of a pixel stays its middle where nano enlarges the plane; the reference networks were
    # trained on coordinates that are only multiplied.
    middle = 0.5 if model.native_tiles else 0.0
    coords = np.stack([_to_network(p.points_yx + middle, tile) - middle for p in prompts]).astype(np.float32)
    labels = np.stack([p.labels for p in prompts])
    return torch.from_numpy(coords).to(model.device), torch.from_numpy(labels).to(model.device)


def boxes(prompts: list[Prompts], tile: Tile, device: torch.device) -> Tensor | None:
    """Return boxes (B, 4) as (x0, y0, x1, y1) in network pixels; None without boxes."""
    if prompts[0].box_yxyx is None:
        return None
    corners = np.array([p.box_yxyx for p in prompts], np.float64).reshape(-1, 2, 2)
    return torch.from_numpy(_to_network(corners, tile).reshape(-1, 4)).to(device)


def _to_network(points_yx: NDArray[np.floating], tile: Tile) -> NDArray[np.float32]:
    moved = (np.asarray(points_yx, np.float64) - (tile.y0, tile.x0)) * tile.zoom_yx
    return moved[..., ::-1].astype(np.float32)


def resize_mask(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Bring a (H, W) bool mask to another size, with a smooth outline."""
    part = torch.from_numpy(mask.astype(np.float32))[None, None]
    grown: NDArray[np.float32] = F.interpolate(part, shape, mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()
    return grown > 0.5


def mask_to_logits(
    mask: NDArray[np.bool_], tile: Tile, window_yxyx: Extent, low_res: tuple[int, int]
) -> NDArray[np.float32]:
    """Turn a (H, W) bool mask of the plane into the (h, w) dense prompt of a tile."""
    top, left, bottom, right = window_yxyx
    part = torch.from_numpy(mask[tile.y0 : tile.y1, tile.x0 : tile.x1].astype(np.float32))[None, None]
    height, width = (
        max(1, round(n * size / span))
        for n, size, span in zip(tile.shape, low_res, (bottom - top, right - left), strict=True)
    )
    covered = F.interpolate(part, (height, width), mode="bilinear", align_corners=False, antialias=True)
    logits = np.full(low_res, -BOOL_LOGIT, np.float32)
    logits[:height, :width] = (2 * covered[0, 0].numpy() - 1) * BOOL_LOGIT
    return logits


def resample_logits(
    logits: NDArray[np.float32], source: Extent, target: Extent, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Move low-resolution logits from one window to another; outside the source is background."""
    if source == target and logits.shape == shape:
        return np.asarray(logits, np.float32)
    where = []
    for axis in (0, 1):
        step = (target[axis + 2] - target[axis]) / shape[axis]
        plane = target[axis] + (np.arange(shape[axis]) + 0.5) * step
        own = (source[axis + 2] - source[axis]) / logits.shape[axis]
        where.append((plane - source[axis]) / own - 0.5)
    grid = np.meshgrid(*where, indexing="ij")
    moved = ndi.map_coordinates(logits, grid, order=1, mode="constant", cval=-BOOL_LOGIT)
    return np.asarray(moved, np.float32)


def upscale(model: Sam, logits: Tensor, tile: Tile) -> Tensor:
    """Bring low-resolution logits (B, M, h, w) to the size of the tile on the plane."""
    if not model.native_tiles:
        return _upscale_by_way_of_the_input(logits, model.image_size, tile)
    # One bilinear step from logits to plane; sampling positions agree with the resize in `encode`.
    rows, columns = (
        _sampling(n, zoom / LOW_RES_PX, size, logits.device)
        for n, zoom, size in zip(tile.shape, tile.zoom_yx, logits.shape[-2:], strict=True)
    )
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
    return F.grid_sample(
        logits.contiguous(),
        grid.expand(len(logits), -1, -1, -1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )


def _sampling(count: int, zoom: float, size: int, device: torch.device) -> Tensor:
    """Return where `count` pixels lie on `size` low-resolution ones, for `grid_sample`: -1 to 1."""
    places = ((torch.arange(count, device=device) + 0.5) * zoom) * 2 / size - 1
    # Not beyond the middle of the outermost pixels: that is padding by the border, which MPS lacks.
    return places.float().clamp(1 / size - 1, 1 - 1 / size)


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
