"""How a plane is cut into network inputs: an overview, and grids of tiles from coarse to enlarged.

The overview shows all of the plane. Where it would shrink the plane, there are grids of overlapping tiles in
steps of two: coarser than the plane, at its native resolution, and enlarged for objects so small that the
network's low resolution would blur them. For objects larger than it likes, the plane is also seen from afar, as a
smaller tile. A prompt goes to the grid that fits what it speaks about.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

Extent = tuple[float, float, float, float]
"""(y0, x0, y1, x1) in pixels of the plane, half-open."""

MAX_ZOOM = 2.0
"""Small planes are enlarged at most this much as a whole; for small objects on them there are enlarged grids."""
OVERLAP = 5 / 16
"""Neighbouring tiles share this part of their side, so that an object smaller than it lies whole in one."""
OTHER_OVERLAP = 1 / 2
"""The same for grids that are not native: few of their tiles are ever encoded, so objects get more room."""
MARGIN = 0.05
"""A prompt fits a tile if this fraction of the tile's side is free around it."""
MIN_GAIN = 1.25
"""Tiles that would show the plane less than this much larger than the overview are not worth encoding."""
ZOOMS = (2, 4)
"""Enlarged grids."""
CLOSE = 1 / 2
"""Of a network with native tiles, enlarged ones are so much smaller: it was trained on crops of that size, and answers
better there; what is small needs no more around it."""
FAR_PX = 128
"""From afar, the plane is at least this long in network pixels."""
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
        height, width = (_side(n * self.zoom, self.multiple) for n in (y1 - y0, x1 - x0))
        return Tile(y0, x0, y1, x1, (height, width))

    def best(self, extent: Extent) -> tuple[int, float]:
        """Return the tile that shows `extent` with most room around it, and that room less the margin."""
        rooms = [_free(spans, extent[d], extent[d + 2]) for d, spans in enumerate((self.rows, self.columns))]
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
            best = _free(spans, places[:, None], places[:, None] + 1).argmax(1)
            away = np.abs(places - view.focus[d])
            found = sorted((float(away[best == i].min()), int(i)) for i in np.unique(best))
            distances.append(found[:NEAR])
        rows, columns = distances
        tiles = sorted((max(down, right), r, c) for down, r in rows for right, c in columns)
        return [self.first + r * len(self.columns) + c for _, r, c in tiles]


