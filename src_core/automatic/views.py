"""What automatic points are asked through: windows of a plane small enough that a decoder call is cheap.

The only place that knows how a plane is cut. A network with native tiles decodes any part of a tile's features, at a
cost in proportion to the part, and was trained on parts; others see the whole plane at every call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from src_core import frames
from src_core.asking import BATCH
from src_core.automatic.records import stability
from src_core.embedding import Embedding
from src_core.masks import PackedMask, bounds
from src_core.model.nano_encoder import STRIDE_PX
from src_core.model.sam import Features, Sam
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.tiles import Extent, Tile
from src_core.tiling import Tiling
from src_core.types import Candidates

WINDOWS_PX = (128, 256)
"""Sides of windows in network pixels, smallest first: an object that one cuts is asked about in the next."""
ROOM_PX = 8
"""A box is asked about through a window that shows so many network pixels around it."""
BATCH_BYTES = 2**27
"""Masks of whole planes that are in memory at a time."""

Places = NDArray[np.float64]
"""Where to ask: (N, 2) points of a plane, or (N, 4) boxes (y0, x0, y1, x1)."""


@dataclass(frozen=True, eq=False)
class Found:
    """One candidate: its mask, what the network thinks of it, and whether the window's border cuts it.

    `probability` is that of each pixel of a box around the mask, (h, w) from `corner_yx` of the plane on.
    """

    mask: PackedMask
    area: int
    score: float
    stability: float
    cut: bool
    logits: NDArray[np.float32]
    corner_yx: tuple[int, int]

    @property
    def probability(self) -> NDArray[np.float32]:
        """How likely each pixel is inside, 0 to 1."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.logits, -30, 30))), np.float32)


class WindowEmbedding(Embedding):
    """A part of a tile's embedding that looks to a predictor like the embedding of a small plane.

    Its pixels are network pixels. `rows` and `columns` are in steps of the tile's features.
    """

    def __init__(self, parent: Embedding, index: int, rows: slice, columns: slice) -> None:
        height, width = ((s.stop - s.start) * STRIDE_PX for s in (rows, columns))
        tile = Tile(0, 0, height, width, (height, width))
        super().__init__(np.zeros((0, 0, 3), np.uint8), Tiling(tile), parent.model)
        self._parent, self._index, self._rows, self._columns = parent, index, rows, columns

    def _encode(self, index: int) -> Features:
        whole = self._parent.features(self._index)
        coarsest = whole[0].shape[-2]
        parts = []
        for feature in whole:
            scale = feature.shape[-2] // coarsest
            rows, columns = (slice(s.start * scale, s.stop * scale) for s in (self._rows, self._columns))
            parts.append(feature[..., rows, columns].contiguous())
        return tuple(parts)


class Window:
    """A rectangle of one tile through which points are asked about."""

    def __init__(self, parent: Embedding, index: int, rows: slice, columns: slice) -> None:
        tile = parent.tiles[index]
        self.parent, self.index, self.rows, self.columns = parent, index, rows, columns
        zoom_y, zoom_x = tile.zoom_yx
        steps = (rows.start / zoom_y, columns.start / zoom_x, rows.stop / zoom_y, columns.stop / zoom_x)
        y0, x0, y1, x1 = (n * STRIDE_PX for n in steps)
        self.extent: Extent = (tile.y0 + y0, tile.x0 + x0, tile.y0 + y1, tile.x0 + x1)
        self.zoom_yx = tile.zoom_yx

    def ask(self, predictor: Predictor, places: Places) -> Iterator[list[Found]]:
        """Yield what is found at each of some places of the plane, best first."""
        embedding = WindowEmbedding(self.parent, self.index, self.rows, self.columns)
        corner, zoom = self.extent[:2], self.zoom_yx
        points = places.shape[1] == 2
        if points:
            prompts = [Prompts([point]) for point in (places + 0.5 - corner) * zoom - 0.5]
        else:
            prompts = [Prompts(box_yxyx=box) for box in (places - (corner * 2)) * (zoom * 2)]
        for candidates in predictor.predict_many(embedding, prompts, multimask=points, beside=False):
            yield [f for k in range(len(candidates)) if (f := self._found(candidates, k)) is not None]

    def _found(self, candidates: Candidates, k: int) -> Found | None:
        found = _on_plane(candidates, k, self.extent, self.parent.shape)
        if found is None:
            return None
        logits = candidates.logits[k]
        return replace(found, cut=self._cuts(bounds(logits > 0), logits.shape))

    def _cuts(self, seen: tuple[int, int, int, int], shape: tuple[int, ...]) -> bool:
        """Say whether a mask reaches a border of the window beyond which the plane goes on."""
        reaches = (seen[0] < 1, seen[1] < 1, seen[2] > shape[0] - 1, seen[3] > shape[1] - 1)
        y0, x0, y1, x1 = self.extent
        height, width = self.parent.shape
        inner = (y0 > 0.5, x0 > 0.5, y1 < height - 0.5, x1 < width - 0.5)
        return any(r and i for r, i in zip(reaches, inner, strict=True))


