"""Between a plane's pixels and the network's: every resize and every change of coordinates.

A plane is (row, column), y before x, with the centre of its first pixel at (0, 0). The network wants (x, y)
in pixels of its square input, into which the plane is resized by its longest side and padded at the bottom
and right (paper, appendix A, "Image encoder"). SAM's (x, y) exists in this module only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from src_core.errors import VolumeError


def resized_shape(shape_hw: tuple[int, int], size: int) -> tuple[int, int]:
    """Return the (height, width) of a plane of `shape_hw` after its longest side became `size`."""
    height, width = shape_hw
    scale = size / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def resize_longest(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize an image so that its longest side is `size`, with an antialiased bilinear filter.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    size
        Longest side of the result in pixels.

    Returns
    -------
    ndarray
        (h, w, 3) uint8, max(h, w) = `size`.

    Raises
    ------
    VolumeError
        The image is not (H, W, 3) uint8, or empty.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise VolumeError(f"expected a (H, W, 3) uint8 image, got {image.dtype} of shape {image.shape}")
    height, width = resized_shape(image.shape[:2], size)
    if (height, width) == image.shape[:2]:
        return image
    # on uint8, as the networks were trained: the rounding between the two passes of the filter counts
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def to_network_input(
    image: NDArray[np.uint8], size: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[Tensor, tuple[int, int]]:
    """Resize, normalise and pad an image to the network's square input.

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    size
        Side of the network's input in pixels.
    mean, std
        Per channel, in pixel values 0 to 255.

    Returns
    -------
    tuple
        (1, 3, size, size) float32 on the CPU, zero where padded; (height, width) of the resized image in it.

    Raises
    ------
    VolumeError
        The image is not (H, W, 3) uint8, or empty.
    """
    resized = resize_longest(image, size)
    height, width = resized.shape[:2]
    out = np.zeros((1, 3, size, size), np.float32)
    target = out[0, :, :height, :width]
    np.subtract(resized.transpose(2, 0, 1), np.asarray(mean, np.float32)[:, None, None], out=target)
    np.divide(target, np.asarray(std, np.float32)[:, None, None], out=target)
    return torch.from_numpy(out), (height, width)


def points_to_network(points_yx: ArrayLike, shape_hw: tuple[int, int], size: int) -> NDArray[np.float32]:
    """Map points of a plane to network pixels.

    Parameters
    ----------
    points_yx
        (..., 2) as (row, column) in pixels of the plane.
    shape_hw
        (height, width) of the plane.
    size
        Side of the network's input in pixels.

    Returns
    -------
    ndarray
        (..., 2) float32 as (x, y).
    """
    points = np.asarray(points_yx, np.float64)
    return (points * _scale(shape_hw, size))[..., ::-1].astype(np.float32)


def points_from_network(points_xy: ArrayLike, shape_hw: tuple[int, int], size: int) -> NDArray[np.float32]:
    """Map (..., 2) network points (x, y) back to (row, column) of the plane: undoes `points_to_network`."""
    points = np.asarray(points_xy, np.float64)[..., ::-1]
    return (points / _scale(shape_hw, size)).astype(np.float32)


def box_to_network(box_yxyx: ArrayLike, shape_hw: tuple[int, int], size: int) -> NDArray[np.float32]:
    """Map boxes (..., 4) as (y0, x0, y1, x1) on the plane to (x0, y0, x1, y1) in network pixels."""
    boxes = np.asarray(box_yxyx, np.float64)
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
    return points_to_network(corners, shape_hw, size).reshape(boxes.shape)


def _scale(shape_hw: tuple[int, int], size: int) -> NDArray[np.float64]:
    return np.divide(resized_shape(shape_hw, size), shape_hw)


def upscale_logits(
    low_res: Tensor, network_size: int, input_hw: tuple[int, int], original_hw: tuple[int, int]
) -> Tensor:
    """Bring low-resolution logits to the size of the plane.

    Bilinear to the network's input, without the padding, then bilinear to the plane; only rows and columns
    that are not padding are computed.

    Parameters
    ----------
    low_res
        (B, M, h, w) float logits over the whole network input.
    network_size
        Side of the network's input in pixels.
    input_hw
        (height, width) of the resized plane within the input.
    original_hw
        (height, width) of the plane.

    Returns
    -------
    Tensor
        (B, M, height, width) logits of the plane.
    """
    step = network_size / low_res.shape[-1]
    # what the last kept pixel interpolates between, and one more so that the border rule does not reach it
    rows, columns = (
        min(math.ceil(n / step) + 2, full) for n, full in zip(input_hw, low_res.shape[-2:], strict=True)
    )
    # one map per batch entry: the kernel for three interleaved channels takes twice as long
    part = low_res[..., :rows, :columns].flatten(0, 1).unsqueeze(1)
    enlarged = (round(rows * step), round(columns * step))
    part = F.interpolate(part, enlarged, mode="bilinear", align_corners=False)
    part = part[..., : input_hw[0], : input_hw[1]]
    if input_hw != original_hw:
        part = F.interpolate(part, original_hw, mode="bilinear", align_corners=False)
    return part.reshape(*low_res.shape[:2], *original_hw)


def downscale_mask(mask: NDArray[Any], network_size: int, low_res_size: int) -> NDArray[np.float32]:
    """Shrink a mask of the plane to the frame of the low-resolution logits.

    Parameters
    ----------
    mask
        (H, W) bool, or float logits of the plane.
    network_size
        Side of the network's input in pixels.
    low_res_size
        Side of the low-resolution logits.

    Returns
    -------
    ndarray
        (low_res_size, low_res_size) float32: for a bool mask the covered fraction, 0 to 1; zero where padded.
    """
    height, width = resized_shape((mask.shape[0], mask.shape[1]), network_size)
    inside = tuple(max(1, round(n * low_res_size / network_size)) for n in (height, width))
    plane = torch.from_numpy(np.array(mask, np.float32))[None, None]
    small = F.interpolate(plane, inside, mode="bilinear", align_corners=False, antialias=True)
    out = np.zeros((low_res_size, low_res_size), np.float32)
    out[: inside[0], : inside[1]] = small[0, 0].numpy()
    return out
