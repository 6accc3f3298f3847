"""Embeddings of one volume kept in memory, the least recently used given up first."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

from src_core.embedding import Embedding
from src_core.embeddings.store import EmbeddingStore
from src_core.predictor import Predictor
from src_core.questions import expected
from src_core.tiles import View
from src_core.types import PlaneRef
from src_core.volumes import Volume

DEFAULT_BYTES = 768 * 2**20


class EmbeddingCache:
    """Embeds a volume's planes when they are first asked for.

    Parameters
    ----------
    predictor
        The network, or a function that loads it, called when the first plane is asked for.
    volume
        The image. Another image, contrast or network needs another cache.
    channel
        The channel to look at.
    max_bytes
        Embeddings beyond it are forgotten, oldest use first, also when tiles are encoded later; the latest
        one stays, with at least its latest tile.
    store
        Opens the store on disk that is asked before the network, called with the first plane; None if there
        is none for this network.
    lazily
        Encode nothing that no prompt has asked for, also of planes that are one tile.
    """

    def __init__(
        self,
        predictor: Predictor | Callable[[], Predictor],
        volume: Volume,
        channel: int | None = None,
        max_bytes: int = DEFAULT_BYTES,
        store: Callable[[Predictor], EmbeddingStore | None] | None = None,
        *,
        lazily: bool = False,
    ) -> None:
        self._predictor, self._lazily = predictor, lazily
        self.volume, self.channel, self.max_bytes = volume, channel, max_bytes
        self._open_store = store
        self.store: EmbeddingStore | None = None
        self._kept: OrderedDict[PlaneRef, Embedding] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def predictor(self) -> Predictor:
        """The network; loads it if need be."""
        if not isinstance(self._predictor, Predictor):
            self._predictor = self._predictor()
        return self._predictor

    def get(self, plane: PlaneRef) -> Embedding:
        """Return the embedding of a plane, computing it if it is not there; call it from the worker.

        Of a plane with several tiles none is computed yet: nobody knows which the first click will need.
        """
        with self._lock:
            if plane in self._kept:
                self._kept.move_to_end(plane)
                return self._kept[plane]
        embedding = self._embed(plane)
        with self._lock:
            self._kept[plane] = embedding
        trim = weakref.WeakMethod(self._trim)  # whoever gives up the cache gets its memory back at once

        def grown() -> None:
            if (still := trim()) is not None:
                still()

        embedding.grown = grown
        self._trim()
        return embedding

    def touch(self, plane: PlaneRef) -> None:
        """Count a plane as just used, if it is there, so that others are given up before it."""
        with self._lock:
            if plane in self._kept:
                self._kept.move_to_end(plane)

    def _embed(self, plane: PlaneRef) -> Embedding:
        if self._open_store is not None:
            self.store, self._open_store = self._open_store(self.predictor), None
        if self.store is not None:
            embedding = self.store.get(plane)
            if embedding.tiles.overview_suffices and not self._lazily:
                embedding.features(0)
            return embedding
        return self.predictor.embed(self.volume.plane_at(plane, self.channel), lazily=self._lazily)

    def __contains__(self, plane: PlaneRef) -> bool:
        with self._lock:
            return plane in self._kept

    def expected(self, plane: PlaneRef, view: View | None = None) -> tuple[int, ...]:
        """Return the tiles of a plane that the next click within `view`, by default all of it, may need.

        The most likely come first. Call it from the worker, as the network may have to be loaded.
        """
        return _expected(self.get(plane), view)

    def ready(self, axis: str | None, t: int = 0, view: View | None = None) -> dict[int, float]:
        """Return how well planes are prepared for a click: index along `axis` -> share of the tiles in view.

        Planes of which nothing in view has been encoded are left out.
        """
        with self._lock:
            kept = {p.index: e for p, e in self._kept.items() if p.axis == axis and p.t == t}
        tiles = _expected(next(iter(kept.values())), view) if kept else ()
        shares = {i: sum(e.has(tile) for tile in tiles) / len(tiles) for i, e in kept.items()}
        return {i: share for i, share in shares.items() if share}

    def _trim(self) -> None:
        with self._lock:
            while len(self._kept) > 1 and sum(e.nbytes for e in self._kept.values()) > self.max_bytes:
                _, forgotten = self._kept.popitem(last=False)
                forgotten.grown = None
            kept = list(self._kept.values())
        # Not under the lock: the window asks what is ready, and must not wait for a tile being encoded.
        if len(kept) == 1 and kept[0].nbytes > self.max_bytes:
            kept[0].shrink(self.max_bytes)


def _expected(embedding: Embedding, view: View | None) -> tuple[int, ...]:
    height, width = embedding.shape
    return expected(embedding.tiles, view or View((0, 0, height, width), (height / 2, width / 2)))
