"""A run from seeds that is stopped anywhere goes on there, also with other thresholds: nothing stale, nothing twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.automatic import SearchSettings, Thresholds
from src_core.errors import SessionError
from src_core.labels import LabelVolume
from src_core.linking import LinkSettings, StackReport, seeds, segment_stack
from src_core.linking.shelf import RecordShelf, labels_of_run
from src_core.linking.stack import StackRun
from src_core.masks import PackedMask
from src_core.predictor import Predictor
from src_core.propagation.store import FOLDER
from src_core.synthetic import make_stack
from src_core.volumes import Volume, open_volume
from tests.src_core.automatic.stub import box

FEW = SearchSettings(points_per_side=18)
LINKS = LinkSettings(seed_step=3)
VOLUME = open_volume(make_stack(8_000_315, (8, 96, 96), "nuclei", 10.0).image)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("nano", "cpu")


def run(predictor: Predictor, out: Path, **options: Any) -> StackReport:
    return segment_stack(predictor, VOLUME, out, search=FEW, **{"links": LINKS, **options})


def stopped(predictor: Predictor, out: Path, after: float) -> None:
    """Run until more than a part of all steps is done, and then for one more."""
    seen = [(0, 1)]
    report = run(
        predictor, out, progress=lambda *n: seen.append(n),
        cancelled=lambda: seen[-1][0] >= after * seen[-1][1],
    )  # fmt: skip
    assert not report.complete


def read(labels: LabelVolume) -> np.ndarray:
    return np.stack([labels.read_plane("z", z) for z in range(labels.shape[0])])


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({"thresholds": Thresholds(min_score=0.85)}, 0.6),
        ({"links": LinkSettings(seed_step=3, min_confidence=0.5)}, 1.0),
    ],
)
def test_other_thresholds_begin_walks_anew_but_no_search(
    options: dict[str, Any], after: float, predictor: Predictor, tmp_path: Path
) -> None:
    whole = run(predictor, tmp_path / "whole.zarr", **options)
    stopped(predictor, tmp_path / "a.zarr", after)
    if after == 1.0:  # as if it had been killed when everything was drawn
        LabelVolume.open(tmp_path / "a.zarr").write_box("z", 0, (0, 0, 9, 9), np.full((9, 9), 77, np.uint32))
    report = run(predictor, tmp_path / "a.zarr", **options)
    assert report.resumed and report.calls == 0
    assert np.array_equal(read(report.labels), read(whole.labels))
    assert report.objects == whole.objects
    with pytest.raises(SessionError, match="exists"):
        run(predictor, tmp_path / "a.zarr")


def test_walks_through_voxels_of_another_size_are_forgotten(predictor: Predictor, tmp_path: Path) -> None:
    labels, shelf, _ = labels_of_run(VOLUME, tmp_path / "a.zarr", {}, overwrite=False)
    scaled = replace(VOLUME, scale={"z": 0.4, "y": 0.1, "x": 0.1})

    def walked(volume: Volume) -> list[int]:
        stack = StackRun(predictor, volume, labels, shelf, "z", range(8), 0, None)
        return list(stack._walks()["done"])

    assert not walked(VOLUME)
    shelf.note(shelf.noted() | {"done": [1]})
    assert walked(VOLUME) == [1]
    assert not walked(scaled)


def test_groups_of_seeds_that_are_through_are_not_walked_again(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[int] = []
    propagate = seeds.propagate

    def counted(predictor: Predictor, volume: Any, anchors: Any, **options: Any) -> Any:
        walked.extend(k for masks in anchors.values() for k in masks)
        return propagate(predictor, volume, anchors, **options)

    monkeypatch.setattr(seeds, "propagate", counted)
    monkeypatch.setattr(seeds, "MAX_BYTES", 2 * 4 * 96 * 96)
    whole = run(predictor, tmp_path / "whole.zarr")
    every, walked[:] = list(walked), []
    out, state = tmp_path / "a.zarr", RecordShelf(tmp_path / "a.zarr")
    report = run(predictor, out, cancelled=lambda: len(walked) > 4)
    assert not report.complete and walked == every[:6] == [1, 2, 3, 4, 5, 6]
    assert state.noted()["grown"] == 4 and not state.noted()["done"], "of the first searched slice"
    walked.clear()
    report = run(predictor, out)
    assert walked == every[4:], "two of them again: they were under way"
    assert report.objects == whole.objects and np.array_equal(read(report.labels), read(whole.labels))


def test_what_has_walked_on_a_slice_is_found_among_its_own_files_only(tmp_path: Path) -> None:
    RecordShelf.prepare(tmp_path, {})
    shelf, mask = RecordShelf(tmp_path), PackedMask.of(box(3, 4, 9, 20))
    for index in (1, 11):
        shelf.put_walked(index, 1, {1: mask, 2: mask})
    assert sorted(path.name for path in (tmp_path / FOLDER).glob("walked-*")) == ["walked-1", "walked-11"]
    shelf.put_candidates(1, {1: seeds.FoundObject({1: 0.5}, 96)})
    shelf.put_candidates(3, {3: seeds.FoundObject({1: 0.5}, 96)})
    candidates = shelf.candidates(3)
    assert candidates == {1: seeds.FoundObject({1: 0.5}, 96)}, "who is noted, and no group after it"
    assert list(shelf.walked(1, candidates)) == [1]
    assert not shelf.walked(11, candidates), "what a killed run has left"
    shelf.put(1, [])
    shelf.note({})
    shelf.forget_walks()
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["request.json", "slice-1.npz"]
