"""Whatever is wrong with the place or the files: a clear error or the same answer, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from src_core import EmbeddingStore, Predictor, open_volume
from src_core.embeddings.location import embeddings_beside, embeddings_folder
from src_core.errors import CacheError
from src_core.types import PlaneRef
from tests.src_core.drawn_weights import small_stack
from tests.src_core.embeddings.test_store import N_PLANES, image, predictor, same, store_of, tiles_of
from tests.src_core.image_files import write_ome_zarr

__all__ = ["image", "predictor"]
LIMITED = """
import resource, signal, sys
from pathlib import Path
from src_core import CacheError, Predictor
from tests.src_core.embeddings.test_store import store_of
from tests.src_core.networks import random_nano
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = store_of(Path(sys.argv[1]), Predictor(random_nano()))
store.key()
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    store.fill()
except CacheError as error:
    print("refused", error)
"""


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _foreign(path: Path) -> None:
    path.write_bytes(b"not a chunk" * 100)


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _foreign])
def test_a_damaged_chunk_is_made_again(
    image: Path, predictor: Predictor, damage: Callable[[Path], None]
) -> None:
    store = store_of(image, predictor)
    features = [store.get(PlaneRef("z", i)).features(0) for i in range(N_PLANES)]
    damage(tiles_of(store)[2])
    again = [store_of(image, predictor).get(PlaneRef("z", i)) for i in range(N_PLANES)]
    assert all(same(e.features(0), f) for e, f in zip(again, features, strict=True))
    assert sorted(len(e.made) for e in again) == [0, 0, 0, 1]
    assert store_of(image, predictor).fill().found == N_PLANES


def _metadata(store: EmbeddingStore, change: Callable[[dict[str, object]], object]) -> None:
    path = store.folder / store.key().name / "zarr.json"
    content = json.loads(path.read_text())
    change(content["attributes"]["napari-sam embeddings"])
    path.write_text(json.dumps(content))


def test_a_store_of_another_version_is_refused(image: Path, predictor: Predictor) -> None:
    store = store_of(image, predictor)
    store.fill()
    _metadata(store, lambda attributes: attributes.update(version=7))
    with pytest.raises(CacheError, match="embeddings of version 7, this is version 2; delete it"):
        store_of(image, predictor).get(PlaneRef("z", 0))
    assert len(tiles_of(store)) == N_PLANES


def test_a_store_of_something_else_is_refused_with_the_reason(image: Path, predictor: Predictor) -> None:
    store = store_of(image, predictor)
    store.fill()
    _metadata(store, lambda attributes: attributes.update(weights="other", t=3))
    with pytest.raises(CacheError, match=r"something else \(weights other, expected .*; t 3, expected 0\)"):
        store_of(image, predictor).get(PlaneRef("z", 0))


@pytest.mark.parametrize("content", [b"{", b"", b"[]"])
def test_damaged_metadata_is_refused_and_kept(image: Path, predictor: Predictor, content: bytes) -> None:
    store = store_of(image, predictor)
    store.fill()
    (store.folder / store.key().name / "zarr.json").write_bytes(content)
    with pytest.raises(CacheError, match="does not hold embeddings, or its metadata is damaged"):
        store_of(image, predictor).get(PlaneRef("z", 0))
    assert len(tiles_of(store)) == N_PLANES


def test_damaged_metadata_of_an_array_does_not_stop_anybody(image: Path, predictor: Predictor) -> None:
    store = store_of(image, predictor)
    expected = store.get(PlaneRef("z", 0)).features(0)
    (tiles_of(store)[0].parents[3] / "zarr.json").write_bytes(b"{")
    broken = store_of(image, predictor)
    assert same(broken.get(PlaneRef("z", 0)).features(0), expected)
    assert "delete" in str(broken.problem)


def test_a_folder_that_is_something_else_is_refused(
    image: Path, predictor: Predictor, tmp_path: Path
) -> None:
    before = sorted(image.rglob("*"))
    (tmp_path / "file").write_text("x")
    for folder, words in (
        (image, "zarr image"),
        (image / "0", "zarr image"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(CacheError, match=words):
            store_of(image, predictor, folder=folder)
    with pytest.raises(CacheError, match="on this computer"):
        store_of(image, predictor, folder="s3://bucket/embeddings")
    assert sorted(image.rglob("*")) == before


def test_an_array_in_memory_has_no_place_of_its_own(predictor: Predictor, tmp_path: Path) -> None:
    volume = open_volume(small_stack(N_PLANES))
    with pytest.raises(CacheError, match="--embeddings FOLDER"):
        EmbeddingStore(predictor, volume)
    store = EmbeddingStore(predictor, volume, tmp_path / "e")
    assert store.fill().made == N_PLANES and store.fill().found == N_PLANES


def test_an_image_in_a_read_only_folder_has_its_place_in_the_users_cache(
    image: Path, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = embeddings_folder(open_volume(image))
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != image.parent and access(p, mode))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    elsewhere = embeddings_folder(open_volume(image))
    assert elsewhere != beside and elsewhere.is_relative_to(tmp_path / "cache")
    beside.mkdir(parents=True)  # of somebody who could write there: read them
    assert embeddings_folder(open_volume(image)) == beside
    # The window keeps them in the same place, beside the labels it writes.
    assert embeddings_beside(image.parent / "cells.sam.zarr" / "labels" / "objects") == beside
    assert embeddings_beside(image / "labels" / "objects") is None


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), OSError(30, "Read-only file system")]
)
def test_a_folder_that_cannot_be_written_to_is_still_read(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    store_of(image, predictor).fill(stop=2)
    real = Path.open

    def refuse(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        if "w" in mode and "sam.zarr" in str(self):
            raise error
        return real(self, mode, *args, **options)  # type: ignore[call-overload]

    def refuse_times(*args: object) -> None:
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(os, "utime", refuse_times)
    store = store_of(image, predictor)
    embeddings = [store.get(PlaneRef("z", i)) for i in range(N_PLANES)]
    exact = [predictor.embed(open_volume(image).plane(z=i)).features(0) for i in range(N_PLANES)]
    for embedding, features in zip(embeddings, exact, strict=True):
        assert np.allclose(embedding.features(0)[0], features[0], atol=1e-2)
    assert [len(e.made) for e in embeddings] == [0, 0, 1, 1] and store.stored() == {0, 1}
    assert store.problem is not None and error.strerror in str(store.problem)
    with pytest.raises(CacheError, match=error.strerror):
        store_of(image, predictor).fill()
    assert not list(store.folder.rglob("*.partial"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the size of files")
def test_a_write_that_the_system_breaks_off_leaves_nothing(image: Path, predictor: Predictor) -> None:
    """A real short write: the system refuses to let a file grow beyond half a tile."""
    store = store_of(image, predictor)
    store.fill(stop=1)
    size = tiles_of(store)[0].stat().st_size
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(image), str(size // 2)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith("refused") and "File too large" in found.stdout, (
        found.stdout + found.stderr
    )
    assert len(tiles_of(store)) == 1 and not list(store.folder.rglob("*.partial"))
    rest = store_of(image, predictor).fill()
    assert (rest.found, rest.made) == (1, N_PLANES - 1)


def test_a_range_that_will_not_fit_is_refused_after_the_first_tile(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CacheError, match=r"planes 0 to 3 along z take about .* but the limit is 0.0004 GB"):
        store_of(image, predictor, max_bytes=400_000).fill()
    usage = shutil.disk_usage(image)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    store = store_of(image, predictor)
    shutil.rmtree(store.folder)
    with pytest.raises(CacheError, match="but the disk has"):
        store.fill()
    assert len(tiles_of(store)) == 0


@pytest.mark.parametrize("shape", [(1, 48, 48), (3, 1, 1), (2, 1, 20000), (2, 5, 7)])
def test_odd_shapes(tmp_path: Path, predictor: Predictor, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    path = write_ome_zarr(tmp_path / "odd.ome.zarr", [pixels])
    store = store_of(path, predictor)
    made = store.fill(stop=1).made
    again = store_of(path, predictor)
    assert again.fill(stop=1).found == made == predictor.tiles(shape[1:]).ahead
    assert isinstance(zarr.open_group(store.folder / store.key().name, mode="r"), zarr.Group)
