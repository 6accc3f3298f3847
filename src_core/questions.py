"""Through which tile an object's prompts are asked, and through which again once the answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np

from src_core import frames, tiling
from src_core.masks import bounds
from src_core.prompts import Prompts
from src_core.tiling import Extent, Tile, Tiling, View
from src_core.types import Candidates


class Question:
    """One object's prompts on their way to an answer.

    A box or a mask says how large the object is, and the first tile fits it. A click does not: it is asked at
    native resolution. An answer that the tile cuts is asked again through one that shows more, until it is
    whole; one that turns out small after a click is asked again enlarged.

    Parameters
    ----------
    prompt
        The object's prompts.
    tiles
        Of the plane they are on.
    low_res_px
        Side of a low-resolution pixel of the network in network pixels.

    Attributes
    ----------
    tile
        Which tile to ask about next, None once there is nothing more to ask.
    answer
        The best so far.
    """

    def __init__(self, prompt: Prompts, tiles: Tiling, low_res_px: int) -> None:
        self.prompt, self._tiles, self._low_res_px = prompt, tiles, low_res_px
        self._extent = _extent(prompt, tiles.overview.shape)
        sized = prompt.box_yxyx is not None or prompt.mask is not None
        finest = tiling.zoom_for(self._extent, low_res_px) if sized else 1.0
        self.tile: int | None = tiles.fitting(self._extent, finest)
        self._may_enlarge, self._enlarged = not sized, False
        self._moved: set[float] = set()
        self.answer: Candidates | None = None

    def prompt_here(self) -> Prompts:
        """Return the prompts as the present tile needs them: points outside the object and the tile say nothing."""
        tile = self._tiles[self.tile or 0]
        points, labels = self.prompt.points_yx, self.prompt.labels
        seen = np.all((points >= (tile.y0 - 0.5, tile.x0 - 0.5)) & (points < (tile.y1, tile.x1)), axis=1)
        kept = seen | (labels == 1)
        if kept.all() or not (kept.any() or self.prompt.box_yxyx or self.prompt.mask is not None):
            return self.prompt
        return dataclasses.replace(self.prompt, points_yx=points[kept], labels=labels[kept])

    def take(self, found: Candidates) -> None:
        """Consider what the network says about the present tile, and decide whether to ask again."""
        index, self.tile = self.tile or 0, None
        mask = found.masks[0]
        extent: Extent | None = bounds(mask) if mask.any() else None
        cut = extent is not None and index > 0 and self._cuts(self._tiles[index], extent)
        if self._enlarged:
            # A closer look that misses the object, or trusts itself less, is none.
            if (
                extent is not None
                and not cut
                and self.answer is not None
                and _trust(found) >= _trust(self.answer)
            ):
                self.answer = found
            return
        self.answer = found
        if extent is None:
            return
        known = _union(extent, self._extent)
        if cut:
            self.tile = self._wider(known, index)
        elif self._may_enlarge and index:
            closer = self._tiles.fitting(known, tiling.zoom_for(known, self._low_res_px))
            if self._tiles.zoom(closer) > self._tiles.zoom(index):
                self.tile, self._enlarged = closer, True

    def _wider(self, known: Extent, index: int) -> int:
        """Return the tile to ask after `index` cut the answer: another beside it, once, or a coarser one."""
        zoom = self._tiles.zoom(index)
        beside = self._tiles.fitting(known, zoom)
        if beside != index and zoom not in self._moved:
            self._moved.add(zoom)
            return beside
        return self._tiles.fitting(known, zoom / 2)

    def _cuts(self, tile: Tile, extent: Extent) -> bool:
        return tiling.cuts(tile, extent, self._tiles.overview)


def expected(tiles: Tiling, view: View) -> tuple[int, ...]:
    """Return the tiles that clicks within `view` may need, the most likely first.

    That is the tile a click at the focus asks, the overview that large objects need, and what is around.
    """
    asked = next((grid.showing(view) for grid in tiles.grids if grid.zoom == 1), [])
    return (*asked[:1], 0, *asked[1:])


def _trust(found: Candidates) -> float:
    return float(found.scores[0]) * found.presence


def _union(*extents: Extent) -> Extent:
    low, high = np.array(extents)[:, :2].min(0), np.array(extents)[:, 2:].max(0)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


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
