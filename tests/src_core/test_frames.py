"""Between plane and network: coordinates, dense prompts and masks land where they came from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from src_core import frames, painting, tiling
from src_core.model.sam import Sam
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.tiles import Tile
from tests.benchmarks import eager_sam
from tests.src_core.networks import random_nano

SHAPES = [(1, 1), (1, 20000), (3, 700), (64, 100), (128, 128), (300, 201), (512, 512), (700, 900)]


class _Reference(Sam):
    """What `frames` asks a reference network: its input size."""

    def __init__(self, image_size: int = 1024) -> None:
        torch.nn.Module.__init__(self)
        self.register_buffer("pixel_mean", torch.zeros(1))
        self._image_size = image_size

    @property
    def image_size(self) -> int:
        return self._image_size


def _model(native: bool) -> Sam:
    return random_nano() if native else _Reference()


def _tiles(model: Sam, shape: tuple[int, int]) -> tuple[Tile, ...]:
    """The overview and up to eight tiles of each grid."""
    tiles = Predictor(model).tiles(shape)
    grids = [tiles[g.first : g.first + len(g)] for g in tiles.grids]
    return (tiles[0], *(t for g in grids for t in g[:: max(1, len(g) // 8)]))


def _disc(shape: tuple[int, int]) -> NDArray[np.bool_]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    centre, radius = (shape[0] * 0.45, shape[1] * 0.55), min(max(shape) / 5, 60)
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) < radius)


@pytest.mark.parametrize("shape", SHAPES)
def test_nano_tiles_are_padded_to_what_the_encoder_can_halve(shape: tuple[int, int]) -> None:
    model = random_nano()
    for tile in _tiles(model, shape):
        frame = frames.frame_shape(model, tile)
        assert all(n % 32 == 0 and 32 <= n <= 512 for n in frame)
        assert all(0 <= f - n < 32 for f, n in zip(frame, tile.input_hw, strict=True))
        assert frames.low_res_shape(model, tile) == (frame[0] // 2, frame[1] // 2)
        y0, x0, y1, x1 = frames.window(model, tile)
        assert (y0, x0) == (tile.y0, tile.x0)
        assert y1 >= tile.y1 - 1e-9
        assert x1 >= tile.x1 - 1e-9


def test_reference_frames_are_square_whatever_the_plane() -> None:
    model = _Reference()
    tile = tiling.whole((100, 400), 1024)
    assert frames.frame_shape(model, tile) == (1024, 1024)
    assert frames.low_res_shape(model, tile) == (256, 256)
    assert frames.window(model, tile) == (0, 0, 400, 400)


@pytest.mark.parametrize("shape", [(64, 100), (128, 128), (1, 1), (3, 700)])
def test_the_middle_of_a_pixel_stays_its_middle_for_nano(shape: tuple[int, int]) -> None:
    model = random_nano()
    overview = _tiles(model, shape)[0]
    last = (shape[0] - 1, shape[1] - 1)
    found = frames.points([Prompts([(0, 0), last], [1, 0])], overview, model)
    assert found is not None
    coords, labels = found
    assert coords.dtype == torch.float32
    assert labels.tolist() == [[1, 0]]
    (x0, y0), (x1, y1) = coords[0].double().numpy() + 0.5  # as the prompt encoder reads them
    zoom_y, zoom_x = overview.zoom_yx
    assert (x0, y0) == pytest.approx((zoom_x / 2, zoom_y / 2), abs=1e-4)
    height, width = overview.input_hw
    assert (width - x1, height - y1) == pytest.approx((zoom_x / 2, zoom_y / 2), abs=1e-3)


def test_points_and_boxes_of_a_native_tile_only_move() -> None:
    model = random_nano()
    tiles = tiling.tiled((700, 900), 512)
    tile = tiles[tiles.native[5]]
    found = frames.points([Prompts([(400, 500)])], tile, model)
    boxes = frames.boxes([Prompts(box_yxyx=(400, 500, 420, 540))], tile, model.device)
    assert found is not None
    assert boxes is not None
    assert found[0].tolist() == [[[500 - tile.x0, 400 - tile.y0]]]
    assert boxes.tolist() == [[500 - tile.x0, 400 - tile.y0, 540 - tile.x0, 420 - tile.y0]]
    assert frames.points([Prompts(box_yxyx=(0, 0, 1, 1))], tile, model) is None
    assert frames.boxes([Prompts([(0, 0)])], tile, model.device) is None


def test_reference_points_are_multiplied_and_nothing_else() -> None:
    found = frames.points([Prompts([(10, 20)])], tiling.whole((128, 64), 1024), _Reference())
    assert found is not None
    assert found[0].tolist() == [[[160, 80]]]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_comes_back_from_its_dense_prompt(shape: tuple[int, int], native: bool) -> None:
    model = _model(native)
    mask = _disc(shape)
    for tile in _tiles(model, shape):
        low_res = frames.low_res_shape(model, tile)
        logits = frames.mask_to_logits(mask, tile, frames.window(model, tile), low_res)
        assert logits.shape == low_res
        assert np.abs(logits).max() <= frames.BOOL_LOGIT + 1e-4
        back = painting.upscale(model, torch.from_numpy(logits)[None, None], tile)[0, 0].numpy() > 0
        part = mask[tile.y0 : tile.y1, tile.x0 : tile.x1]
        assert back.shape == part.shape
        # A low-resolution pixel covers this many pixels of the plane: more cannot be asked of the outline.
        coarse = [max(1.0, frames.LOW_RES[native] / zoom) for zoom in tile.zoom_yx]
        edge = np.zeros_like(part)
        for axis in (0, 1):
            edge |= np.diff(part, axis=axis, append=np.take(part, [-1], axis)) != 0
        allowed = 1.2 * edge.sum() * max(coarse) * 0.5
        assert np.count_nonzero(back != part) <= allowed


@pytest.mark.parametrize("native", [True, False])
def test_the_outline_is_not_shifted(native: bool) -> None:
    model = _model(native)
    mask = np.zeros((128, 128), bool)
    mask[40:80, 30:90] = True
    for tile in _tiles(model, mask.shape):
        window, low_res = frames.window(model, tile), frames.low_res_shape(model, tile)
        logits = frames.mask_to_logits(mask, tile, window, low_res)
        back = painting.upscale(model, torch.from_numpy(logits)[None, None], tile)[0, 0].numpy() > 0
        wrong = np.argwhere(back != mask[tile.y0 : tile.y1, tile.x0 : tile.x1]).tolist()
        assert not wrong or wrong == [[40, 30], [40, 89], [79, 30], [79, 89]], "corners may be rounded"


def _smooth_logits(shape: tuple[int, int]) -> NDArray[np.float32]:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(6 - 0.3 * np.hypot(y - shape[0] / 2, x - shape[1] / 2), np.float32)


def test_logits_moved_to_another_window_and_back_are_the_same_logits() -> None:
    own, other = (0.0, 0.0, 128.0, 128.0), (-32.0, -64.0, 160.0, 192.0)
    logits = _smooth_logits((64, 64))
    moved = frames.resample_logits(logits, own, other, (192, 256))
    back = frames.resample_logits(moved, other, own, (64, 64))
    assert np.abs(back - logits)[2:-2, 2:-2].max() < 0.15
    assert moved[:20].max() == moved[:, :40].max() == -frames.BOOL_LOGIT
    assert moved.argmax() == np.ravel_multi_index((96, 128), moved.shape)


def test_logits_stay_as_they_are_in_their_own_window() -> None:
    logits = _smooth_logits((8, 8))
    window = (0.0, 0.0, 16.0, 16.0)
    assert frames.resample_logits(logits, window, window, (8, 8)) is logits
    assert frames.resample_logits(logits, window, window, (16, 16)).shape == (16, 16)


@pytest.mark.parametrize("shape", [(100, 90), (96, 96), (192, 200), (40, 30)])
def test_logits_reach_the_rim_of_their_window_and_end_there(shape: tuple[int, int]) -> None:
    logits, window = np.ones((96, 96), np.float32), (0.0, 0.0, 100.0, 90.0)
    assert np.allclose(frames.resample_logits(logits, window, window, shape), 1)
    beyond = frames.resample_logits(logits, window, (0, 0, 200, 180), (2 * shape[0], 2 * shape[1]))
    assert np.count_nonzero(beyond > 0) == shape[0] * shape[1]


def test_logits_shifted_by_whole_pixels_are_copied_exactly() -> None:
    logits = _smooth_logits((32, 32))
    moved = frames.resample_logits(logits, (0, 0, 64, 64), (10, 20, 74, 84), (32, 32))
    np.testing.assert_allclose(moved[:27, :22], logits[5:, 10:], atol=1e-5)
    assert (moved[27:] == -frames.BOOL_LOGIT).all()
    assert (moved[:, 22:] == -frames.BOOL_LOGIT).all()


def test_low_resolution_extents_map_to_pixels_of_the_plane() -> None:
    assert frames.to_plane((0, 0, 8, 16), (8, 16), (10, 20, 30, 40)) == (10, 20, 30, 40)
    assert frames.to_plane((2, 4, 4, 8), (8, 16), (0, 0, 8, 32)) == (2, 8, 4, 16)


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (1, 20000), (33, 65)])
def test_every_tile_can_be_encoded(shape: tuple[int, int]) -> None:
    model = random_nano()
    picture = np.full((*shape, 3), 100, np.uint8)
    for tile in _tiles(model, shape)[:2]:
        embedding, high4, high2 = frames.encode(model, picture[tile.y0 : tile.y1, tile.x0 : tile.x1], tile)
        height, width = frames.frame_shape(model, tile)
        assert embedding.shape == (1, 96, height // 8, width // 8)
        assert high4.shape[-2:] == (height // 4, width // 4)
        assert high2.shape[-2:] == (height // 2, width // 2)
        assert all(f.isfinite().all() for f in (embedding, high4, high2))


@pytest.mark.parametrize(("native", "rim"), [(True, 1.0), (False, 0.0)])
def test_padding_is_the_rim_for_nano_and_zero_for_the_others(native: bool, rim: float) -> None:
    seen: list[torch.Tensor] = []

    class Watched(_Reference):
        native_tiles = native

        def normalise(self, image: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(image)

        def encode(self, image: torch.Tensor) -> Any:
            seen.append(image)
            return ()

    frames.encode(Watched(), np.zeros((10, 20, 3), np.uint8), Tile(0, 0, 10, 20, (40, 80)))
    assert seen[0].shape[-2:] == ((64, 96) if native else (1024, 1024))
    assert (seen[0][..., :40, :80] == 1).all()
    assert (seen[0][..., 40:, :] == rim).all()
    assert (seen[0][..., 80:] == rim).all()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", [(128, 128), (64, 100), (700, 900)])
def test_equal_logits_stay_equal_up_to_the_rim(shape: tuple[int, int], native: bool) -> None:
    model = _model(native)
    for tile in _tiles(model, shape):
        logits = torch.full((1, 2, *frames.low_res_shape(model, tile)), 3.0)
        torch.testing.assert_close(
            painting.upscale(model, logits, tile), torch.full((1, 2, *tile.shape), 3.0)
        )


@pytest.mark.parametrize("shape", [(600, 800), (17, 1024), (1000, 3), (333, 512), (1, 1), (1500, 2048)])
@pytest.mark.parametrize("size", [256, 1024])
def test_logits_are_enlarged_as_with_the_padding(shape: tuple[int, int], size: int) -> None:
    low = torch.randn(2, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    tile = tiling.whole(shape, size)
    out = painting.upscale(_Reference(size), low, tile)
    expected = eager_sam.upscale(low, size, tile.input_hw, shape)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_nanos_logits_are_interpolated_in_one_step_up_to_the_rim(shape: tuple[int, int]) -> None:
    model = random_nano()
    for tile in _tiles(model, shape):
        low_res = frames.low_res_shape(model, tile)
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 3, *low_res[::-1], generator=generator).transpose(2, 3)
        found = painting.upscale(model, logits, tile)
        torch.testing.assert_close(found, _bordered(logits, tile), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20000), (300, 201), (1500, 1100)])
def test_masks_are_what_is_foreground_of_all_the_logits(
    shape: tuple[int, int], native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they lie, although only what is around them is enlarged."""
    model = _model(native)
    rng = np.random.default_rng(0)
    enlarged: list[bool] = []
    large = painting._is_large
    monkeypatch.setattr(painting, "_is_large", lambda *a: enlarged.append(large(*a)) or enlarged[-1])
    for tile in _tiles(model, shape)[::4]:
        height, width = frames.low_res_shape(model, tile)
        used = [max(1, round(n * z)) for n, z in zip(tile.shape, tile.zoom_yx, strict=True)]
        used = [
            min(size, -(-n // frames.LOW_RES[native])) for n, size in zip(used, (height, width), strict=True)
        ]
        spots = [(0, 0), (used[0] - 1, used[1] - 1), (used[0] // 2, used[1] // 3), (height - 1, width - 1)]
        for size in (1, 30, 1000):
            for y, x in spots:
                logits = -rng.random((height, width)).astype(np.float32)
                here = slice(max(0, y - size), y + size), slice(max(0, x - size), x + size)
                logits[here] = rng.normal(size=logits[here].shape)
                low = torch.from_numpy(logits)
                whole = painting.upscale(model, low[None, None], tile)[0, 0].numpy()
                mask = np.zeros(tile.shape, bool)
                painting.paint(model, low, tile, mask)
                assert not (mask != (whole > 0))[np.abs(whole) > 1e-5].any()
    assert not all(enlarged)


def test_an_empty_mask_is_not_enlarged() -> None:
    model = _Reference()
    tile = tiling.whole((300, 200), 1024)
    mask = np.zeros(tile.shape, bool)
    painting.paint(model, torch.full(frames.low_res_shape(model, tile), -1.0), tile, mask)
    assert not mask.any()


def _bordered(logits: torch.Tensor, tile: Tile) -> Any:
    """The same by the function that torch has for it."""
    places = [
        (torch.arange(n) + 0.5) * zoom / size - 1
        for n, zoom, size in zip(tile.shape, tile.zoom_yx, logits.shape[-2:], strict=True)
    ]
    grid = torch.stack(torch.meshgrid(places[1], places[0], indexing="xy"), dim=-1)
    grid = grid.expand(len(logits), -1, -1, -1)
    return torch.nn.functional.grid_sample(
        logits, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
