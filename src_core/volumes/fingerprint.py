"""Tell one image from another without reading all of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import xxhash

from src_core.errors import VolumeError
from src_core.volumes.arrays import read_block
from src_core.volumes.contrast import block_sides, sample_blocks
from src_core.volumes.volume import Volume

SAMPLE_EVERY = 4
"""Of the at most 64 blocks spread over an image, every fourth is part of its fingerprint."""
SIDE_PX = 512
"""How long and wide the blocks are: large enough to hold something, of few chunks in most images."""


def data_fingerprint(volume: Volume, grid: Sequence[int] | None = None) -> str:
    """Fingerprint an image by its shape, dtype, level and at most 16 blocks spread over it.

    An edit that none of the blocks shows is found by the digest that is kept with every plane.

    Parameters
    ----------
    volume
        The image.
    grid
        From `fingerprint_grid` or `chunk_grid`, when the fingerprint was taken with which this one is compared.
        By default that of `fingerprint_grid`: the same pixels have one fingerprint in whatever chunks they are.
    """
    array = volume.array
    digest = xxhash.xxh128(repr((volume.axes, volume.shape, str(volume.dtype), volume.level)).encode())
    blocks = sample_blocks(array, volume.axes, None, grid or fingerprint_grid(volume))
    for index in itertools.islice(blocks, 0, None, SAMPLE_EVERY):
        try:
            digest.update(np.ascontiguousarray(read_block(array, index, volume.name)).tobytes())
        except VolumeError:  # one damaged chunk must not make the good planes useless
            digest.update(b"damaged")
    return digest.hexdigest()


def fingerprint_grid(volume: Volume) -> list[int]:
    """Return how long the blocks are that `data_fingerprint` looks at, one number per axis: pieces of planes."""
    return [min(n, SIDE_PX if a in "yx" else 1) for a, n in zip(volume.axes, volume.shape, strict=True)]


def chunk_grid(volume: Volume) -> list[int]:
    """Return the sides of the image's chunks, which were the blocks of fingerprints that name no grid."""
    return block_sides(volume.array, volume.axes, None)
