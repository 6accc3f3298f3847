"""An embedding that looks on disk before it asks the network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from src_core.embedding import Embedding
from src_core.embeddings.stamps import STAMP_BYTES
from src_core.model.sam import Features, Sam
from src_core.tiling import Tile

DIGEST_BYTES = 16
PROOF_BYTES = DIGEST_BYTES + STAMP_BYTES
"""In front of every tile's features on disk: what they were made from."""


class StoredEmbedding(Embedding):
    """An embedding whose tiles are read back if they are there and were made from the same pixels.

    The proof that goes with a tile is the digest of its pixels as the network sees them, then the stamp of the
    files they came from. A stamp that still holds saves reading the pixels; if it does not, they decide.

    Parameters
    ----------
    picture, tiles, model
        As in `Embedding`.
    stamp
        Returns the stamp of the plane's files, 16 bytes; None if only the pixels can tell.
    load
        Returns proof and features of a tile, None if they are not there.
    keep
        Takes tile, proof and features, for the next time.
    touch
        Is told that a stored tile was used.

    Attributes
    ----------
    made
        The tiles that had to be encoded.
    """

    def __init__(
        self,
        picture: Callable[[], NDArray[np.uint8]],
        tiles: tuple[Tile, ...],
        model: Sam,
        *,
        stamp: Callable[[], bytes | None],
        load: Callable[[int], tuple[bytes, Features] | None],
        keep: Callable[[int, bytes, Features], None],
        touch: Callable[[int], None],
    ) -> None:
        super().__init__(picture, tiles, model)
        self.made: set[int] = set()
        self._stamp, self._load, self._keep, self._touch = stamp, load, keep, touch
        self._stamped: tuple[bytes | None] | None = None

    def _encode(self, index: int) -> Features:
        if self._stamped is None:
            # Once, and before the pixels are read: after an edit in between, the stamp holds for nobody.
            self._stamped = (self._stamp(),)
        (now,) = self._stamped
        found = self._load(index)
        if found is not None:
            proof, features = found
            if now is not None and proof[DIGEST_BYTES:] == now:
                self._touch(index)
                return features
            if proof[:DIGEST_BYTES] == self._digest(index):
                if now is None:
                    self._touch(index)
                else:  # the files were copied or touched: next time their stamp is enough
                    self._keep(index, proof[:DIGEST_BYTES] + now, features)
                return features
        self.made.add(index)
        exact = super()._encode(index)
        features = _rounded(exact)
        if not all(bool(torch.isfinite(f).all()) for f in features):
            return exact  # beyond what float16 holds: nothing that could be kept
        self._keep(index, self._digest(index) + (now or bytes(STAMP_BYTES)), features)
        return features

    def _digest(self, index: int) -> bytes:
        tile = self.tiles[index]
        part = np.ascontiguousarray(self.picture[tile.y0 : tile.y1, tile.x0 : tile.x1])
        return xxhash.xxh128(part.tobytes()).digest()


def _rounded(features: Features) -> Features:
    """Return features as they come back from disk."""
    return tuple(f.to(torch.float16).float() for f in features)
