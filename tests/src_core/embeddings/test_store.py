"""The store on disk: what it holds, what it is asked for, and answers that stay the same."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr

from src_core import EmbeddingStore, Predictor, Prompts, open_volume, samples
from src_core.embedding import Embedding
from src_core.embeddings import EmbeddingCache
from src_core.embeddings.eviction import trim
from src_core.errors import CacheError, PromptError, VolumeError
from src_core.labels import LabelVolume
from src_core.masks import iou
from src_core.model.sam import Features
from src_core.propagation import propagate_to_labels
from src_core.types import PlaneRef
from src_core.volumes import Volume
from src_core.volumes.reading import PlaneReader
from tests.src_core.drawn_weights import PERMISSIVE, small_stack
from tests.src_core.image_files import chunk_files, write_ome_tiff_set, write_ome_zarr
from tests.src_core.model import golden
from tests.src_core.networks import random_nano

N_PLANES = 4


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(random_nano())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_ome_zarr(tmp_path / "cells.ome.zarr", [small_stack(N_PLANES)])


def store_of(image: Path, predictor: Predictor, **options: object) -> EmbeddingStore:
    return EmbeddingStore(predictor, open_volume(image), **options)  # type: ignore[arg-type]


def tiles_of(store: EmbeddingStore) -> list[Path]:
    return chunk_files(store.folder)


def same(a: Features, b: Features) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def long_ago(image: Path) -> None:
    """Let the clock go on, so that the files' times can be trusted."""
    for path in (*image.rglob("*"), image):
        os.utime(path, (time.time() - 1000,) * 2)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the times of files however young."""
    monkeypatch.setattr("src_core.embeddings.stamps.RACY_NS", -(10**12))


def test_only_what_is_asked_for_is_encoded_and_kept(tmp_path: Path, predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 700), np.uint8)
    store = store_of(write_ome_zarr(tmp_path / "wide.ome.zarr", [pixels]), predictor)
    assert not store.exists()
    embedding = store.get(PlaneRef("z", 1))
    assert not store.folder.exists() and embedding.tiles.ahead == 3
    first = embedding.features(2)
    assert len(tiles_of(store)) == 1 and store.exists() and store.stored() == set()
    again = store.get(PlaneRef("z", 1))
    assert same(again.features(2), first) and not again.made
    again.features(0)
    again.features(1)
    assert again.made == {0, 1} and len(tiles_of(store)) == 3 and store.stored() == {1}


def test_the_layout_is_zarr_3_in_float16_one_chunk_a_tile(image: Path, predictor: Predictor) -> None:
    store = store_of(image, predictor)
    features = store.get(PlaneRef("z", 2)).features(0)
    assert store.folder == image.parent / "cells.sam.zarr" / "embeddings"
    group = zarr.open_group(store.folder / store.key().name, mode="r")
    (name,) = group.array_keys()
    array = group[name]
    assert isinstance(array, zarr.Array) and array.metadata.zarr_format == 3
    assert array.dtype == np.float16 and array.shape[:2] == (N_PLANES, 1)
    assert array.chunks == (1, 1, array.shape[2])
    values = np.asarray(array[2, 0])[16:]
    flat = np.concatenate([f.numpy().ravel() for f in features])
    assert np.array_equal(values, flat.astype(np.float16))
    assert array.attrs["shapes"] == [list(f.shape) for f in features]


def test_what_is_just_computed_equals_what_is_read_back(image: Path, predictor: Predictor) -> None:
    exact = predictor.embed(open_volume(image).plane(z=0)).features(0)
    fresh = store_of(image, predictor).get(PlaneRef("z", 0)).features(0)
    read = store_of(image, predictor).get(PlaneRef("z", 0)).features(0)
    assert same(fresh, read) and not same(fresh, exact)
    for f, e in zip(fresh, exact, strict=True):
        assert torch.allclose(f, e, rtol=2**-10, atol=1e-6)


def test_the_same_pixels_in_other_chunks_are_not_encoded_again(tmp_path: Path, predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 300, 600), np.uint8)

    def stored(pixels: np.ndarray, chunks: tuple[int, ...]) -> EmbeddingStore:
        array = zarr.create_array(tmp_path / "cells.zarr", data=pixels, chunks=chunks, overwrite=True)
        volume = open_volume(array, axes="zyx", contrast_limits=(0, 255))
        return EmbeddingStore(predictor, volume, tmp_path / "embeddings")

    first = stored(pixels, (1, 300, 600))
    assert first.fill(stop=2).made == 2
    for chunks in ((12, 64, 64), (5, 7, 600), (1, 300, 600)):
        again = stored(pixels, chunks)
        assert again.key() == first.key() and again.fill(stop=2).made == 0
    assert stored(pixels[::-1], (1, 300, 600)).key() != first.key()


def _iou_after_rounding(predictor: Predictor, volume: Volume, folder: Path) -> float:
    plane = PlaneRef("z" if volume.ndim > 2 else None, 0)
    exact = predictor.embed(volume.plane(z=0))
    EmbeddingStore(predictor, volume, folder).get(plane).features(0)
    stored = EmbeddingStore(predictor, volume, folder).get(plane)
    height, width = exact.shape
    asked = [Prompts([(height * y, width * x)]) for y in (0.3, 0.5, 0.7) for x in (0.3, 0.5, 0.7)]
    asked += [Prompts(box_yxyx=(height * 0.2, width * 0.2, height * 0.6, width * 0.7))]
    pairs = zip(predictor.predict_many(exact, asked), predictor.predict_many(stored, asked), strict=True)
    # The candidates are sorted by score: compare each with the one that has its score.
    masks = [(m, n) for a, b in pairs for m, n in zip(a.masks, b.masks, strict=True)]
    assert 0 not in stored.made and any(m.any() and not m.all() for m, _ in masks)
    return min(iou(m, n) for m, n in masks if m.any() or n.any())


def test_rounding_leaves_masks_of_nano_as_they_are(tmp_path: Path) -> None:
    volume = samples.open_sample("plant_nuclei")
    assert _iou_after_rounding(Predictor.load("nano", "cpu"), volume, tmp_path / "e") > 0.99


@pytest.mark.parametrize("network", ["vit_t", "med2d_b"])
def test_rounding_leaves_masks_of_reference_networks_as_they_are(tmp_path: Path, network: str) -> None:
    volume = open_volume(golden.picture(96, 128, 3))
    predictor = Predictor(golden.load(network))
    assert _iou_after_rounding(predictor, volume, tmp_path / "e") > 0.97


def test_features_beyond_float16_are_used_but_not_kept(image: Path) -> None:
    model = random_nano(5)
    before = model.image_encoder.neck.bias.clone()
    model.image_encoder.neck.bias.add_(1e5)
    try:
        store = store_of(image, Predictor(model))
        features = store.get(PlaneRef("z", 0)).features(0)
        assert float(features[0].min()) > 65504 and store.fill().made == N_PLANES
        assert not tiles_of(store) and store.problem is None
    finally:
        model.image_encoder.neck.bias.copy_(before)


@pytest.mark.parametrize("axis", ["y", "x"])
def test_other_axes_and_times_have_shelves_of_their_own(
    tmp_path: Path, predictor: Predictor, axis: str
) -> None:
    movie = np.stack([small_stack(4, 32), small_stack(4, 32) // 2])
    store = store_of(write_ome_zarr(tmp_path / "m.ome.zarr", [movie], axes="tzyx"), predictor)
    planes = [PlaneRef("z", 1), PlaneRef("z", 1, 1), PlaneRef(axis, 1), PlaneRef(axis, 1, 1)]
    features = [store.get(p).features(0) for p in planes]
    assert len({store.key(p.axis, p.t).name for p in planes}) == 4 == len(tiles_of(store))
    for plane, expected in zip(planes, features, strict=True):
        again = store.get(plane)
        assert same(again.features(0), expected) and not again.made


def test_a_2d_image_has_one_plane(tmp_path: Path, predictor: Predictor) -> None:
    image = write_ome_zarr(tmp_path / "flat.ome.zarr", [small_stack(1)[0]], axes="yx")
    store = store_of(image, predictor)
    assert store.fill(None).made == 1 and store.fill("z").found == 1
    with pytest.raises(VolumeError, match="out of range"):
        store.get(PlaneRef(None, 1))


def test_the_key_tells_what_embeddings_are_made_from(image: Path, predictor: Predictor) -> None:
    pixels = small_stack(N_PLANES)
    key = EmbeddingStore(predictor, open_volume(pixels), "e").key
    names = {
        key().name,
        key("y").name,
        key("z", 1).name,
        EmbeddingStore(Predictor(random_nano(3)), open_volume(pixels), "e").key().name,
        EmbeddingStore(predictor, open_volume(pixels, contrast_limits=(0, 99)), "e").key().name,
        EmbeddingStore(predictor, open_volume(np.where(pixels > 0, pixels, 1)[::-1]), "e").key().name,
        EmbeddingStore(predictor, open_volume(pixels[:, :, :-1]), "e").key().name,
    }
    assert len(names) == 7
    assert EmbeddingStore(predictor, open_volume(image), "e").key().name == key().name


def test_the_fingerprint_reads_little_and_never_the_whole(predictor: Predictor) -> None:
    class Huge:
        shape, dtype, chunks = (5000, 20000, 20000), np.dtype("u2"), (1, 512, 512)
        largest = total = 0

        def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
            block = np.zeros(
                [len(range(*s.indices(n))) for s, n in zip(index, self.shape, strict=True)], "u2"
            )
            Huge.largest, Huge.total = max(Huge.largest, block.size), Huge.total + block.size
            return block

    volume = open_volume(Huge(), contrast_limits=(0, 1))
    EmbeddingStore(predictor, volume, "e").key()
    assert 0 < Huge.largest <= 2**17 and Huge.total <= 16 * 2**17


def test_an_edit_costs_only_the_planes_it_changed(image: Path, predictor: Predictor) -> None:
    limits = {"contrast_limits": (0, 255)}
    before = EmbeddingStore(predictor, open_volume(image, **limits))
    before.fill()
    old = before.get(PlaneRef("z", 1)).features(0)
    array = zarr.open_array(image / "0", mode="r+")
    array[1, 5:40, 5:40] = 255
    after = EmbeddingStore(predictor, open_volume(image, **limits))
    # As if the edit lay in a block that is no part of the fingerprint.
    after._fingerprints = before._fingerprints
    assert after.key() == before.key()
    embeddings = [after.get(PlaneRef("z", i)) for i in range(N_PLANES)]
    features = [e.features(0) for e in embeddings]
    assert [e.made for e in embeddings] == [set(), {0}, set(), set()]
    assert not same(features[1], old)
    assert after.fill().found == N_PLANES


def test_times_of_files_save_reading_the_pixels(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, trusting: None
) -> None:
    store_of(image, predictor).fill()
    store = store_of(image, predictor)
    store.key()
    reads: list[object] = []
    read = PlaneReader.read
    monkeypatch.setattr(PlaneReader, "read", lambda *a, **k: reads.append(k) or read(*a, **k))
    assert store.fill().found == N_PLANES and not reads
    long_ago(image)  # touched: the pixels have to tell, once
    assert store_of(image, predictor).fill().found == N_PLANES and len(reads) == N_PLANES
    assert store_of(image, predictor).fill().found == N_PLANES and len(reads) == N_PLANES


def test_young_files_are_not_trusted(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(image, predictor).fill()
    reads: list[object] = []
    read = PlaneReader.read
    monkeypatch.setattr(PlaneReader, "read", lambda *a, **k: reads.append(k) or read(*a, **k))
    assert store_of(image, predictor).fill().found == N_PLANES and len(reads) == N_PLANES


@pytest.mark.usefixtures("trusting")
def test_an_edit_with_the_old_times_is_found(image: Path, predictor: Predictor) -> None:
    store = EmbeddingStore(predictor, open_volume(image, contrast_limits=(0, 255)))
    store.fill()
    times = {p: p.stat() for p in chunk_files(image)}
    zarr.open_array(image / "0", mode="r+")[2, :20] = 0
    for path, found in times.items():
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    embedding = store.get(PlaneRef("z", 2))
    embedding.features(0)
    assert embedding.made == {0}


@pytest.mark.usefixtures("trusting")
def test_an_edit_in_another_file_of_a_set_is_found(tmp_path: Path, predictor: Predictor) -> None:
    first = write_ome_tiff_set(tmp_path, small_stack(4).astype(np.uint16))
    store = EmbeddingStore(predictor, open_volume(first, contrast_limits=(0, 255)))
    store.fill()
    again = store.get(PlaneRef("z", 3))
    again.features(0)
    assert not again.made
    pixels = tifffile.memmap(tmp_path / "1.ome.tif", page=1, mode="r+")
    pixels[:20] = 0
    pixels.flush()
    os.utime(tmp_path / "1.ome.tif")
    for index, made in ((3, {0}), (0, set())):
        embedding = store.get(PlaneRef("z", index))
        embedding.features(0)
        assert embedding.made == made


def test_filling_a_range_reports_progress_and_goes_on_after_a_stop(image: Path, predictor: Predictor) -> None:
    seen: list[tuple[int, int]] = []
    store = store_of(image, predictor)
    cut = store.fill(start=1, progress=lambda *p: seen.append(p), cancelled=lambda: len(seen) == 2)
    assert (cut.made, cut.found, cut.complete) == (2, 0, False) and seen == [(1, 3), (2, 3)]
    assert store.stored() == {1, 2}
    rest = store_of(image, predictor).fill()
    assert (rest.made, rest.found, rest.complete) == (2, 2, True)
    with pytest.raises(PromptError, match=r"3:9 is not within the planes 0:4"):
        store.fill(start=3, stop=9)


def test_the_least_recently_used_goes_first_whatever_its_key(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src_core.embeddings.eviction.ROOM", 1.0)
    old = store_of(image, predictor)
    old.fill("y", 0, 3)
    first, second, third = sorted(tiles_of(old))
    for n, path in enumerate((first, second, third)):
        os.utime(path, (n + 1, n + 1))
    used = store_of(image, predictor).get(PlaneRef("y", int(first.parts[-3])))
    used.features(0)  # now the second is the oldest
    assert not used.made
    old.fill("z", 0, 1)
    total = sum(p.stat().st_size for p in tiles_of(old))
    of_z = total - sum(p.stat().st_size for p in (first, second, third))
    store = store_of(image, predictor, max_bytes=total + of_z - second.stat().st_size // 2)
    store.get(PlaneRef("z", 0)).features(0)
    assert second.exists()
    store.get(PlaneRef("z", 1)).features(0)
    assert first.exists() and not second.exists() and third.exists() and store.stored() == {0, 1}


def test_the_latest_tile_stays_however_small_the_limit(image: Path, predictor: Predictor) -> None:
    store = store_of(image, predictor, max_bytes=1)
    for z in range(3):
        store.get(PlaneRef("z", z)).features(0)
        assert store.stored() == {z}


def test_half_written_files_of_killed_processes_are_swept_up(image: Path, predictor: Predictor) -> None:
    store = store_of(image, predictor)
    store.fill()
    old, young = (tiles_of(store)[0].with_name(f"0.{name}.partial") for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    trim(store.folder, 10**9)
    assert young.exists() and not old.exists()


def test_propagation_from_the_store_gives_the_same_labels_again(
    image: Path, tmp_path: Path, predictor: Predictor
) -> None:
    volume = open_volume(image)
    prompts = {1: {1: Prompts([(22, 18)]), 2: Prompts(box_yxyx=(28, 24, 44, 42))}}
    plain = propagate_to_labels(predictor, volume, prompts, tmp_path / "a.zarr", settings=PERMISSIVE)
    store = EmbeddingStore(predictor, volume)
    found = []
    for name in ("b", "c"):
        out = tmp_path / f"{name}.zarr"
        propagate_to_labels(
            predictor, volume, prompts, out, settings=PERMISSIVE, embed=store.along("z"), overwrite=True
        )
        found.append(np.asarray(LabelVolume.open(out, "r").array))
        times = [p.stat().st_ino for p in sorted(tiles_of(store))]
    assert store.stored() == set(range(N_PLANES)) and len(times) >= N_PLANES
    assert np.array_equal(found[0], found[1]) and len(np.unique(found[0])) == 3
    assert (found[0] == np.asarray(plain.labels.array)).mean() > 0.99


def test_memory_asks_the_store_before_the_network(image: Path, predictor: Predictor) -> None:
    store_of(image, predictor).fill(stop=2)
    opened: list[EmbeddingStore] = []

    def open_store(network: Predictor) -> EmbeddingStore:
        opened.append(store_of(image, network))
        return opened[-1]

    cache = EmbeddingCache(predictor, open_volume(image), store=open_store)
    first, third = cache.get(PlaneRef("z", 0)), cache.get(PlaneRef("z", 2))
    assert cache.get(PlaneRef("z", 0)) is first and len(opened) == 1 and cache.store is opened[0]
    assert first.made == set() and third.made == {0}  # type: ignore[attr-defined]
    assert opened[0].stored() == {0, 1, 2}
    plain = EmbeddingCache(predictor, open_volume(image), store=lambda _: None).get(PlaneRef("z", 0))
    assert type(plain) is Embedding


def test_a_folder_that_another_process_is_just_making_is_waited_for(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(image, predictor).get(PlaneRef("z", 0)).features(0)
    open_group, failures = zarr.open_group, [2]

    def not_yet(*args: Any, **kwargs: Any) -> Any:
        if failures[0]:
            failures[0] -= 1
            raise FileNotFoundError("the other process has not come so far")
        return open_group(*args, **kwargs)

    monkeypatch.setattr(zarr, "open_group", not_yet)
    assert store_of(image, predictor).stored() == {0} and not failures[0]
    failures[0] = 99
    with pytest.raises(CacheError, match="damaged"):
        store_of(image, predictor).stored()


def test_a_range_that_is_refused_changes_nothing(image: Path, predictor: Predictor) -> None:
    store_of(image, predictor).fill(start=0, stop=2)
    before = sorted(tiles_of(store_of(image, predictor)))
    with pytest.raises(CacheError, match="--max-size"):
        store_of(image, predictor, max_bytes=1).fill(start=2, stop=4)
    assert sorted(tiles_of(store_of(image, predictor))) == before


def test_the_limit_is_remembered_and_whoever_only_reads_keeps_nothing(
    image: Path, predictor: Predictor
) -> None:
    store_of(image, predictor, max_bytes=123 * 10**9).fill(start=0, stop=1)
    again = store_of(image, predictor, keep=False)
    assert again.max_bytes == 123 * 10**9
    before = sorted(tiles_of(again))
    again.get(PlaneRef("z", 2)).features(0)
    assert sorted(tiles_of(again)) == before