class WholePlane:
    """All of the plane, through whichever tile the predictor takes: for networks without windows, and large objects."""

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding

    def ask(self, predictor: Predictor, places: Places) -> Iterator[list[Found]]:
        """Yield what is found at each of some places of the plane, best first."""
        height, width = self.embedding.shape
        step = int(np.clip(BATCH_BYTES // (3 * height * width), 1, BATCH))
        points = places.shape[1] == 2
        for start in range(0, len(places), step):
            part = places[start : start + step]
            prompts = [Prompts([place]) if points else Prompts(box_yxyx=place) for place in part]
            # Boxes are those of masks, and leave no room.
            for candidates in predictor.predict_many(
                self.embedding, prompts, multimask=points, beside=points
            ):
                found = (
                    _on_plane(candidates, k, candidates.window, self.embedding.shape)
                    for k in range(len(candidates))
                )
                yield [f for f in found if f is not None]


View = Window | WholePlane


def _on_plane(candidates: Candidates, k: int, window: Extent, shape: tuple[int, int]) -> Found | None:
    """Bring one candidate's logits over a window to the plane, where the mask is; None if it is empty."""
    logits = candidates.logits[k]
    if not (logits > 0).any():
        return None
    y0, x0, y1, x1 = frames.to_plane(bounds(logits > 0), logits.shape, window)
    # Two pixels more than the logits say: the outline is where they are interpolated to zero.
    top, left = max(int(y0) - 2, 0), max(int(x0) - 2, 0)
    bottom, right = min(int(y1) + 3, shape[0]), min(int(x1) + 3, shape[1])
    if top >= bottom or left >= right:  # in the padding beyond the plane
        return None
    box = (float(top), float(left), float(bottom), float(right))
    here = frames.resample_logits(logits, window, box, (bottom - top, right - left))
    mask = here > 0
    if not mask.any():
        return None
    packed = PackedMask.of(mask, (top, left), shape)
    score = float(np.clip(candidates.scores[k] * candidates.presence, 0, 1))
    return Found(packed, int(mask.sum()), score, stability(logits), False, here, (top, left))


class Levels:
    """The views of a plane, from the smallest windows to all of it.

    Parameters
    ----------
    predictor, embedding
        The network, and what it has made of the plane.
    """

    def __init__(self, predictor: Predictor, embedding: Embedding) -> None:
        self.embedding = embedding
        self._levels: list[list[Window]] = []
        if predictor.model.native_tiles:
            self._levels = [
                [
                    w
                    for index in embedding.tiles.native
                    for w in _windows(embedding, index, predictor.model, side)
                ]
                for side in WINDOWS_PX
            ]

    def __len__(self) -> int:
        return len(self._levels) + 1

    def split(self, level: int, places: Places) -> Iterator[tuple[View, NDArray[np.intp]]]:
        """Yield the views of a level with the indices of the places that each shows best."""
        if level == len(self._levels):
            yield WholePlane(self.embedding), np.arange(len(places))
            return
        best, _ = self._best(level, places)
        for k in np.unique(best):
            yield self._levels[level][k], np.flatnonzero(best == k)

    def fitting(self, boxes: Places) -> NDArray[np.intp]:
        """Return for each of (N, 4) boxes the first level that shows it with some room around it."""
        levels = np.full(len(boxes), len(self._levels))
        for level in reversed(range(len(self._levels))):
            levels[self._best(level, boxes)[1] >= ROOM_PX] = level
        return levels

    def _best(self, level: int, places: Places) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return which window of a level shows each place best, and how many network pixels are free around it."""
        windows = self._levels[level]
        extents = np.array([w.extent for w in windows])
        height, width = self.embedding.shape
        # A border of the plane cuts nothing.
        low = np.where(extents[:, :2] <= 0.5, -np.inf, extents[:, :2])
        high = np.where(extents[:, 2:] >= np.array([height, width]) - 0.5, np.inf, extents[:, 2:])
        zoom = np.array([w.zoom_yx[0] for w in windows])
        rooms = [np.minimum(p[:2] - low, high - p[-2:]).min(1) * zoom for p in places]
        best = np.array([room.argmax() for room in rooms], np.intp)
        return best, np.array([room.max() for room in rooms], np.float64)


def _windows(embedding: Embedding, index: int, model: Sam, side_px: int) -> Iterator[Window]:
    """Cut a tile into windows that overlap by half."""
    shape = frames.frame_shape(model, embedding.tiles[index])
    spans = [_spans(n // STRIDE_PX, side_px // STRIDE_PX) for n in shape]
    for rows in spans[0]:
        for columns in spans[1]:
            yield Window(embedding, index, rows, columns)


def _spans(count: int, size: int) -> list[slice]:
    if count <= size:
        return [slice(0, count)]
    n = int(np.ceil((count - size) / (size / 2))) + 1
    starts = np.rint(np.linspace(0, count - size, n)).astype(int)
    return [slice(int(s), int(s) + size) for s in starts]
