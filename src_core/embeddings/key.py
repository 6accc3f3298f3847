"""What an embedding on disk was made from: image, weights, axis, channel, contrast and tiling."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xxhash

from src_core import frames
from src_core.errors import VolumeError
from src_core.model.sam import Sam
from src_core.tiling import Tiling
from src_core.volumes import Volume
from src_core.volumes.arrays import read_block
from src_core.volumes.contrast import sample_blocks

VERSION = 2
"""Of the layout and of how a plane becomes network input: raise it when either changes."""
SAMPLE_EVERY = 4
"""Of the at most 64 blocks spread over an image, every fourth is part of its fingerprint."""


@dataclass(frozen=True)
class StoreKey:
    """Everything that decides which embeddings may share a folder.

    Attributes
    ----------
    data
        Fingerprint of the image, see `data_fingerprint`.
    weights
        Fingerprint of the network.
    axis, t, channel
        Which planes.
    contrast
        (low, high) shown as black and white.
    tiling
        Fingerprint of the tiles and of their size as network input.
    version
        See `VERSION`.
    """

    data: str
    weights: str
    axis: str | None
    t: int
    channel: int
    contrast: tuple[float, float]
    tiling: str
    version: int = VERSION

    @property
    def name(self) -> str:
        """The folder's name: xxh128 of all of it as 32 hexadecimal digits."""
        return xxhash.xxh128(repr(sorted(self.described().items())).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"contrast": list(self.contrast)}


def data_fingerprint(volume: Volume) -> str:
    """Fingerprint an image by its shape, dtype, level and at most 16 blocks spread over it.

    An edit that none of the blocks shows is found by the digest that is kept with every plane.
    """
    array = volume.array
    digest = xxhash.xxh128(repr((volume.axes, volume.shape, str(volume.dtype), volume.level)).encode())
    for index in itertools.islice(sample_blocks(array, volume.axes, None), 0, None, SAMPLE_EVERY):
        try:
            digest.update(np.ascontiguousarray(read_block(array, index, volume.name)).tobytes())
        except VolumeError:  # one damaged chunk must not make the good planes useless
            digest.update(b"damaged")
    return digest.hexdigest()


def tiling_fingerprint(model: Sam, tiles: Tiling) -> str:
    """Fingerprint how a plane is cut up and what each tile becomes as network input."""
    cut = (model.native_tiles, frames.frame_shape(model, tiles.overview), tiles)
    return xxhash.xxh128(repr(cut).encode()).hexdigest()
