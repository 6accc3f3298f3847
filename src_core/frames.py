"""Between a tile of a plane and the network's frame: every resize and every change of coordinates.

A plane is (row, column), y before x, with the centre of its first pixel at (0, 0). The network wants (x, y) in
pixels of its frame (paper, appendix A, "Image encoder"); that order exists in this module only.

The frame is the network's input; low-resolution logits cover all of it, padding included. The *window* of a
tile is its frame in pixels of the plane, and may reach beyond the plane where the input is padded.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from torch import Tensor
from torch.nn import functional as F

from src_core.masks import bounds
from src_core.model.nano_encoder import LOW_RES_PX, SIZE_MULTIPLE_PX
from src_core.model.sam import Features, Sam
from src_core.prompts import Prompts
from src_core.tiles import Extent, Tile

BOOL_LOGIT = 6.0
"""What a bool mask becomes as a dense prompt: plus inside, minus outside."""
PRODUCTS = 64
"""Up to so many multiplications per pixel of a tile take no longer than interpolating it."""
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
        place = (plane - source[axis]) / own - 0.5
        # Between the rim of the source and the centre of its outermost pixel there is still that pixel.
        within = (place >= -0.5) & (place <= logits.shape[axis] - 0.5)
        where.append(np.where(within, place.clip(0, logits.shape[axis] - 1), place))
    grid = np.meshgrid(*where, indexing="ij")
    moved = ndi.map_coordinates(logits, grid, order=1, mode="constant", cval=-BOOL_LOGIT)
    return np.asarray(moved, np.float32)


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
    step = LOW_RES[model.native_tiles] / tile.zoom_yx[axis]
    size = low_res_shape(model, tile)[axis]
    # Interpolation reaches less than a pixel far: of the logits, then of the network's input.
    slack = 1.25
    start = max(0, math.floor((inside[0] + 0.5 - slack) * step) - 1)
    stop = min(tile.shape[axis], math.ceil((inside[1] - 0.5 + slack) * step) + 1)
    used = math.floor((start + 0.5) / step - 0.5 - slack), math.ceil((stop - 0.5) / step - 0.5 + slack) + 1
    # Where the plane ends within the padding, its last pixels are those of the rim.
    return (start, max(start, stop)), slice(max(0, min(used[0], size - 1)), min(size, max(used[1], 1)))


def _weights(model: Sam, tile: Tile, axis: int) -> Tensor:
    """Return how the pixels of a tile are made of its low-resolution ones along an axis, (n, size)."""
    shape = (tile.shape[axis], tile.input_hw[axis], low_res_shape(model, tile)[axis])
    return _weights_of(model.native_tiles, *shape)


@functools.lru_cache(8)
def _weights_of(native_tiles: bool, length: int, input_length: int, size: int) -> Tensor:
    """Return the weights (length, size) of an axis; tiles of a plane are alike, and so are those of a stack.

    nano's are interpolated in one step, whose positions agree with the resize in `encode`. The others' are by way of
    the network's input without its padding, as the reference does.
    """
    places = (torch.arange(length, dtype=torch.float64) + 0.5) * (input_length / length) - 0.5
    step = LOW_RES[native_tiles]
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
