"""Contrast limits of a whole channel from a bounded, deterministic sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.volumes.arrays import Index, LazyArray, chunk_side, read_block
from src_core.volumes.plane import Limits

PERCENTILES = (0.5, 99.8)
MAX_BLOCKS = 64
UNCHUNKED_TILE_PX = 256
MAX_PIXELS_PER_BLOCK = 2**16
MIN_LEVEL_PIXELS = 2**16


def estimate_limits(array: LazyArray, axes: Sequence[str], channel: int | None, where: str) -> Limits:
    """Percentiles of at most 64 blocks spread evenly over `array`, each within one chunk.

    Parameters
    ----------
    array
        The level to sample.
    axes
        Its axis names.
    channel
        The index along c; None to sample all of c together.
    where
        How to name the image in errors.

    Returns
    -------
    (low, high) with low < high, finite. NaN and infinities are ignored; (v, v + 1) for a constant image.

    Raises
    ------
    VolumeError
        Not one of the sampled blocks can be read.
    """
    if array.dtype.kind == "b":
        return (0.0, 1.0)
    samples: list[NDArray[np.float64]] = []
    failure: VolumeError | None = None
    for index in sample_blocks(array, axes, channel):
        try:
            values = read_block(array, index, where).ravel().astype(np.float64)
        except VolumeError as error:  # one damaged chunk must not make the good planes unreadable
            failure = error
            continue
        samples.append(values[np.isfinite(values)])
    if failure is not None and not samples:
        raise failure
    values = np.concatenate(samples)
    if not values.size:
        return (0.0, 1.0)
    low, high = (float(v) for v in np.percentile(values, PERCENTILES))
    if not low < high:  # a few bright spots on an empty background
        low, high = float(values.min()), float(values.max())
    if not low < high:
        high = max(low + 1.0, math.nextafter(low, math.inf))
    return (low, high)


def sampled_level(arrays: Sequence[LazyArray], axes: Sequence[str]) -> LazyArray:
    """Return the coarsest level that still has enough pixels per channel and time point."""
    for array in reversed(arrays):
        pixels = math.prod(n for a, n in zip(axes, array.shape, strict=True) if a not in "tc")
        if pixels >= MIN_LEVEL_PIXELS:
            return array
    return arrays[0]


def sample_blocks(
    array: LazyArray, axes: Sequence[str], channel: int | None, sides: Sequence[int] | None = None
) -> Iterator[Index]:
    """Yield at most 64 indices, one block each, spread over all axes of an array.

    The blocks are on a grid of these sides, one number per axis; by default on the grid of the array's chunks.
    """
    steps = sides or block_sides(array, axes, channel)
    counts = [
        1 if axis == "c" and channel is not None else math.ceil(n / step)
        for axis, n, step in zip(axes, array.shape, steps, strict=True)
    ]
    total = math.prod(counts)
    if total <= MAX_BLOCKS:
        positions = [tuple(int(p) for p in np.unravel_index(i, counts)) for i in range(total)]
    else:
        positions = sorted(set(_spread(counts)))
    sampled = math.prod(s for a, s in zip(axes, steps, strict=True) if not (a == "c" and channel is not None))
    # A chunk is decoded whole anyway, so a strided look at all of it beats a close look at its middle.
    stride = math.ceil((sampled / MAX_PIXELS_PER_BLOCK) ** (1 / max(1, sum(s > 1 for s in steps))))
    for position in positions:
        index: list[int | slice] = []
        for axis, p, step, n in zip(axes, position, steps, array.shape, strict=True):
            if axis == "c" and channel is not None:
                index.append(channel)
                continue
            start, stop = p * step, min((p + 1) * step, n)
            index.append(slice(start + min(stride, stop - start) // 2, stop, stride))
        yield tuple(index)


def block_sides(array: LazyArray, axes: Sequence[str], channel: int | None) -> list[int]:
    """Return how long the blocks of `sample_blocks` are along every axis, those at the end aside."""
    return [_block_side(array, d, axis, channel) for d, axis in enumerate(axes)]


def _spread(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    # Roberts' R sequence: quasi-random points that fill a box of any dimension evenly.
    dims = [d for d, n in enumerate(counts) if n > 1]
    root = 2.0
    for _ in range(32):
        root = (1.0 + root) ** (1.0 / (len(dims) + 1))
    for k in range(MAX_BLOCKS):
        position = [0] * len(counts)
        for power, d in enumerate(dims, start=1):
            position[d] = int((0.5 + k * root**-power) % 1.0 * counts[d])
        yield tuple(position)


def _block_side(array: LazyArray, dimension: int, axis: str, channel: int | None) -> int:
    size = array.shape[dimension]
    side = chunk_side(array, dimension)
    if side <= 0:  # unchunked: pretend to thin tiles
        side = UNCHUNKED_TILE_PX if axis in "yx" else (size if axis == "c" and channel is None else 1)
    return min(side, size)
