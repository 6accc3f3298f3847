"""Tiles cover their plane with enough overlap, and the best one shows an object whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from src_core import questions, tiling
from src_core.tiles import MARGIN, MAX_STRETCH, Grid, Tile, View

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


def _native(shape: tuple[int, int], size: int = SIZE) -> Grid | None:
    return next((g for g in tiling.tiled(shape, size).grids if g.zoom == 1), None)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_overview_shows_the_whole_plane_within_the_input(shape: tuple[int, int]) -> None:
    overview = tiling.tiled(shape, SIZE)[0]
    assert overview.box == (0, 0, *shape)
    assert all(1 <= n <= SIZE for n in overview.input_hw)
    assert max(overview.zoom_yx) <= max(tiling.MAX_ZOOM, 1.0)
    if max(shape) * tiling.MAX_ZOOM >= SIZE:
        assert max(overview.input_hw) == SIZE


@pytest.mark.parametrize("size", [256, 512, 1024])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_tiles_of_every_grid_cover_every_pixel_and_stay_inside(shape: tuple[int, int], size: int) -> None:
    tiles = tiling.tiled(shape, size, float("inf"))
    assert bool(tiles.grids) == (max(shape) >= tiling.MIN_GAIN * size)
    assert len(tiles) == len(set(tiles)) and tiles.ahead <= len(tiles)
    for grid in tiles.grids:
        covered = np.zeros(shape, bool)
        for tile in tiles[grid.first : grid.first + len(grid)]:
            assert 0 <= tile.y0 < tile.y1 <= shape[0]
            assert 0 <= tile.x0 < tile.x1 <= shape[1]
            assert tile.shape == tuple(min(n, round(size / grid.zoom)) for n in shape)
            assert all(1 <= n <= size for n in tile.input_hw)
            covered[tile.y0 : tile.y1, tile.x0 : tile.x1] = True
        assert covered.all()
    zooms = [g.zoom for g in tiles.grids]
    assert zooms == sorted(zooms) and (not zooms or {1, 2, 4} <= set(zooms))
    assert all(zoom >= tiling.MIN_GAIN * min(tiles.overview.zoom_yx) for zoom in zooms)
    with pytest.raises(IndexError):
        tiles[len(tiles)]


def test_grids_go_on_from_where_the_overview_ends() -> None:
    assert [g.zoom for g in tiling.tiled((4096, 4096), 512).grids] == [1 / 32, 1 / 16, 0.25, 0.5, 1, 2, 4]
    assert [g.zoom for g in tiling.tiled((512, 300), 512).grids] == [0.25, 0.5, 2, 4]
    assert [g.zoom for g in tiling.tiled((100, 90), 512).grids] == [4]
    assert tiling.tiled((100, 90), 512).overview_suffices
    assert not tiling.tiled((700, 90), 512).overview_suffices
    assert tiling.tiled((100, 90), 1024, float("inf")).grids == ()
    assert [g.zoom for g in tiling.tiled((4096, 4096), 1024, float("inf")).grids] == [0.5, 1, 2, 4]


def test_from_afar_the_plane_is_one_tile_whose_sides_get_ever_shorter() -> None:
    tiles = tiling.tiled((3000, 700), 512)
    afar = [g for g in tiles.grids if g.zoom < tiles.zoom(0)]
    assert [g.tile(0).input_hw for g in afar] == [(128, 30), (256, 60)]
    assert all(g.tile(0).box == (0, 0, 3000, 700) and len(g) == 1 and g.first >= tiles.ahead for g in afar)
    assert tiles[tiles.fitting((0, 0, 3000, 700), 0.05)].input_hw == (128, 30)
    assert tiles.fitting((0, 0, 3000, 700), 0.2) == 0, "not too large for the overview"


@pytest.mark.parametrize("length", [640, 864, 865, 1000, 1217, 5000, 20000])
def test_neighbouring_tiles_overlap_by_what_was_promised(length: int) -> None:
    for size in (SIZE, 1024):
        grid = _native((8, length), size)
        if grid is None:
            continue
        spans, overlap = grid.columns, tiling.OVERLAP * size
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(a1 - b0 >= overlap for (_, a1), (b0, _) in itertools.pairwise(spans))
        assert len(spans) == -(-(length - overlap) // (size - overlap))


@pytest.mark.parametrize("shape", [(900, 1300), (1500, 600), (3, 700), (1, 20000)])
@pytest.mark.parametrize("zoom", [1, 2])
def test_any_object_smaller_than_the_overlap_lies_whole_in_the_best_tile(
    shape: tuple[int, int], zoom: float
) -> None:
    tiles = tiling.tiled(shape, SIZE)
    rng = np.random.default_rng(0)
    largest = int((tiling.OVERLAP - 2 * MARGIN) * SIZE / zoom)
    for _ in range(200):
        height, width = (int(rng.integers(1, min(n, largest) + 1)) for n in shape)
        y, x = int(rng.integers(0, shape[0] - height + 1)), int(rng.integers(0, shape[1] - width + 1))
        extent = (y, x, y + height, x + width)
        index = tiles.fitting(extent, zoom)
        assert tiles.zoom(index) == zoom
        tile = tiles[index]
        assert tile.y0 <= y < y + height <= tile.y1
        assert tile.x0 <= x < x + width <= tile.x1
        assert not questions.cuts(tile, extent, tiles[0])


@pytest.mark.parametrize("side", [8, 40, 200, 450, 600, 900, 1500, 3000, 4096])
def test_an_object_goes_to_the_finest_tile_that_has_room_for_it(side: int) -> None:
    tiles = tiling.tiled((4096, 4096), SIZE)
    start = (4096 - side) // 2
    extent = (start, start, start + side, start + side)
    index = tiles.fitting(extent)
    assert not questions.cuts(tiles[index], extent, tiles[0])
    assert side <= max(tiles[index].shape)
    # The object fills a good part of its tile, or the tile is at native resolution.
    assert tiles.zoom(index) == 1 or side > 0.1 * max(tiles[index].shape)
    finer = [
        t for g in tiles.grids if tiles.zoom(index) < g.zoom <= 1 for t in tiles[g.first : g.first + len(g)]
    ]
    room = MARGIN * SIZE
    for tile in finer:
        gaps = (start - tile.y0, start - tile.x0, tile.y1 - start - side, tile.x1 - start - side)
        assert min(gaps) < room / (tile.input_hw[0] / tile.shape[0]) + 1


def test_what_fills_the_plane_is_seen_in_the_overview() -> None:
    tiles = tiling.tiled((1000, 1000), SIZE)
    assert tiles.fitting((100, 100, 800, 300)) == 0
    assert tiles.fitting((0, 0, 1000, 1000)) == 0
    assert tiles.zoom(0) == 0.512


def test_only_small_objects_are_enlarged() -> None:
    tall = [questions.zoom_for((10, 10, 10 + n, 12), 4, float("inf")) for n in (5, 23, 24, 47, 48, 500)]
    assert tall == [4, 4, 2, 2, 1, 1]
    assert [questions.zoom_for((0, 0, 2, n), 2, float("inf")) for n in (11, 12, 23, 24)] == [4, 2, 2, 1]


def test_large_objects_are_seen_no_larger_than_the_network_likes() -> None:
    assert [questions.zoom_for((0, 0, 2, n), 2, 96) for n in (20, 30, 96, 192, 960)] == [2, 1, 1, 0.5, 0.1]


def test_the_tiles_that_show_what_is_in_view_come_nearest_to_its_focus_first() -> None:
    grid = _native((2000, 3000))
    assert grid is not None
    rng = np.random.default_rng(0)
    for _ in range(50):
        (y0, y1), (x0, x1) = (np.sort(rng.integers(0, n, 2)) for n in (2000, 3000))
        focus = (float(rng.uniform(y0, y1)), float(rng.uniform(x0, x1)))
        shown = grid.showing(View((y0, x0, y1 + 1, x1 + 1), focus))
        assert shown[0] == grid.best((*focus, focus[0] + 1, focus[1] + 1))[0]
        assert len(shown) == len(set(shown))
        for y, x in [
            (y0, x0),
            (y1, x1),
            *zip(rng.integers(y0, y1 + 1, 20), rng.integers(x0, x1 + 1, 20), strict=True),
        ]:
            best = grid.tile(grid.best((y, x, y + 1, x + 1))[0] - grid.first)
            near = [grid.tile(i - grid.first) for i in shown]
            # Halfway between two tiles either will do.
            assert any(abs(best.y0 - t.y0) <= 400 and t.y0 <= y < t.y1 and t.x0 <= x < t.x1 for t in near)
    assert len(grid.showing(View((0, 0, 2000, 3000), (0, 0)))) == len(grid)
    assert len(grid.showing(View((0, 0, 10, 10), (5, 5)))) == 1


def test_a_border_of_the_plane_cuts_nothing_but_a_border_inside_it_does() -> None:
    plane, left = Tile(0, 0, 512, 1000, (262, 512)), Tile(0, 0, 512, 512, (512, 512))
    assert not questions.cuts(left, (0, 0, 512, 510), plane)
    assert questions.cuts(left, (100, 100, 200, 512), plane)
    assert questions.cuts(left, (100, 100, 200, 511), plane)


def test_a_point_goes_to_the_tile_with_most_room() -> None:
    tiles = tiling.tiled((512, 1000), SIZE)
    assert [(t.x0, t.x1) for t in tiles[1:4]] == [(0, 512), (244, 756), (488, 1000)]
    assert tiles.fitting((10, 10, 11, 11)) == 1
    assert tiles.fitting((10, 500, 11, 501)) == 2
    assert tiles.fitting((10, 990, 11, 991)) == 3


def test_tiles_are_found_by_their_first_pixel() -> None:
    tiles = tiling.tiled((700, 1500), SIZE)
    for tile in tiles:
        assert tile in list(tiles.starting_at(tile.y0, tile.x0))
    assert not list(tiles.starting_at(3, 3))


def test_reference_networks_see_the_plane_whole_however_small() -> None:
    tile = tiling.whole((10, 20), 1024)
    assert tile.input_hw == (512, 1024)
    assert tile.zoom_yx == (51.2, 51.2)
    assert tiling.whole((1, 3000), 1024).input_hw == (1, 1024)


@pytest.mark.parametrize("shape", [*SHAPES, (100, 100), (61, 57), (40, 300), (1, 3000)])
def test_sides_become_multiples_of_what_the_network_needs_unless_that_stretches_much(
    shape: tuple[int, int],
) -> None:
    plain, tiles = tiling.tiled(shape, SIZE), tiling.tiled(shape, SIZE, multiple=32)
    assert [tile.box for tile in plain] == [tile.box for tile in tiles]
    for tile, before in zip(tiles, plain, strict=True):
        for side, was in zip(tile.input_hw, before.input_hw, strict=True):
            nearest = max(32, int(was / 32 + 0.5) * 32)
            assert side == (nearest if abs(nearest - was) <= MAX_STRETCH * was else was) <= SIZE
    assert tiling.tiled((100, 100), SIZE, multiple=32).overview.input_hw == (192, 192)
    assert tiling.tiled((200, 512), SIZE, multiple=32).overview.input_hw == (192, 512)
    assert tiling.tiled((10, 512), SIZE, multiple=32).overview.input_hw == (10, 512)


def test_enlarged_tiles_are_half_the_size_where_the_network_takes_any() -> None:
    plane, near = (1000, 1000), (SIZE // 2, SIZE // 2)
    sides = {g.zoom: g.tile(0).input_hw for g in tiling.tiled(plane, SIZE).grids if g.zoom >= 1}
    assert sides == {1: (SIZE, SIZE), 2: near, 4: near}
    assert {g.tile(0).input_hw for g in tiling.tiled(plane, SIZE, float("inf")).grids} == {(SIZE, SIZE)}
