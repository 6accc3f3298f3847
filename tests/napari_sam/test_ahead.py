"""Of slices larger than a tile, what is in view is embedded ahead, and the strip says how much of it is there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from napari_sam import ahead
from napari_sam.layers import plane_on_screen, view_on_screen
from src_core.embedding import Embedding
from src_core.predictor import Predictor
from src_core.questions import expected
from src_core.tiles import View
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk
from tests.src_core.networks import random_nano

SIDE = 1400
MIDDLE = 2
"""The slice that napari shows first."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(random_nano(), "nano")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (6, SIDE, SIDE), np.uint8)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One neighbour on either side is enough here."""
    monkeypatch.setattr(ahead, "NEIGHBOURS", 1)


def begin(desk: Desk, predictor: Predictor, image: np.ndarray) -> None:
    desk.interaction.ahead.predictor = predictor
    desk.start(image)
    desk.wait(seconds=120)


def encoded(desk: Desk, index: int) -> set[int]:
    """The tiles of slice z = index that are there."""
    plane = PlaneRef("z", index)
    if plane not in desk.interaction.cache:
        return set()
    embedding = desk.interaction.cache.get(plane)
    return {tile for tile in range(len(embedding.tiles)) if embedding.has(tile)}


def see(monkeypatch: pytest.MonkeyPatch, view: View) -> None:
    monkeypatch.setattr("napari_sam.interaction.view_on_screen", lambda *_: view)


def test_the_tiles_in_view_are_embedded_before_the_first_click(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, predictor: Predictor, image: np.ndarray
) -> None:
    view = View((0, 0, 500, 600), (100, 500))
    see(monkeypatch, view)
    begin(desk, predictor, image)
    wanted = expected(predictor.tiles((SIDE, SIDE)), view)
    assert ahead.TILES_BESIDE < len(wanted) <= ahead.TILES_HERE
    assert encoded(desk, MIDDLE) == set(wanted)
    for index in (MIDDLE - 1, MIDDLE + 1):
        assert encoded(desk, index) == set(wanted[: ahead.TILES_BESIDE])
    assert not encoded(desk, 0) and not encoded(desk, 4)
    share = ahead.TILES_BESIDE / len(wanted)
    assert desk.interaction.cache.ready("z", 0, view) == {MIDDLE - 1: share, MIDDLE: 1, MIDDLE + 1: share}
    elsewhere = View((900, 900, 1400, 1400), (1200, 1200))
    assert desk.interaction.cache.ready("z", 0, elsewhere)[MIDDLE] < 1, "what is not in view is not prepared"


def test_no_more_tiles_than_promised_are_embedded_of_a_huge_view(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, predictor: Predictor, image: np.ndarray
) -> None:
    monkeypatch.setattr(ahead, "TILES_HERE", 3)
    begin(desk, predictor, image)
    assert len(encoded(desk, MIDDLE)) == 3
    assert 0 < desk.interaction.cache.ready("z")[MIDDLE] < 1, "the strip must not promise what is not there"


def test_the_slice_on_screen_and_tiles_near_the_mouse_come_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, predictor: Predictor, image: np.ndarray
) -> None:
    made: list[tuple[int, int]] = []
    real = Embedding.features

    def spied(self: Embedding, tile: int) -> Any:
        if not self.has(tile):
            made.append((self._picture.index, tile))  # type: ignore[union-attr]
        return real(self, tile)

    monkeypatch.setattr(Embedding, "features", spied)
    see(monkeypatch, View((600, 600, SIDE, SIDE), (1300, 1300)))
    begin(desk, predictor, image)
    at_mouse = predictor.tiles((SIDE, SIDE)).fitting((1300, 1300, 1301, 1301))
    planes = [plane for plane, _ in made]
    here = planes.count(MIDDLE)
    assert here <= ahead.TILES_HERE and planes[:here] == [MIDDLE] * here
    assert set(planes[here:]) == {MIDDLE - 1, MIDDLE + 1}
    first = [tile for _, tile in made[: ahead.TILES_BESIDE]]
    assert first[:2] == [0, at_mouse] and {tile for _, tile in made[here:]} == set(first)


