"""Tiles cover their plane with enough overlap, and the best one shows an object whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from src_core import tiling
from src_core.tiling import Tile

SIZE = 512
SHAPES = [
    (1, 1),
    (1, 20000),
    (20000, 1),
    (3, 700),
    (512, 512),
    (513, 512),
    (900, 1300),
    (672, 864),
    (100, 60),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_overview_shows_the_whole_plane_within_the_input(shape: tuple[int, int]) -> None:
    overview = tiling.native(shape, SIZE)[0]
    assert (overview.y0, overview.x0, overview.y1, overview.x1) == (0, 0, *shape)
    assert all(1 <= n <= SIZE for n in overview.input_hw)
    assert max(overview.zoom_yx) <= max(tiling.MAX_ZOOM, 1.0)
    if max(shape) * tiling.MAX_ZOOM >= SIZE:
        assert max(overview.input_hw) == SIZE


@pytest.mark.parametrize("shape", SHAPES)
def test_native_tiles_cover_every_pixel_and_stay_inside(shape: tuple[int, int]) -> None:
    tiles = tiling.native(shape, SIZE)[1:]
    assert bool(tiles) == (max(shape) > SIZE)
    if not tiles:
        return
    covered = np.zeros(shape, bool)
    for tile in tiles:
        assert 0 <= tile.y0 < tile.y1 <= shape[0]
        assert 0 <= tile.x0 < tile.x1 <= shape[1]
        assert tile.shape == tile.input_hw == (min(shape[0], SIZE), min(shape[1], SIZE))
        assert tile.zoom_yx == (1, 1)
        covered[tile.y0 : tile.y1, tile.x0 : tile.x1] = True
    assert covered.all()
    assert len(set(tiles)) == len(tiles)


@pytest.mark.parametrize("length", [513, 600, 864, 865, 1000, 1217, 5000, 20000])
def test_neighbouring_tiles_overlap_by_what_was_promised(length: int) -> None:
    spans = [(t.x0, t.x1) for t in tiling.native((8, length), SIZE)[1:]]
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(a1 - b0 >= tiling.OVERLAP_PX for (_, a1), (b0, _) in itertools.pairwise(spans))
    assert len(spans) == -(-(length - tiling.OVERLAP_PX) // (SIZE - tiling.OVERLAP_PX))


@pytest.mark.parametrize("shape", [(900, 1300), (1500, 600), (3, 700), (1, 20000)])
def test_any_object_smaller_than_the_overlap_lies_whole_in_the_best_tile(shape: tuple[int, int]) -> None:
    tiles = tiling.native(shape, SIZE)
    rng = np.random.default_rng(0)
    margin = tiling.MARGIN * SIZE
    for _ in range(200):
        height, width = (int(rng.integers(1, min(n, tiling.OVERLAP_PX - 2 * margin) + 1)) for n in shape)
        y, x = int(rng.integers(0, shape[0] - height + 1)), int(rng.integers(0, shape[1] - width + 1))
        extent = (y, x, y + height, x + width)
        index = tiling.best_tile(tiles, extent)
        assert index > 0
        tile = tiles[index]
        assert tile.y0 <= y < y + height <= tile.y1
        assert tile.x0 <= x < x + width <= tile.x1
        assert not tiling.cuts(tile, extent, tiles[0])


def test_an_object_too_large_for_any_tile_is_seen_in_the_overview() -> None:
    tiles = tiling.native((1000, 1000), SIZE)
    assert tiling.best_tile(tiles, (100, 100, 800, 300)) == 0
    assert tiling.best_tile(tiles, (0, 0, 1000, 1000)) == 0


def test_a_border_of_the_plane_cuts_nothing_but_a_border_inside_it_does() -> None:
    plane, left = Tile(0, 0, 512, 1000, (262, 512)), Tile(0, 0, 512, 512, (512, 512))
    assert not tiling.cuts(left, (0, 0, 512, 510), plane)
    assert tiling.cuts(left, (100, 100, 200, 512), plane)
    assert tiling.cuts(left, (100, 100, 200, 511), plane)


def test_a_point_goes_to_the_tile_with_most_room() -> None:
    tiles = tiling.native((512, 1000), SIZE)
    assert [(t.x0, t.x1) for t in tiles[1:]] == [(0, 512), (244, 756), (488, 1000)]
    assert tiling.best_tile(tiles, (10, 10, 11, 11)) == 1
    assert tiling.best_tile(tiles, (10, 500, 11, 501)) == 2
    assert tiling.best_tile(tiles, (10, 990, 11, 991)) == 3


def test_reference_networks_see_the_plane_whole_however_small() -> None:
    tile = tiling.whole((10, 20), 1024)
    assert tile.input_hw == (512, 1024)
    assert tile.zoom_yx == (51.2, 51.2)
    assert tiling.whole((1, 3000), 1024).input_hw == (1, 1024)
