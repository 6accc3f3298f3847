"""How a plane is cut into network inputs: whole for the reference networks, native tiles for nano."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Extent = tuple[float, float, float, float]
"""(y0, x0, y1, x1) in pixels of the plane, half-open."""

MAX_ZOOM = 2.0
"""Small planes are enlarged at most this much: beyond it there is nothing more to see."""
OVERLAP_PX = 160
"""Neighbouring tiles share a band this wide, so that an object smaller than it lies whole in one of them."""
MARGIN = 0.05
"""A prompt fits a tile if this fraction of the tile's side is free around it."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of the plane and its size as network input.

    Attributes
    ----------
    y0, x0, y1, x1
        Half-open rectangle in pixels of the plane.
    input_hw
        (height, width) in network pixels, without padding.
    """

    y0: int
    x0: int
    y1: int
    x1: int
    input_hw: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels of the plane."""
        return (self.y1 - self.y0, self.x1 - self.x0)

    @property
    def zoom_yx(self) -> tuple[float, float]:
        """Network pixels per pixel of the plane."""
        return (self.input_hw[0] / self.shape[0], self.input_hw[1] / self.shape[1])


def whole(shape: tuple[int, int], size: int, max_zoom: float = float("inf")) -> Tile:
    """Return the plane as one tile, its longest side `size` network pixels, enlarged at most `max_zoom`."""
    zoom = min(size / max(shape), max_zoom)
    height, width = (max(1, int(n * zoom + 0.5)) for n in shape)
    return Tile(0, 0, *shape, (height, width))


def native(shape: tuple[int, int], size: int) -> tuple[Tile, ...]:
    """Return the overview of a plane, then tiles of `size` pixels at native resolution where it is larger."""
    overview = whole(shape, size, MAX_ZOOM)
    if max(shape) <= size:
        return (overview,)
    spans = [_spans(n, size) for n in shape]
    return (
        overview,
        *(Tile(y0, x0, y1, x1, (y1 - y0, x1 - x0)) for y0, y1 in spans[0] for x0, x1 in spans[1]),
    )


def _spans(length: int, size: int) -> list[tuple[int, int]]:
    if length <= size:
        return [(0, length)]
    count = int(np.ceil((length - OVERLAP_PX) / (size - OVERLAP_PX)))
    starts = np.rint(np.linspace(0, length - size, count)).astype(int)
    return [(int(s), int(s) + size) for s in starts]


def best_tile(tiles: tuple[Tile, ...], extent: Extent) -> int:
    """Return the index of the tile that shows `extent` with most room around it, else of the overview."""
    rooms = [_room(tile, extent, tiles[0]) for tile in tiles[1:]]
    if rooms and max(rooms) > 0:
        return int(np.argmax(rooms)) + 1
    return 0


def cuts(tile: Tile, extent: Extent, plane: Tile) -> bool:
    """Say whether `extent` reaches a border of `tile` beyond which the plane goes on."""
    return _room(tile, extent, plane, margin=0.0) <= 1


def _room(tile: Tile, extent: Extent, plane: Tile, margin: float = MARGIN) -> float:
    """Return the free pixels between `extent` and the nearest border, not counting borders of the plane."""
    y0, x0, y1, x1 = extent
    inf = float("inf")
    free = (
        inf if tile.y0 == plane.y0 else y0 - tile.y0,
        inf if tile.x0 == plane.x0 else x0 - tile.x0,
        inf if tile.y1 == plane.y1 else tile.y1 - y1,
        inf if tile.x1 == plane.x1 else tile.x1 - x1,
    )
    return min(*free, max(tile.shape)) - margin * min(tile.shape)
