"""What the image encoder makes of one plane, kept by whoever asks about it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from src_core import frames
from src_core.errors import PromptError
from src_core.model.sam import Features, Sam
from src_core.tiles import Extent
from src_core.tiling import Tiling
from src_core.volumes import Plane


class Embedding:
    """What the image encoder makes of a plane, tile by tile, each when it is first needed.

    Parameters
    ----------
    picture
        What the network sees of the plane, (H, W, 3) uint8, or the plane, of which each tile then reads its
        part when it is encoded.
    tiles
        The rectangles the plane is seen through; the first shows all of it.
    model
        The network that looks at it; None if whoever answers prompts about it needs none.

    Attributes
    ----------
    shape
        (H, W) of the plane in pixels.
    grown
        Called after a tile has been encoded: the embedding then takes more memory.
    """

    def __init__(
        self,
        picture: NDArray[np.uint8] | Plane,
        tiles: Tiling,
        model: Sam | None = None,
    ) -> None:
        self.shape: tuple[int, int] = tiles[0].shape
        self.tiles = tiles
        self.model = model
        self.grown: Callable[[], None] | None = None
        self._picture = picture
        self._features: OrderedDict[int, Features] = OrderedDict()
        self._lock = threading.Lock()
        # Counted, not summed up when asked: whoever asks must not wait for a tile that is being encoded.
        self._feature_bytes = 0

    @property
    def picture(self) -> NDArray[np.uint8]:
        """What the network sees of the plane, (H, W, 3)."""
        return self._picture.rgb8() if isinstance(self._picture, Plane) else self._picture

    @property
    def nbytes(self) -> int:
        """Memory of the tiles encoded so far, and of the pixels that are kept for further ones."""
        return self._feature_bytes + self._picture.nbytes

    def features(self, index: int) -> Features:
        """Return the features of tile `index`, encoding it if nobody has asked before.

        Raises
        ------
        PromptError
            The embedding was made without a network.
        """
        with self._lock:
            if index in self._features:
                self._features.move_to_end(index)
                return self._features[index]
            features = self._features[index] = self._encode(index)
            self._feature_bytes += sum(f.nbytes for f in features)
        if self.grown is not None:
            self.grown()
        return features

    @torch.inference_mode()
    def seeds(self, index: int) -> NDArray[np.float64] | None:
        """Return (N, 2) points of the plane, one in each object the network sees on tile `index`, surest first.

        None if it cannot tell without being asked.
        """
        found = None if self.model is None else self.model.seeds(self.features(index))
        if found is None:
            return None
        tile = self.tiles[index]
        yx = found.cpu().numpy()[:, ::-1].astype(np.float64) / tile.zoom_yx + (tile.y0, tile.x0) - 0.5
        return np.asarray(yx[(yx < np.array((tile.y1, tile.x1)) - 0.5).all(1)])

    def has(self, index: int) -> bool:
        """Whether tile `index` is encoded; it never waits for one that is being encoded."""
        return index in self._features

    def shrink(self, max_bytes: int) -> None:
        """Forget tiles, the least recently used first, until `max_bytes` are enough; the latest one stays."""
        with self._lock:
            while len(self._features) > 1 and self.nbytes > max_bytes:
                _, features = self._features.popitem(last=False)
                self._feature_bytes -= sum(f.nbytes for f in features)

    def _encode(self, index: int) -> Features:
        return self._look(index, *self._part(index))

    def _part(self, index: int) -> tuple[NDArray[np.uint8], Extent | None]:
        """Return a picture that holds a tile, and where in it; None for all of it."""
        tile = self.tiles[index]
        if isinstance(self._picture, Plane):
            return self._picture.rgb8_part(tile.box, tile.input_hw)
        return self._picture[tile.y0 : tile.y1, tile.x0 : tile.x1], None

    def _look(self, index: int, part: NDArray[np.uint8], where: Extent | None) -> Features:
        if self.model is None:
            raise PromptError("this embedding has no network to look at it; use Predictor.embed")
        return frames.encode(self.model, part, self.tiles[index], where)