def test_the_view_is_what_the_canvas_shows(window: Desk) -> None:
    viewer = window.viewer
    layer: Image = window.start(np.zeros((3, 1000, 2000), np.uint8), scale=(5, 2, 2), translate=(0, 7, 9))
    camera = getattr(viewer, "scene", viewer).camera
    camera.center, camera.zoom = (0, 7 + 2 * 300, 9 + 2 * 1500), 4.0
    viewer.window._qt_viewer.canvas.on_draw()
    on_screen = plane_on_screen(viewer, layer)
    view = view_on_screen(viewer, layer, on_screen)
    y0, x0, y1, x1 = view.extent
    assert y0 < 300 < y1 and x0 < 1500 < x1 and y1 - y0 < 300 and x1 - x0 < 400
    assert np.allclose(view.focus, (300, 1500), atol=3)
    viewer.mouse_over_canvas, viewer.cursor.position = True, (0, 7 + 2 * 310, 9 + 2 * 1490)
    assert np.allclose(view_on_screen(viewer, layer, on_screen).focus, (310, 1490))
    viewer.cursor.position = (0, 7, 9)
    assert np.allclose(view_on_screen(viewer, layer, on_screen).focus, (300, 1500), atol=3), "out of view"


def test_the_view_of_a_pyramid_is_in_pixels_of_its_finest_level(window: Desk) -> None:
    levels = [np.zeros((3, 4000 // k, 4000 // k), np.uint8) for k in (1, 2, 4, 8)]
    layer = window.start(levels, multiscale=True, contrast_limits=(0, 255))
    viewer = window.viewer
    camera = getattr(viewer, "scene", viewer).camera
    for zoom in (0.05, 0.3, 2.0):
        camera.center, camera.zoom = (0, 2000, 3000), zoom
        viewer.window._qt_viewer.canvas.on_draw()
        y0, x0, y1, x1 = view_on_screen(viewer, layer, plane_on_screen(viewer, layer)).extent
        assert 0 <= y0 < 2000 < y1 <= 4000 and 0 <= x0 < 3000 < x1 <= 4000
    assert y1 - y0 < 4000


def test_moving_the_mouse_embeds_what_is_under_it(
    window: Desk, monkeypatch: pytest.MonkeyPatch, predictor: Predictor, image: np.ndarray
) -> None:
    monkeypatch.setattr(ahead, "TILES_HERE", 2)
    begin(window, predictor, image)
    wanted = predictor.tiles((SIDE, SIDE)).fitting((1350, 1350, 1351, 1351))
    assert wanted not in encoded(window, MIDDLE)
    window.viewer.mouse_over_canvas, window.viewer.cursor.position = True, (MIDDLE, 1350, 1350)
    window.wait(lambda: wanted in encoded(window, MIDDLE), seconds=60)


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 1, 20000), (2, 20000, 1), (1, 900, 700), (3, 5, 4)])
def test_slices_of_any_shape_are_prepared_and_answered(
    desk: Desk, predictor: Predictor, shape: tuple[int, int, int]
) -> None:
    image = np.full(shape, 9, np.uint8)
    image[:, : shape[1] // 2 + 1, : max(1, shape[2] // 2)] = 200
    begin(desk, predictor, image)
    here = desk.interaction.on_screen().plane
    view = desk.interaction.view()
    assert view.extent == (0, 0, *shape[1:])
    assert 0 < desk.interaction.cache.ready("z", 0, view)[here.index] <= 1
    desk.click(here.index, shape[1] // 2, shape[2] // 2)
    found = desk.interaction.prompting.candidates
    assert found.masks.shape == (3, *shape[1:])
    found.masks[0][:] = True  # drawn weights may see nothing
    assert desk.interaction.accept()
    desk.wait()
    assert (desk.plane(here.index) == 1).all(), "nothing is lost"
