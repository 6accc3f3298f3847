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

from src_core.tiles import Extent, Grid, Tile, side_px

MAX_ZOOM = 2.0
"""Small planes are enlarged at most this much as a whole; for small objects on them there are enlarged grids."""
OVERLAP = 5 / 16
"""Neighbouring tiles share this part of their side, so that an object smaller than it lies whole in one."""
OTHER_OVERLAP = 1 / 2
"""The same for grids that are not native: few of their tiles are ever encoded, so objects get more room."""
MIN_GAIN = 1.25
"""Tiles that would show the plane less than this much larger than the overview are not worth encoding."""
ZOOMS = (2, 4)
"""Enlarged grids."""
CLOSE = 1 / 2
"""Of a network with native tiles, enlarged ones are so much smaller: it was trained on crops of that size, and answers
better there; what is small needs no more around it."""
FAR_PX = 128
"""From afar, the plane is at least this long in network pixels."""


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
    height, width = (side_px(n * zoom, multiple) for n in shape)
    return Tile(0, 0, *shape, (height, width))


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
