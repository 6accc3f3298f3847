"""A tile reads its part of a plane, from the pyramid level that suffices, and nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from PIL import Image

from src_core import EmbeddingStore, tiling
from src_core.embeddings.stamps import stamp
from src_core.errors import VolumeError
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume
from src_core.volumes.contrast import MAX_BLOCKS
from tests.src_core.image_files import chunk_files, write_ome_zarr
from tests.src_core.networks import random_nano


class Chunked:
    """A lazy array of one value with chunks, that counts the chunks decoded to serve what is asked."""

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...], value: int = 7) -> None:
        self.shape, self.chunks, self.dtype, self.value = shape, chunks, np.dtype(np.uint8), value
        self.decoded: set[tuple[int, ...]] = set()

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        spans = [
            range(*(slice(i, i + 1) if isinstance(i, int) else i).indices(n))
            for i, n in zip(index, self.shape, strict=True)
        ]
        parts = [sorted({p // side for p in span}) for span, side in zip(spans, self.chunks, strict=True)]
        self.decoded |= {
            tuple(int(v) for v in at) for at in np.stack(np.meshgrid(*parts), -1).reshape(-1, len(parts))
        }
        kept = [len(s) for s, i in zip(spans, index, strict=True) if isinstance(i, slice)]
        return np.full(kept, self.value, np.uint8)


def _big(*coarser: int) -> tuple[Volume, list[Chunked]]:
    """500 x 2048 x 2048 in chunks of 64 x 256 x 256, and levels shrunk along all axes."""
    levels = [Chunked((500 // k, 2048 // k, 2048 // k), (64, 256, 256), 7 * k) for k in (1, *coarser)]
    return open_volume(levels, axes="zyx", contrast_limits=(0, 255)), levels


def test_a_native_tile_reads_its_own_chunks_only() -> None:
    volume, (fine,) = _big()
    predictor = Predictor(random_nano())
    embedding = predictor.embed(volume.plane_at(PlaneRef("z", 250)))
    assert not fine.decoded
    index = embedding.tiles.fitting((1000, 1000, 1001, 1001))
    embedding.features(index)
    tile = embedding.tiles[index]
    assert tile.zoom_yx == (1, 1)
    rows = set(range(tile.y0 // 256, (tile.y1 - 1) // 256 + 1))
    columns = set(range(tile.x0 // 256, (tile.x1 - 1) // 256 + 1))
    assert fine.decoded == {(3, r, c) for r in rows for c in columns}
    assert len(fine.decoded) <= 9 < 64
    assert embedding.nbytes == sum(f.nbytes for f in embedding.features(index))  # no pixels are kept


def test_the_overview_and_coarse_tiles_read_nothing_of_the_finest_level() -> None:
    volume, (fine, half, quarter, eighth) = _big(2, 4, 8)
    embedding = Predictor(random_nano()).embed(volume.plane_at(PlaneRef("z", 251)))
    embedding.features(0)
    assert not fine.decoded and not half.decoded and not eighth.decoded
    assert quarter.decoded == {(0, r, c) for r in range(2) for c in range(2)}  # z = 251 // 4
    coarse = embedding.tiles.fitting((100, 100, 800, 800))
    assert embedding.tiles.zoom(coarse) == 0.5
    embedding.features(coarse)
    assert not fine.decoded and half.decoded and {at[0] for at in half.decoded} == {1}  # 251 // 2 // 64
    embedding.features(embedding.tiles.fitting((300, 300, 310, 310)))
    assert len(fine.decoded) <= 9


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_the_overview_of_a_reference_network_is_read_at_its_input_size(axis: str) -> None:
    volume, levels = _big(2, 4)
    plane = volume.plane_at(PlaneRef(axis, 100))
    tile = tiling.tiled(plane.shape, 1024, float("inf")).overview
    part, where = plane.rgb8_part(tile.box, tile.input_hw)
    assert part.shape[:2] == tuple(n // 2 for n in plane.shape) and where == (0, 0, *part.shape[:2])
    assert (part == 14).all() and not levels[0].decoded and not levels[2].decoded


def test_a_plane_in_one_chunk_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 600, 1000), np.uint8)
    volume = open_volume(write_ome_zarr(tmp_path / "a.zarr", [pixels]), contrast_limits=(0, 255))
    reads: list[Any] = []
    get = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda a, i: reads.append(i) or get(a, i))
    plane = volume.plane_at(PlaneRef("z", 1))
    for box in ((0, 0, 512, 512), (88, 488, 600, 1000)):
        part, where = plane.rgb8_part(box, (512, 512))
        np.testing.assert_array_equal(part[..., 0], pixels[1, box[0] : box[2], box[1] : box[3]])
        assert where == (0, 0, 512, 512)
    assert len(reads) == 1 and plane.nbytes == 600 * 1000


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_parts_are_those_of_the_picture(axis: str) -> None:
    data = np.random.default_rng(1).integers(0, 4000, (2, 20, 30, 40)).astype(np.uint16)
    volume = open_volume(data, axes="czyx", channel=1)
    eager, lazy = volume.plane(**{axis: 5}), volume.plane_at(PlaneRef(axis, 5))
    picture = eager.rgb8()
    for plane in (eager, lazy):
        part, where = plane.rgb8_part((2, 3, 9, 14), (7, 11))
        np.testing.assert_array_equal(part, picture[2:9, 3:14])
        assert where == (0, 0, 7, 11)


def test_a_rectangle_between_the_pixels_of_a_coarse_level_keeps_its_place() -> None:
    fine = np.zeros((1, 901, 1203), np.uint8)
    fine[0, 333:477, 500:801] = 200
    coarse = np.asarray(Image.fromarray(fine[0]).resize((401, 300), Image.Resampling.BOX))[None]
    plane = open_volume([fine, coarse], axes="zyx", contrast_limits=(0, 255)).plane_at(PlaneRef("z", 0))
    box = (301, 406, 601, 1006)
    part, where = plane.rgb8_part(box, (100, 200))
    assert part.shape[0] <= 102  # not the 300 rows of the finer level
    y0, x0, y1, x1 = where
    seen = Image.fromarray(part[..., 0]).resize((200, 100), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))
    exact = Image.fromarray(fine[0, 301:601, 406:1006]).resize((200, 100), Image.Resampling.BILINEAR)
    wrong = (np.asarray(seen) > 100) != (np.asarray(exact) > 100)
    assert np.count_nonzero(wrong) <= 100  # the outline, 296 pixels long, moves by a fraction of a pixel


def test_levels_that_show_something_else_are_passed_over() -> None:
    fine = np.zeros((2, 4, 64, 64), np.uint16)
    for other in (fine[:1, :, ::2, ::2], fine[:, :, ::2, ::2].astype(np.float32)):
        plane = open_volume([fine, other], axes="czyx", contrast_limits=(0, 1)).plane_at(PlaneRef("z", 0))
        assert plane.reader.level_for((0, 0, 64, 64), (16, 16)) == 0
    plane = open_volume([fine, fine[:, :, ::2, ::2]], axes="czyx").plane_at(PlaneRef("z", 0))
    assert plane.reader.level_for((0, 0, 64, 64), (16, 16)) == 1
    assert plane.reader.level_for((0, 0, 64, 64), (33, 33)) == 0


def test_a_pyramid_is_a_list_of_arrays_finest_first() -> None:
    fine = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
    volume = open_volume([fine, fine[:, ::2, ::2]], scale=[3, 1, 1])
    assert volume.levels == ((4, 6, 8), (4, 3, 4)) and volume.axes == ("z", "y", "x")
    assert dict(open_volume([fine, fine[:, ::2, ::2]], level=1, scale=[3, 1, 1]).scale) == {
        "z": 3,
        "y": 2,
        "x": 2,
    }
    with pytest.raises(VolumeError, match="finest first"):
        open_volume([fine[:, ::2, ::2], fine])
    with pytest.raises(VolumeError, match="number of dimensions"):
        open_volume([fine, fine[0]])
    for nothing in ([], [[1, 2], [3, 4]], [fine, None]):
        with pytest.raises(VolumeError, match="type list"):
            open_volume(nothing)


def test_contrast_is_estimated_from_the_coarsest_level_that_says_enough() -> None:
    levels = [Chunked((500 // k, 2048 // k, 2048 // k), (64, 64, 64), 7 * k) for k in (1, 2, 4, 8)]
    assert open_volume(levels, axes="zyx").contrast_limits_of() == (56, 57)
    assert [bool(a.decoded) for a in levels] == [False, False, False, True]
    alone = Chunked((500, 2048, 2048), (64, 64, 64))
    assert open_volume(alone, axes="zyx").contrast_limits_of() == (7, 8)
    assert len(alone.decoded) <= MAX_BLOCKS


def test_the_stamp_is_that_of_the_level_that_is_read(tmp_path: Path) -> None:
    fine = np.random.default_rng(2).integers(0, 255, (2, 64, 64), np.uint8)
    image = write_ome_zarr(tmp_path / "a.ome.zarr", [fine, fine[:, ::2, ::2]])
    for path in image.rglob("*"):
        os.utime(path, (time.time() - 1000,) * 2)
    time.sleep(2.1)
    plane = open_volume(image).plane_at(PlaneRef("z", 1))
    stamps = [stamp(plane, image, level) for level in (0, 1)]
    assert None not in stamps and stamps[0] != stamps[1]
    coarse = next(p for p in chunk_files(image / "1") if "/c/1/" in p.as_posix())
    os.utime(coarse, (time.time() - 500,) * 2)
    time.sleep(2.1)
    assert stamp(plane, image, 0) == stamps[0]
    assert stamp(plane, image, 1) not in (None, stamps[1])


def test_the_store_notices_an_edit_of_the_level_a_tile_was_read_from(tmp_path: Path) -> None:
    fine = np.random.default_rng(3).integers(0, 255, (1, 700, 1400), np.uint8)
    image = write_ome_zarr(tmp_path / "a.ome.zarr", [fine, fine[:, ::2, ::2]])
    predictor = Predictor(random_nano())
    volume = open_volume(image, contrast_limits=(0, 255))
    native = EmbeddingStore(predictor, volume).get(PlaneRef("z", 0)).tiles.fitting((300, 300, 310, 310))
    first = EmbeddingStore(predictor, volume).get(PlaneRef("z", 0))
    first.features(0)
    first.features(native)
    zarr.open_group(image, mode="r+")["1"][:, :50] = 9  # type: ignore[index]
    again = EmbeddingStore(predictor, open_volume(image, contrast_limits=(0, 255))).get(PlaneRef("z", 0))
    again.features(native)
    assert not again.made
    again.features(0)
    assert again.made == {0}


SHAPES = [(1, 1, 1), (1, 40, 50), (3, 1, 20000), (3, 20000, 1), (1, 30, 2), (2, 100, 100)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_thin_and_tiny_volumes_are_answered(shape: tuple[int, int, int], axis: str) -> None:
    data = np.random.default_rng(4).integers(0, 255, shape, np.uint8)
    volume = open_volume(data, axes="zyx")
    predictor = Predictor(random_nano())
    plane = volume.plane_at(PlaneRef(axis, shape["zyx".index(axis)] - 1))
    embedding = predictor.embed(plane)
    height, width = plane.shape
    corner = Prompts([(height - 1, width - 1)])
    box = Prompts(box_yxyx=(0, 0, height, width))
    mask = np.zeros(plane.shape, bool)
    mask[-1, -1] = True
    for found in predictor.predict_many(embedding, [corner, box, Prompts(mask=mask)]):
        assert found.masks.shape[1:] == plane.shape and np.isfinite(found.logits).all()
        same = predictor.mask_of(found.logits[0], found.window, plane.shape)
        np.testing.assert_array_equal(same, found.masks[0])
    with pytest.raises(VolumeError, match="out of range"):
        volume.plane_at(PlaneRef(axis, max(shape)))
