"""What an embedding on disk was made from: image, weights, axis, channel, contrast and tiling."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import xxhash

from src_core import frames
from src_core.model.sam import Sam
from src_core.tiling import Tiling

VERSION = 2
"""Of the layout and of how a plane becomes network input: raise it when either changes."""


@dataclass(frozen=True)
class StoreKey:
    """Everything that decides which embeddings may share a folder.

    Attributes
    ----------
    data
        Fingerprint of the image, see `src_core.volumes.fingerprint`.
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


def tiling_fingerprint(model: Sam, tiles: Tiling) -> str:
    """Fingerprint how a plane is cut up and what each tile becomes as network input."""
    cut = (model.native_tiles, frames.frame_shape(model, tiles.overview), tiles)
    return xxhash.xxh128(repr(cut).encode()).hexdigest()
