"""Coordinates and resizes between a plane and the network's input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src_core.errors import VolumeError
from src_core.transforms import (
    box_to_network,
    downscale_mask,
    points_from_network,
    points_to_network,
    resize_longest,
    resized_shape,
    to_network_input,
    upscale_logits,
)
from tests.benchmarks import eager_sam

SHAPES = [(600, 800), (1024, 1024), (17, 1024), (1000, 3), (333, 512), (1, 1), (1500, 2048)]


@pytest.mark.parametrize("shape", SHAPES)
def test_longest_side_fills_the_input(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 77, np.uint8)
    resized = resize_longest(image, 1024)
    assert max(resized.shape) == 1024 and resized.shape[:2] == resized_shape(shape, 1024)
    assert (resized == 77).all()


def test_an_image_of_the_right_size_is_kept() -> None:
    image = np.arange(16 * 8 * 3, dtype=np.uint8).reshape(16, 8, 3)
    assert np.array_equal(resize_longest(image, 16), image)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_images_are_refused_with_what_they_are(image: np.ndarray) -> None:
    with pytest.raises(VolumeError, match=str(image.dtype)):
        resize_longest(image, 16)


def test_input_is_normalised_then_padded_with_zeros() -> None:
    image = np.zeros((10, 20, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    out, input_hw = to_network_input(image, 64, mean=(0, 10, 20), std=(10, 10, 5))
    assert out.shape == (1, 3, 64, 64) and out.dtype == torch.float32 and input_hw == (32, 64)
    assert out[0, :, :32].flatten(1).unique(dim=1).flatten().tolist() == [1, 1, 2]
    assert (out[0, :, 32:] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_points_scale_and_come_back(shape: tuple[int, int]) -> None:
    corner = np.array([[0, 0], [shape[0], shape[1]]], np.float32)
    there = points_to_network(corner, shape, 1024)
    height, width = resized_shape(shape, 1024)
    np.testing.assert_allclose(there, [[0, 0], [width, height]], rtol=1e-6)
    np.testing.assert_allclose(points_from_network(there, shape, 1024), corner, rtol=1e-6)


def test_boxes_swap_axes() -> None:
    assert box_to_network([[10, 20, 30, 40]], (512, 256), 1024).tolist() == [[40, 20, 80, 60]]
    assert box_to_network((1, 2, 3, 4), (8, 8), 8).tolist() == [2, 1, 4, 3]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [256, 1024])
def test_logits_are_enlarged_as_with_the_padding(shape: tuple[int, int], size: int) -> None:
    low = torch.randn(2, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    input_hw = resized_shape(shape, size)
    out = upscale_logits(low, size, input_hw, shape)
    assert out.shape == (2, 3, *shape)
    torch.testing.assert_close(out, eager_sam.upscale(low, size, input_hw, shape), atol=1e-5, rtol=1e-5)


def test_masks_shrink_into_the_frame_of_the_logits() -> None:
    mask = np.zeros((200, 400), bool)
    mask[:, 200:] = True
    small = downscale_mask(mask, 1024, 256)
    assert small.shape == (256, 256) and small.dtype == np.float32
    assert (small[:128, 132:] > 0.999).all() and not small[:128, :124].any() and not small[128:].any()