@dataclass(frozen=True)
class Tiling(Sequence[Tile]):
    """All the tiles of a plane; they are made when they are asked for, as there may be thousands.

    The order is: the overview, grids coarser than the plane, the native one, enlarged ones, the plane from afar.

    Attributes
    ----------
    overview
        The tile that shows the whole plane.
    grids
        Coarsest first; those coarser than the overview have one tile each. None where the overview is good enough.
    """

    overview: Tile
    grids: tuple[Grid, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Tile, ...]: ...
    def __getitem__(self, index: int | slice) -> Tile | tuple[Tile, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if index in (0, -len(self)):
            return self.overview
        at = index + len(self) if index < 0 else index
        for grid in self.grids:
            if 0 <= at - grid.first < len(grid):
                return grid.tile(at - grid.first)
        raise IndexError(f"there is no tile {index} among {len(self)}")

    def __len__(self) -> int:
        return 1 + sum(len(grid) for grid in self.grids)

    @property
    def native(self) -> range:
        """The tiles that show all of the plane pixel by pixel, or the overview where that is good enough."""
        own = self.zoom(0)
        found = (range(g.first, g.first + len(g)) for g in self.grids if g.zoom == 1 and own < 1)
        return next(found, range(1))

    @property
    def overview_suffices(self) -> bool:
        """Whether the overview shows every pixel: closer tiles are for small objects alone."""
        return self.native == range(1)

    @property
    def ahead(self) -> int:
        """How many tiles, from the first, are worth encoding ahead: those that most clicks need."""
        return 1 + sum(len(grid) for grid in self.grids if self.zoom(0) < grid.zoom <= 1)

    def zoom(self, index: int) -> float:
        """Return the network pixels per pixel of the plane of a tile, along its longer side."""
        if index == 0:
            return self.overview.zoom_yx[int(np.argmax(self.overview.shape))]
        return next(grid.zoom for grid in self.grids if 0 <= index - grid.first < len(grid))

    def fitting(self, extent: Extent, finest: float = 1.0) -> int:
        """Return the index of the most enlarged tile, up to `finest`, that shows `extent` with room around it.

        Where no tile has room, it is the overview, and where no object is too large for that.
        """
        own = self.zoom(0)
        for grid in reversed(self.grids):
            if grid.zoom < own and min(own, 1.0) <= finest:
                return 0
            if grid.zoom <= finest:
                index, room = grid.best(extent)
                if room > 0:
                    return index
        return 0

    def starting_at(self, y0: float, x0: float) -> Iterator[Tile]:
        """Yield the tiles whose first pixel is (y0, x0)."""
        if (y0, x0) == (0, 0):
            yield self.overview
        for grid in self.grids:
            row = next((i for i, span in enumerate(grid.rows) if span[0] == y0), None)
            column = next((i for i, span in enumerate(grid.columns) if span[0] == x0), None)
            if row is not None and column is not None:
                yield grid.tile(row * len(grid.columns) + column)


def whole(shape: tuple[int, int], size: int, max_zoom: float = float("inf"), multiple: int = 1) -> Tile:
    """Return the plane as one tile, its longest side about `size` network pixels; see `tiled`."""
    zoom = min(size / max(shape), max_zoom)
    height, width = (_side(n * zoom, multiple) for n in shape)
    return Tile(0, 0, *shape, (height, width))


def _side(length: float, multiple: int) -> int:
    """Return a side of about `length` network pixels, a multiple of `multiple` where that changes it little.

    What a network sees in padding it takes for the end of the object, and objects at the rim of a plane then lose
    theirs; a picture that is a little too wide costs nothing.
    """
    side = max(1, int(length + 0.5))
    whole = max(1, int(side / multiple + 0.5)) * multiple
    return whole if abs(whole - side) <= MAX_STRETCH * side else side


@functools.lru_cache(64)
def tiled(shape: tuple[int, int], size: int, max_zoom: float = MAX_ZOOM, multiple: int = 1) -> Tiling:
    """Cut a plane of `shape` (H, W) for a network with an input of `size` pixels.

    Parameters
    ----------
    shape, size
        In pixels.
    max_zoom
        How much the plane as a whole is enlarged at most. Where there is no limit, a plane that fits is enlarged
        to `size`, and nothing closer is offered.
    multiple
        The network pads sides that are no multiple of it, so tiles are stretched a little instead.
    """
    overview = whole(shape, size, max_zoom, multiple)
    own = min(size / max(shape), max_zoom)
    worth = own * MIN_GAIN
    if worth > 1 and max_zoom == float("inf"):
        return Tiling(overview)
    zooms = [z for z in (1.0, *(float(z) for z in ZOOMS)) if z >= worth]
    while zooms and zooms[0] / 2 >= worth:
        zooms.insert(0, zooms[0] / 2)
    far = own / 2
    while max_zoom < float("inf") and far * max(shape) >= FAR_PX:
        zooms.append(far)
        far /= 2
    grids: list[Grid] = []
    for zoom in zooms:
        overlap = OVERLAP if zoom == 1 else OTHER_OVERLAP
        side = size * CLOSE if zoom > 1 and max_zoom < float("inf") else size
        rows, columns = (_spans(n, round(side / zoom), overlap) for n in shape)
        first = grids[-1].first + len(grids[-1]) if grids else 1
        grids.append(Grid(zoom, rows, columns, first, multiple))
    grids.sort(key=lambda grid: grid.zoom)
    return Tiling(overview, tuple(grids))


def _spans(length: int, side: int, share: float) -> tuple[tuple[int, int], ...]:
    if length <= side:
        return ((0, length),)
    overlap = round(side * share)
    count = int(np.ceil((length - overlap) / (side - overlap)))
    starts = np.rint(np.linspace(0, length - side, count)).astype(int)
    return tuple((int(s), int(s) + side) for s in starts)


def _free(
    spans: tuple[tuple[int, int], ...], start: float | NDArray[np.float64], stop: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the free pixels on either side of start..stop within each span; the plane's own ends are no limits."""
    starts, stops = np.array(spans, np.float64).T
    before = np.where(starts == spans[0][0], np.inf, start - starts)
    after = np.where(stops == spans[-1][1], np.inf, stops - stop)
    return np.minimum(before, after)
