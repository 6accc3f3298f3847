"""The window keeps embeddings beside the image, where that pays, and reads them in the next session."""

from __future__ import annotations

from pathlib import Path

import pytest
import zarr
from napari.layers._source import layer_source

from napari_sam import ahead
from src_core.embedding import Embedding
from src_core.predictor import Predictor
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import balls
from tests.src_core.image_files import chunk_files, write_ome_zarr
from tests.src_core.networks import random_nano


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_ome_zarr(tmp_path / "cells.ome.zarr", [balls()])


def look(desk: Desk, image: Path) -> Embedding:
    """Open an image file and return the embedding of the slice on screen."""
    desk.interaction.ahead.predictor = Predictor(random_nano(), "nano")
    with layer_source(path=str(image)):
        layer = desk.viewer.add_image(zarr.open_array(image / "0", mode="r"))
    desk.interaction.start(layer)
    desk.go(6, 0, 0)
    cache = desk.interaction.cache
    assert cache is not None and PlaneRef("z", 6) in cache
    return cache.get(PlaneRef("z", 6))


def test_the_next_session_reads_what_this_one_embedded(
    desk: Desk, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "pays", lambda _: True)
    assert look(desk, image).made == {0}  # type: ignore[attr-defined]
    home = image.parent / "cells.sam.zarr" / "embeddings"
    assert len(chunk_files(home)) >= 1 + 2 * ahead.NEIGHBOURS
    desk.interaction.ahead.renew(desk.interaction.session, desk.interaction.on_screen())
    assert desk.interaction.cache is not None
    again = desk.interaction.cache.get(PlaneRef("z", 6))
    assert again.made == set()  # type: ignore[attr-defined]


def test_nano_is_not_kept(desk: Desk, image: Path) -> None:
    assert type(look(desk, image)) is Embedding
    assert (image.parent / "cells.sam.zarr" / "labels").exists()
    assert not (image.parent / "cells.sam.zarr" / "embeddings").exists()


def test_embeddings_of_an_array_in_memory_are_not_kept(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "pays", lambda _: True)
    desk.interaction.ahead.predictor = Predictor(random_nano(), "nano")
    desk.start()
    desk.go(6, 0, 0)
    assert desk.interaction.cache is not None and PlaneRef("z", 6) in desk.interaction.cache
    assert list(tmp_path.rglob("labels/objects")) and not list(tmp_path.rglob("embeddings"))
