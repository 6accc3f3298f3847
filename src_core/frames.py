"""Between a tile of a plane and the network's frame: changes of coordinates, and resizes but for those of `painting`.

A plane is (row, column), y before x, with the centre of its first pixel at (0, 0). The network wants (x, y) in
pixels of its frame (paper, appendix A, "Image encoder"); that order exists in this module only.

The frame is the network's input; low-resolution logits cover all of it, padding included. The *window* of a
tile is its frame in pixels of the plane, and may reach beyond the plane where the input is padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage as ndi
from torch import Tensor
from torch.nn import functional as F

from src_core.errors import PromptError
from src_core.model.nano_encoder import LOW_RES_PX, SIZE_MULTIPLE_PX
from src_core.model.sam import Features, Sam
from src_core.prompts import Prompts
from src_core.tiles import Extent, Tile
from src_core.tiling import Tiling

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


def points(prompts: Sequence[Prompts], tile: Tile, model: Sam) -> tuple[Tensor, Tensor] | None:
    """Return coordinates (B, N, 2) as (x, y) in network pixels and labels (B, N); None without points."""
    if not len(prompts[0].points_yx):
        return None
    # The middle of a pixel stays its middle where nano enlarges the plane; the reference networks were
    # trained on coordinates that are only multiplied.
    middle = 0.5 if model.native_tiles else 0.0
    coords = np.stack([_to_network(p.points_yx + middle, tile) - middle for p in prompts]).astype(np.float32)
    labels = np.stack([p.labels for p in prompts])
    return torch.from_numpy(coords).to(model.device), torch.from_numpy(labels).to(model.device)


def boxes(prompts: Sequence[Prompts], tile: Tile, device: torch.device) -> Tensor | None:
    """Return boxes (B, 4) as (x0, y0, x1, y1) in network pixels; None without boxes."""
    if prompts[0].box_yxyx is None:
        return None
    corners = np.array([p.box_yxyx for p in prompts], np.float64).reshape(-1, 2, 2)
    return torch.from_numpy(_to_network(corners, tile).reshape(-1, 4)).to(device)


def masks(prompts: Sequence[Prompts], tile: Tile, tiles: Tiling, model: Sam) -> Tensor | None:
    """Return dense prompts (B, 1, h, w), logits over a tile's frame; None without masks.

    Raises
    ------
    PromptError
        Logits come without a window, and the tiles' overview does not tell it; or only some prompts have a mask.
    """
    if prompts[0].mask is None:
        return None
    there, low_res, dense = window(model, tile), low_res_shape(model, tile), []
    for prompt in prompts:
        mask = prompt.mask
        if mask is None:
            raise PromptError("prompts with and without a mask cannot share a batch")
        if mask.dtype == np.bool_:
            dense.append(mask_to_logits(mask, tile, there, low_res))
            continue
        own = prompt.mask_window
        if own is None:
            if not (mask.shape == low_res_shape(model, tiles.overview) and tiles.overview_suffices):
                raise PromptError(
                    f"logits of shape {mask.shape} as mask, but {low_res} over one window expected: pass "
                    "Candidates.logits[k] and mask_window=Candidates.window, or a bool mask of the plane"
                )
            own = window(model, tiles.overview)
        dense.append(resample_logits(mask, own, there, low_res))
    return torch.from_numpy(np.stack(dense)).unsqueeze(1).to(model.device)


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
