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
from src_core.tiles import Extent
from src_core.tiling import Tiling
from src_core.volumes import Plane

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
        Returns the stamp of the plane's files in a pyramid level, 16 bytes; None if only the pixels can tell.
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
        picture: Plane,
        tiles: Tiling,
        model: Sam,
        *,
        stamp: Callable[[int], bytes | None],
        load: Callable[[int], tuple[bytes, Features] | None],
        keep: Callable[[int, bytes, Features], None],
        touch: Callable[[int], None],
    ) -> None:
        super().__init__(picture, tiles, model)
        self.made: set[int] = set()
        self._stamp, self._load, self._keep, self._touch = stamp, load, keep, touch
        self._plane, self._stamps = picture, dict[int, bytes | None]()

    def _encode(self, index: int) -> Features:
        tile = self.tiles[index]
        level = self._plane.reader.level_for(tile.box, tile.input_hw)
        if level not in self._stamps:
            # Once, and before the pixels are read: after an edit in between, the stamp holds for nobody.
            self._stamps[level] = self._stamp(level)
        now = self._stamps[level]
        found = self._load(index)
        if found is not None:
            proof, features = found
            if now is not None and proof[DIGEST_BYTES:] == now:
                self._touch(index)
                return features
        part, where = self._part(index)
        digest = _digest(part, where)
        if found is not None:
            proof, features = found
            if proof[:DIGEST_BYTES] == digest:
                if now is None:
                    self._touch(index)
                else:  # the files were copied or touched: next time their stamp is enough
                    self._keep(index, digest + now, features)
                return features
        self.made.add(index)
        exact = self._look(index, part, where)
        features = _rounded(exact)
        if not all(bool(torch.isfinite(f).all()) for f in features):
            return exact  # beyond what float16 holds: nothing that could be kept
        self._keep(index, digest + (now or bytes(STAMP_BYTES)), features)
        return features


def _digest(part: NDArray[np.uint8], where: Extent | None) -> bytes:
    digest = xxhash.xxh128(repr((part.shape, where)).encode())
    digest.update(np.ascontiguousarray(part).tobytes())
    return digest.digest()


def _rounded(features: Features) -> Features:
    """Return features as they come back from disk."""
    return tuple(f.to(torch.float16).float() for f in features)
