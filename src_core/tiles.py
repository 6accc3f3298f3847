"""What a tile is, and grids of overlapping tiles: which of them shows best what a prompt is about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Extent = tuple[float, float, float, float]
"""(y0, x0, y1, x1) in pixels of the plane, half-open."""

MARGIN = 0.05
"""A prompt fits a tile if this fraction of the tile's side is free around it."""
SAMPLES = 8
"""At so many places a tile, at least, is looked which tile shows them best."""
NEAR = 16
"""Of tiles in view, at most so many rows and columns around the focus are considered: a plane may have thousands."""
MAX_STRETCH = 1 / 3
"""Sides of a tile are stretched by at most this much, so that the network need not pad them."""


@dataclass(frozen=True)
class View:
    """What of a plane is looked at.

    Attributes
    ----------
    extent
        (y0, x0, y1, x1) in pixels of the plane.
    focus
        (y, x), where the next click is most likely.
    """

    extent: Extent
    focus: tuple[float, float]


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
    def box(self) -> tuple[int, int, int, int]:
        """(y0, x0, y1, x1) in pixels of the plane."""
        return (self.y0, self.x0, self.y1, self.x1)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels of the plane."""
        return (self.y1 - self.y0, self.x1 - self.x0)

    @property
    def zoom_yx(self) -> tuple[float, float]:
        """Network pixels per pixel of the plane."""
        return (self.input_hw[0] / self.shape[0], self.input_hw[1] / self.shape[1])


@dataclass(frozen=True)
class Grid:
    """Overlapping tiles of one resolution, row by row.

    Attributes
    ----------
    zoom
        Network pixels per pixel of the plane.
    rows, columns
        Where tiles begin and end, in pixels of the plane.
    first
        The index of the first tile among all tiles of the plane.
    multiple
        Of this many network pixels are the sides of a tile, if that takes little.
    """

    zoom: float
    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]
    first: int = 0
    multiple: int = 1

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def tile(self, index: int) -> Tile:
        """Return the tile at a position within the grid."""
        row, column = divmod(index, len(self.columns))
        (y0, y1), (x0, x1) = self.rows[row], self.columns[column]
        height, width = (side_px(n * self.zoom, self.multiple) for n in (y1 - y0, x1 - x0))
        return Tile(y0, x0, y1, x1, (height, width))

    def best(self, extent: Extent) -> tuple[int, float]:
        """Return the tile that shows `extent` with most room around it, and that room less the margin."""
        rooms = [free(spans, extent[d], extent[d + 2]) for d, spans in enumerate((self.rows, self.columns))]
        row, column = (int(r.argmax()) for r in rooms)
        sides = [spans[0][1] - spans[0][0] for spans in (self.rows, self.columns)]
        room = min(float(rooms[0][row]), float(rooms[1][column]), max(sides)) - MARGIN * min(sides)
        return self.first + row * len(self.columns) + column, room

    def showing(self, view: View) -> list[int]:
        """Return the tiles that are best for some pixel in view, those for pixels near its focus first."""
        distances = []
        for d, spans in enumerate((self.rows, self.columns)):
            places = np.linspace(
                view.extent[d], max(view.extent[d + 2] - 1, view.extent[d]), SAMPLES * len(spans)
            )
            places = np.append(places, np.clip(view.focus[d], places[0], places[-1]))
            best = free(spans, places[:, None], places[:, None] + 1).argmax(1)
            away = np.abs(places - view.focus[d])
            found = sorted((float(away[best == i].min()), int(i)) for i in np.unique(best))
            distances.append(found[:NEAR])
        rows, columns = distances
        tiles = sorted((max(down, right), r, c) for down, r in rows for right, c in columns)
        return [self.first + r * len(self.columns) + c for _, r, c in tiles]


def side_px(length: float, multiple: int) -> int:
    """Return a side of about `length` network pixels, a multiple of `multiple` where that changes it little.

    What a network sees in padding it takes for the end of the object, and objects at the rim of a plane then lose
    theirs; a picture that is a little too wide costs nothing.
    """
    side = max(1, int(length + 0.5))
    whole = max(1, int(side / multiple + 0.5)) * multiple
    return whole if abs(whole - side) <= MAX_STRETCH * side else side


def free(
    spans: tuple[tuple[int, int], ...], start: float | NDArray[np.float64], stop: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the free pixels on either side of start..stop within each span; the plane's own ends are no limits."""
    starts, stops = np.array(spans, np.float64).T
    before = np.where(starts == spans[0][0], np.inf, start - starts)
    after = np.where(stops == spans[-1][1], np.inf, stops - stop)
    return np.minimum(before, after)
