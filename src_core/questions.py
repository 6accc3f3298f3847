"""Through which tile an object's prompts are asked, and through which again once the answer is known."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass

import numpy as np

from src_core import frames, tiling
from src_core.masks import bounds
from src_core.prompts import Prompts
from src_core.room import smaller
from src_core.tiles import Extent, Tile, View
from src_core.tiling import Tiling
from src_core.types import Candidates

SMALL = 12
"""An object that covers fewer low-resolution pixels than this, along its longer side, is enlarged."""
TIGHTER = 0.02
"""Further looks are at a box that is smaller by this part on every side: hands leave room, and the network fills it."""
BESIDE = 2.5
"""Levels are beside each other up to this ratio: what is coarser shows, and reads, much more of the plane."""


@dataclass(frozen=True)
class Eyes:
    """What a network sees well.

    Attributes
    ----------
    comfort_px
        Larger objects are seen coarser, in network pixels.
    trusted
        A click whose answer the network rates lower is asked again closer by, if the object then still fits well.
    doubted
        Below it, the click is asked again however large the object seems to be.
    lost
        Below it, the click is asked from afar, too: part of a large object may look like a small one.
    shrunk
        An answer about a plane that the overview shrinks must be rated so much higher than one at native resolution,
        at which clicks are always asked then; 0 where an answer that is trusted suffices.
    beside_px
        From and to which size, in network pixels, what was found is also looked at on the next finer and the next
        coarser level, None where it is not.
    """

    comfort_px: float
    trusted: float
    doubted: float
    lost: float
    shrunk: float
    beside_px: tuple[float, float] | None = None


EYES = {
    True: Eyes(96, 0.85, 0.7, 0.5, 0.1, beside_px=(24, 160)),
    False: Eyes(float("inf"), 0.5, 0.5, 0.0, 0.0),
}
"""For networks with native tiles and without: what measured best for nano, which was trained on cells. Segment
Anything knows objects of all sizes, and a closer tile costs it seconds."""


class Question:
    """One object's prompts on their way to an answer.

    A box or a mask says how large the object is, and the tile fits it. Clicks do not: they are asked in the
    overview, and the size of each answer says through which tile to look next, until nothing new comes of it. What
    the network does not trust, or has seen shrunk only, it looks at more closely, and in the end from afar; then the
    answer counts that it trusts most. An answer that its tile cuts is asked again through one that shows more.
    Once that is settled, `look_beside` also looks at what was found larger and smaller.

    Parameters
    ----------
    prompt
        The object's prompts.
    tiles
        Of the plane they are on.
    low_res_px
        Side of a low-resolution pixel of the network in network pixels.
    eyes
        What the network sees well.

    Attributes
    ----------
    tile
        Which tile to ask about next, None once there is nothing more to ask.
    looks
        The best answer so far with the tile it came through, then further looks at the same, without masks.
    trust
        How sure the network is of it, 0 to 1.
    """

    def __init__(self, prompt: Prompts, tiles: Tiling, low_res_px: int, eyes: Eyes) -> None:
        self.prompt, self._tiles = prompt, tiles
        self._low_res_px, self._eyes = low_res_px, eyes
        self._extent = _extent(prompt, tiles.overview.shape)
        self._sized = prompt.box_yxyx is not None or prompt.mask is not None
        self.tile: int | None = self._fitting(self._extent) if self._sized else 0
        self._tried: set[int] = set()
        self._zooms: set[float] = set()
        self.looks: list[tuple[int, Candidates]] = []
        self._further: list[int] | None = None  # tiles still to look through, from `look_beside` on
        self.trust = 0.0
        self._worth = (False, 0.0, 0.0)

    def prompt_here(self) -> Prompts:
        """Return the prompts as the present tile needs them: points outside the object and the tile say nothing."""
        tile, prompt = self._tiles[self.tile or 0], self.prompt
        if self._further is not None and prompt.box_yxyx is not None:
            box = smaller(prompt.box_yxyx, TIGHTER, self._tiles.overview.shape)
            prompt = dataclasses.replace(prompt, box_yxyx=box)
        points, labels = prompt.points_yx, prompt.labels
        seen = np.all((points >= (tile.y0 - 0.5, tile.x0 - 0.5)) & (points < (tile.y1, tile.x1)), axis=1)
        kept = seen | (labels == 1)
        if kept.all() or not (kept.any() or prompt.box_yxyx or prompt.mask is not None):
            return prompt
        return dataclasses.replace(prompt, points_yx=points[kept], labels=labels[kept])

    def take(self, found: Candidates) -> None:
        """Consider what the network says about the present tile, and decide whether to ask again."""
        index, self.tile = self.tile or 0, None
        if self._further is not None:
            self.looks.append((index, found))
            self.tile = self._further.pop() if self._further else None
            return
        zoom = self._tiles.zoom(index)
        beside = zoom not in self._zooms
        self._tried.add(index)
        self._zooms.add(zoom)
        mask = found.masks[0]
        extent: Extent | None = bounds(mask) if mask.any() else None
        cut = extent is not None and index > 0 and cuts(self._tiles[index], extent, self._tiles.overview)
        # Where the network trusts two answers equally, the finer one is more exact.
        doubt = 0.0 if index or self._tiles.overview_suffices else self._eyes.shrunk
        trust = float(found.scores[0]) * found.presence
        worth = (extent is not None and not cut, trust - doubt, zoom)
        if not self.looks or worth > self._worth:
            self.looks, self._worth, self.trust = [(index, found)], worth, trust
        if cut or not self._sized:
            self.tile = self._next(extent, zoom, cut, beside)
        if self.tile is None and not self._sized:
            self.tile = self._closer(extent)
        if self.tile is None and not self._sized and self.trust < self._eyes.lost:
            self.tile = self._farther()

    def look_beside(self) -> None:
        """Once the best answer is known, look at what was found on the levels beside it, too."""
        self._further = self._levels_beside()
        self.tile = self._further.pop() if self._further else None

    def _next(self, extent: Extent | None, zoom: float, cut: bool, beside: bool) -> int | None:
        """Return the tile to ask after an answer at `zoom`, None where that would bring nothing new."""
        if extent is None:  # too small to be seen there, or not there at all
            wanted = self._tiles.fitting(self._extent)
        else:
            wanted = self._fitting(_union(extent, self._extent), zoom if cut else float("inf"))
            if cut and (wanted in self._tried or not beside):
                wanted = self._fitting(_union(extent, self._extent), zoom / 2)
        if self._tiles.zoom(wanted) < self._tiles.zoom(0):
            wanted = 0  # what seems large in the overview may be many: only who is lost looks from afar
        known = wanted in self._tried or (not cut and self._tiles.zoom(wanted) in self._zooms)
        return None if known else wanted

    def _closer(self, extent: Extent | None) -> int | None:
        """Return a tile that shows what was clicked on larger than any before, None where that is not needed.

        A small object is easily overlooked from afar, and something large around it shown instead.
        """
        trust, seen = self.trust, max(self._zooms)
        zoom = next((g.zoom for g in self._tiles.grids if g.zoom > seen and g.zoom >= 1), None)
        if zoom is None:
            return None
        side = 0.0 if extent is None else _side(extent)
        too_large = side * zoom > self._eyes.comfort_px and trust > self._eyes.doubted
        shrunk_only = zoom == 1 and self._eyes.shrunk > 0 and self._tried == {0}
        if not shrunk_only and (trust >= self._eyes.trusted or too_large):
            return None
        index = self._tiles.fitting(self._extent, zoom)
        return None if index in self._tried else index

    def _farther(self) -> int | None:
        """Return a tile that shows what was clicked on smaller than any before, None if there is none.

        All of these show the whole plane; if it was enlarged, the first shows it about pixel by pixel.
        """
        coarser = [g for g in self._tiles.grids if g.zoom < min(self._zooms)]
        return max(coarser, key=lambda g: g.zoom).first if coarser else None

    def _levels_beside(self) -> list[int]:
        """Return the tiles of the next finer and the next coarser level that show the answer well.

        None for a mask alone: it travels, and follows what it was on the slice before.
        """
        ((index, found),) = self.looks
        limits = self._eyes.beside_px
        travels = self.prompt.box_yxyx is None and not len(self.prompt.points_yx)
        if limits is None or travels or not found.masks[0].any():
            return []
        extent, zoom = _union(bounds(found.masks[0]), self._extent), self._tiles.zoom(index)
        side = _side(extent)
        levels = {grid.zoom: grid.best(extent) for grid in self._tiles.grids}
        levels[self._tiles.zoom(0)] = (0, 1.0)
        low, high = max(limits[0] / side, zoom / BESIDE), min(limits[1] / side, zoom * BESIDE)
        seen = {z: tile for z, (tile, room) in levels.items() if room > 0 and low <= z <= high}
        finer = min((z for z in seen if z >= zoom * tiling.MIN_GAIN), default=None)
        coarser = max((z for z in seen if z <= zoom / tiling.MIN_GAIN), default=None)
        return [seen[z] for z in (finer, coarser) if z is not None]

    def _fitting(self, extent: Extent, finest: float = float("inf")) -> int:
        comfortable = zoom_for(extent, self._low_res_px, self._eyes.comfort_px)
        return self._tiles.fitting(extent, min(comfortable, finest))


def expected(tiles: Tiling, view: View) -> tuple[int, ...]:
    """Return the tiles that clicks within `view` may need, the most likely first.

    All clicks begin with the overview; the others are taken in turns from the grids, from the focus outwards.
    """
    grids = [grid.showing(view) for grid in reversed(tiles.grids) if tiles.zoom(0) < grid.zoom <= 1]
    turns = itertools.zip_longest(*grids)
    return (0, *(tile for turn in turns for tile in turn if tile is not None))


def _union(*extents: Extent) -> Extent:
    low, high = np.array(extents)[:, :2].min(0), np.array(extents)[:, 2:].max(0)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _side(extent: Extent) -> float:
    return max(extent[2] - extent[0], extent[3] - extent[1])


def _extent(prompt: Prompts, shape: tuple[int, int]) -> Extent:
    """Return the rectangle of the plane that a prompt speaks about."""
    boxes: list[Extent] = []
    if prompt.box_yxyx is not None:
        boxes.append(prompt.box_yxyx)
    inside = prompt.points_yx[prompt.labels == 1] if (prompt.labels == 1).any() else prompt.points_yx
    if len(inside):
        (y0, x0), (y1, x1) = inside.min(0), inside.max(0)
        boxes.append((float(y0), float(x0), float(y1) + 1, float(x1) + 1))
    if prompt.mask is not None and (prompt.mask > 0).any():
        extent: Extent = bounds(prompt.mask > 0)
        if prompt.mask.dtype != np.bool_:
            extent = frames.to_plane(extent, prompt.mask.shape, prompt.mask_window or (0, 0, *shape))
        boxes.append(extent)
    return _union(*boxes) if boxes else (0, 0, *shape)


def zoom_for(extent: Extent, low_res_px: int, comfort_px: float) -> float:
    """Return how much an object should be enlarged at most: above 1 if it is small, below if it is large.

    Parameters
    ----------
    extent
        The rectangle it fills.
    low_res_px
        Side of a low-resolution pixel in network pixels.
    comfort_px
        How large the network likes objects, in network pixels.
    """
    side = _side(extent)
    # Each further step must be needed: so many low-resolution pixels are not reached without it.
    enlarged = float(max((z for z in tiling.ZOOMS if side * z / 2 < SMALL * low_res_px), default=1))
    return min(enlarged, comfort_px / side)


def cuts(tile: Tile, extent: Extent, plane: Tile) -> bool:
    """Say whether `extent` reaches a border of `tile` beyond which the plane goes on."""
    low, high = np.array(tile.box).reshape(2, 2)
    inside = np.array([extent[:2] - low, high - extent[2:]])
    goes_on = np.array([low > plane.box[:2], high < plane.box[2:]])
    return bool(((inside <= 1) & goes_on).any())
