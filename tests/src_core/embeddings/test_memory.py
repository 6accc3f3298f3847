"""Nothing is computed twice; what is used least is given up first."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from src_core.embeddings import EmbeddingCache
from src_core.predictor import Predictor
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.napari_sam.fakes import Threshold
from tests.src_core.networks import random_nano


def _cache(max_bytes: int = 10**9) -> tuple[EmbeddingCache, Threshold]:
    predictor = Threshold()
    volume = open_volume(np.zeros((8, 16, 16), np.uint8))
    return EmbeddingCache(predictor, volume, max_bytes=max_bytes), predictor


ONE = 16 * 16 * 3
"""Bytes of one plane's picture, which is all that the fake network keeps."""


def test_a_plane_is_embedded_once() -> None:
    cache, predictor = _cache()
    first = cache.get(PlaneRef("z", 3))
    assert cache.get(PlaneRef("z", 3)) is first
    cache.get(PlaneRef("y", 3))
    assert predictor.embedded == [("z", 3), ("y", 3)]
    assert PlaneRef("z", 3) in cache and PlaneRef("z", 4) not in cache
    assert cache.ready("z") == {3: 1} and cache.ready("x") == {}


def test_the_least_recently_used_is_given_up_first() -> None:
    cache, predictor = _cache(max_bytes=3 * ONE)
    for index in (0, 1, 2, 0, 3):  # 0 is used again, so 1 is the oldest
        cache.get(PlaneRef("z", index))
    assert cache.ready("z").keys() == {0, 2, 3}
    cache.get(PlaneRef("z", 1))
    assert predictor.embedded.count(("z", 1)) == 2 and predictor.embedded.count(("z", 0)) == 1


def test_the_latest_always_stays() -> None:
    cache, _ = _cache(max_bytes=1)
    cache.get(PlaneRef("z", 0))
    cache.get(PlaneRef("z", 1))
    assert cache.ready("z").keys() == {1}


def test_the_network_is_loaded_when_the_first_plane_is_asked_for() -> None:
    loaded: list[Threshold] = []

    def load() -> Threshold:
        loaded.append(Threshold())
        return loaded[-1]

    cache = EmbeddingCache(load, open_volume(np.zeros((2, 8, 8), np.uint8)))
    assert not loaded
    cache.get(PlaneRef("z", 0))
    cache.get(PlaneRef("z", 1))
    assert len(loaded) == 1 and cache.predictor is loaded[0]


def test_a_failure_is_not_remembered() -> None:
    cache, predictor = _cache()
    with pytest.raises(ValueError):
        cache.get(PlaneRef("z", 99))
    assert PlaneRef("z", 99) not in cache
    assert cache.get(PlaneRef("z", 1)) is not None and predictor.embedded == [("z", 1)]


@pytest.fixture(scope="module")
def tiled() -> EmbeddingCache:
    """Planes larger than a tile, whose tiles are encoded one by one."""
    image = np.random.default_rng(0).integers(0, 255, (3, 40, 700), np.uint8)
    return EmbeddingCache(Predictor(random_nano()), open_volume(image))


def test_tiles_that_are_encoded_later_count(tiled: EmbeddingCache) -> None:
    first, second = tiled.get(PlaneRef("z", 0)), tiled.get(PlaneRef("z", 1))
    assert len(second.tiles) > 2 and second.nbytes == 0
    second.features(0)
    overview = second.nbytes
    first.features(1)
    tiled.max_bytes = first.nbytes + second.nbytes
    assert tiled.ready("z").keys() == {0, 1}
    features = second.features(1)
    assert tiled.ready("z").keys() == {1}
    assert second.nbytes == overview + sum(f.nbytes for f in features)
    first.features(2)  # nobody counts it any more
    assert tiled.ready("z").keys() == {1}


def test_a_single_plane_gives_up_its_own_tiles(tiled: EmbeddingCache) -> None:
    embedding = tiled.get(PlaneRef("z", 2))
    embedding.features(0)
    tiled.max_bytes = embedding.nbytes + 1
    for tile in range(embedding.tiles.ahead):
        kept = embedding.features(tile)
        assert embedding.features(tile) is kept
    assert embedding.nbytes == embedding.picture.nbytes // 3 + sum(f.nbytes for f in kept)
    tiled.max_bytes = 10**9
    embedding.features(0)
    assert embedding.features(tile) is kept


def test_what_no_prompt_has_asked_for_need_not_be_encoded() -> None:
    volume = open_volume(np.zeros((2, 64, 64), np.uint8))
    for lazily in (False, True):
        embedding = EmbeddingCache(Predictor(random_nano()), volume, lazily=lazily).get(PlaneRef("z", 0))
        assert embedding.tiles.overview_suffices and embedding.has(0) is not lazily


def test_memory_comes_back_as_soon_as_a_cache_is_given_up() -> None:
    cache, _ = _cache()
    embedding = weakref.ref(cache.get(PlaneRef("z", 0)))
    gc.disable()
    try:
        del cache
        assert embedding() is None
    finally:
        gc.enable()
