"""A session on a small image gives labels on a large one: finer ones, where a network has something to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi

from src_core.embeddings import EmbeddingCache
from src_core.errors import CheckpointError, SessionError
from src_core.labels import LabelVolume
from src_core.prompts import Prompts
from src_core.session import Session, open_session, relabel
from src_core.session_propagation import propagate_session
from src_core.session_rescaled import Sizes, replay_larger
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume
from tests.napari_sam.fakes import Threshold, balls

LARGE = ndi.zoom(balls().astype(np.float32), 2, order=1, grid_mode=True, mode="nearest").astype(np.uint8)
TRUTH = LARGE > 100
LEFT = TRUTH & (np.indices(TRUTH.shape)[2] < 64)
RIGHT = TRUTH & ~LEFT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cells.sam.zarr"


@pytest.fixture
def session(folder: Path) -> Any:
    session = open_session(open_volume(balls()), folder)
    yield session
    session.close()


def _accept(
    session: Session, cache: EmbeddingCache, plane: PlaneRef, identity: int, yx: tuple[int, int]
) -> None:
    found = cache.predictor.predict(cache.get(plane), Prompts([yx]), multimask=True)
    about = {"model": "nano", "channel": None, "points": [yx], "labels": [1], "box": None, "candidate": 0}
    session.select(identity)
    session.accept(plane, found.masks[0], identity, about)


def _replayed(folder: Path, out: Path, volume: Volume | None = None) -> np.ndarray:
    asked: list[str] = []

    def load(name: str) -> Threshold:
        asked.append(name)
        return Threshold()

    found = replay_larger(folder, volume or open_volume(LARGE), out, load=load)
    assert set(asked) <= {"nano"}
    return np.asarray(found.labels.array[:])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_masks_of_clicks_and_propagation_become_finer_on_the_larger_image(
    session: Session, folder: Path
) -> None:
    cache = EmbeddingCache(Threshold(), session.volume)
    _accept(session, cache, PlaneRef("z", 6), 1, (16, 16))
    _accept(session, cache, PlaneRef("z", 6), 2, (30, 46))
    for _ in propagate_session(session, cache, [1, 2], axis="z"):
        pass
    session.flush()
    found = _replayed(folder, folder.parent / "large.zarr")
    coarse = np.kron(np.asarray(session.labels.array[:]), np.ones((2, 2, 2), np.uint32))
    for k, truth in ((1, LEFT), (2, RIGHT)):
        middle = slice(8, 18)
        assert _iou(found[middle] == k, truth[middle]) > 0.99 > _iou(coarse[middle] == k, truth[middle])
        assert np.array_equal((found == k).any((1, 2)), (coarse == k).any((1, 2))), "ends are where they were"
    again = _replayed(folder, folder.parent / "again.zarr")
    assert np.array_equal(again, found)
    assert not list(folder.parent.glob(".replay-*"))


def test_what_the_brush_has_changed_is_only_made_larger(session: Session, folder: Path) -> None:
    cache, plane = EmbeddingCache(Threshold(), session.volume), PlaneRef("z", 6)
    _accept(session, cache, plane, 1, (16, 16))
    box, shape = (2, 40, 6, 50), (4, 10)
    patch = (plane, box, np.zeros(shape, np.uint32), np.full(shape, 1, np.uint32))
    session.labels.write_box("z", 6, box, patch[3])
    session.record([patch])
    session.flush()
    found = _replayed(folder, folder.parent / "large.zarr")
    assert set(np.nonzero(found.any((1, 2)))[0]) == {12, 13}, "a slice is two now"
    assert (found[12, 4:12, 81:99] == 1).all() and not (found[12, :, 102:]).any()


def test_undone_deleted_and_renumbered_objects(session: Session, folder: Path) -> None:
    cache = EmbeddingCache(Threshold(), session.volume)
    _accept(session, cache, PlaneRef("z", 6), 1, (16, 16))
    _accept(session, cache, PlaneRef("z", 6), 2, (30, 46))
    for _ in propagate_session(session, cache, [2], axis="z"):
        pass
    relabel(session, 2, 7)
    session.delete(1)
    _accept(session, cache, PlaneRef("z", 6), 1, (16, 16))
    session.undo()
    session.flush()
    found = _replayed(folder, folder.parent / "large.zarr")
    assert set(np.unique(found)) == {0, 7} and _iou(found == 7, RIGHT) > 0.8


def test_along_another_axis_and_where_the_network_sees_something_else(session: Session, folder: Path) -> None:
    cache = EmbeddingCache(Threshold(), session.volume)
    _accept(session, cache, PlaneRef("y", 16), 1, (6, 16))
    for _ in propagate_session(session, cache, [1], axis="y"):
        pass
    labels = np.asarray(session.labels.array[:])
    assert labels.any((0, 2)).sum() > 5
    session.flush()
    assert _iou(_replayed(folder, folder.parent / "large.zarr") == 1, LEFT) > 0.97
    dark = open_volume(np.zeros_like(LARGE))
    kept = _replayed(folder, folder.parent / "dark.zarr", dark)
    assert _iou(kept == 1, np.kron(labels, np.ones((2, 2, 2), int)) == 1) > 0.9, (
        "the user's masks, only larger"
    )


def test_a_single_image(tmp_path: Path) -> None:
    folder = tmp_path / "flat.sam.zarr"
    session = open_session(open_volume(balls()[6]), folder)
    _accept(session, EmbeddingCache(Threshold(), session.volume), PlaneRef(None, 0), 1, (16, 16))
    session.close()
    found = _replayed(folder, tmp_path / "large.zarr", open_volume(LARGE[12]))
    assert _iou(found == 1, LEFT[12]) > 0.97


@pytest.mark.parametrize("shape", [(12, 48, 63), (48, 64), (2, 24, 96, 128)], ids=str)
def test_an_image_that_is_no_larger_version_is_refused(
    session: Session, folder: Path, shape: tuple[int, ...]
) -> None:
    session.flush()
    volume = open_volume(np.zeros(shape, np.uint8), axes="tzyx"[-len(shape) :])
    with pytest.raises(SessionError, match="no larger version"):
        replay_larger(folder, volume, folder.parent / "out.zarr")
    assert not (folder.parent / "out.zarr").exists()


def test_labels_stay_where_a_network_is_missing(session: Session, folder: Path) -> None:
    _accept(session, EmbeddingCache(Threshold(), session.volume), PlaneRef("z", 6), 1, (16, 16))
    session.flush()
    before = _replayed(folder, folder.parent / "out.zarr")

    def load(name: str) -> Threshold:
        raise CheckpointError(f"no {name}")

    with pytest.raises(CheckpointError):
        replay_larger(folder, open_volume(LARGE), folder.parent / "out.zarr", load=load, overwrite=True)
    assert before.any() and np.array_equal(LabelVolume.open(folder.parent / "out.zarr").array[:], before)


def test_labels_stay_where_it_is_cut_short(session: Session, folder: Path) -> None:
    _accept(session, EmbeddingCache(Threshold(), session.volume), PlaneRef("z", 6), 1, (16, 16))
    session.flush()
    out = folder.parent / "large.zarr"
    first = _replayed(folder, out)

    def progress(done: int, _: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay_larger(
            folder, open_volume(LARGE), out, load=lambda _: Threshold(), overwrite=True, progress=progress
        )
    assert first.any() and np.array_equal(LabelVolume.open(out).array[:], first)


def test_planes_in_between_belong_to_the_nearest_one() -> None:
    size = Sizes({"z": 4, "y": 10, "x": 10}, {"z": 10, "y": 20, "x": 30})
    assert [size.source("z", i) for i in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    assert [p.index for p in size.planes(PlaneRef("z", 1))] == [2, 3, 4] and size.shape("z") == (20, 30)
    about = {"points": [[0, 0], [9, 9]], "labels": [1, 0], "box": [0, 0, 10, 5]}
    asked = size.prompts("z", about, np.ones((20, 30), bool))
    assert asked.points_yx.tolist() == [[0.5, 1.0], [18.5, 28.0]] and asked.box_yxyx == (0, 0, 20, 15)
