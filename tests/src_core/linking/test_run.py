"""A stack becomes objects in a label volume: by linking and by seeds, cancelled, killed, in all formats."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import tifffile

from src_core.automatic import SearchSettings, Thresholds, label_image
from src_core.automatic.exporting import coco_to_labels, labels_to_coco, labels_to_tiff, records_of
from src_core.embedding import Embedding
from src_core.errors import PromptError, SessionError, VolumeError
from src_core.evaluation.instances import Contingency, match
from src_core.labels import LabelVolume
from src_core.linking import LinkSettings, segment_stack
from src_core.linking.bridging import gaps
from src_core.linking.report import FoundObject, debris
from src_core.linking.seeds import seed_slices
from src_core.linking.shelf import RecordShelf
from src_core.predictor import Predictor
from src_core.propagation.store import FOLDER
from src_core.synthetic import make_stack
from src_core.volumes import Plane, Volume, open_volume
from tests.src_core.automatic.stub import box, record

FEW = SearchSettings(points_per_side=18)
LINK = LinkSettings(method="link")
STACK = make_stack(8_000_315, (8, 96, 96), "nuclei", 10.0)


@pytest.fixture(scope="module")
def volume() -> Volume:
    return open_volume(STACK.image, scale={"z": STACK.z_step_px, "y": 1.0, "x": 1.0})


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return STACK.labels.astype(np.int64)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("nano", "cpu")


def read(labels: LabelVolume) -> np.ndarray:
    return np.stack([labels.read_plane("z", z) for z in range(labels.shape[0])]).astype(np.int64)


@pytest.fixture(scope="module")
def linked(predictor: Predictor, volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return segment_stack(
        predictor, volume, tmp_path_factory.mktemp("linked") / "a.zarr", search=FEW, links=LINK
    )


def test_linked_objects_are_those_of_the_truth(linked: Any, truth: np.ndarray) -> None:
    labels = read(linked.labels)
    assert linked.complete and not linked.resumed and linked.calls > 0
    found = match(Contingency.of([(truth, labels)]), 0.5)
    assert found.recall > 0.5, found
    assert set(np.unique(labels)) - {0} == set(linked.objects)
    for k, o in linked.objects.items():
        assert o.volume_px == np.count_nonzero(labels == k)
        slices = np.flatnonzero((labels == k).any((1, 2)))
        assert len(slices) >= 2 and set(slices) <= set(o.scores), "every slice has a confidence"
        assert 0 < o.confidence <= 1 and o.scores[o.worst] == min(o.scores.values())
    assert not (linked.labels.path / FOLDER).exists(), "nothing is left of a finished run"


def test_seeds_find_objects_too(
    predictor: Predictor,
    volume: Volume,
    truth: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[tuple[int, int]] = []
    encode = Embedding._encode

    def noted(self: Embedding, index: int) -> Any:
        plane = self._picture
        if isinstance(plane, Plane) and plane.axis == "z":
            encoded.append((plane.index, index))
        return encode(self, index)

    monkeypatch.setattr(Embedding, "_encode", noted)
    report = segment_stack(
        predictor, volume, tmp_path / "a.zarr", search=FEW, links=LinkSettings(method="seeds", seed_step=3)
    )
    labels = read(report.labels)
    assert match(Contingency.of([(truth, labels)]), 0.5).recall > 0.4
    assert set(np.unique(labels)) - {0} == set(report.objects)
    assert all(len(o.scores) >= 2 for o in report.objects.values())
    assert {z for z, _ in encoded} == set(range(len(labels)))
    assert len(encoded) == len(set(encoded)), "no slice is encoded again for the next walk"


@pytest.mark.parametrize("method", ["link", "seeds"])
def test_a_cancelled_run_goes_on_to_the_same_labels(
    method: str, predictor: Predictor, volume: Volume, linked: Any, tmp_path: Path
) -> None:
    links = LinkSettings(method=method, seed_step=3)
    want = (
        read(linked.labels)
        if method == "link"
        else read(segment_stack(predictor, volume, tmp_path / "whole.zarr", search=FEW, links=links).labels)
    )
    asked = [0]

    def cancelled() -> bool:
        asked[0] += 1
        return asked[0] > 25

    seen: list[tuple[int, int]] = []
    first = segment_stack(
        predictor, volume, tmp_path / "a.zarr", search=FEW, links=links, cancelled=cancelled,
        progress=lambda *n: seen.append(n),
    )  # fmt: skip
    assert not first.complete and (first.labels.path / FOLDER).exists()
    second = segment_stack(predictor, volume, tmp_path / "a.zarr", search=FEW, links=links)
    assert second.resumed and second.complete
    assert np.array_equal(read(second.labels), want)


def test_a_run_cancelled_while_its_seeds_grow_goes_on_to_the_same_labels(
    predictor: Predictor, volume: Volume, tmp_path: Path
) -> None:
    links = LinkSettings(seed_step=3)
    want = read(segment_stack(predictor, volume, tmp_path / "whole.zarr", search=FEW, links=links).labels)
    seen = [(0, 1)]
    first = segment_stack(
        predictor, volume, tmp_path / "a.zarr", search=FEW, links=links,
        cancelled=lambda: seen[-1][0] > seen[-1][1] / 2, progress=lambda *n: seen.append(n),
    )  # fmt: skip
    assert not first.complete and list((first.labels.path / FOLDER).glob("walked-*")), "some have grown"
    second = segment_stack(predictor, volume, tmp_path / "a.zarr", search=FEW, links=links)
    assert second.resumed and second.complete and second.calls == 0
    assert np.array_equal(read(second.labels), want)


def test_debris_is_dropped_from_the_report_and_the_labels(
    predictor: Predictor, volume: Volume, tmp_path: Path
) -> None:
    def found(min_size: float) -> Any:
        links = LinkSettings(seed_step=3, min_size=min_size)
        return segment_stack(predictor, volume, tmp_path / f"{min_size}.zarr", search=FEW, links=links)

    everything, large = found(0.0), found(0.9)
    dropped = debris(everything.objects, 0.9)
    assert 0 < len(dropped) < len(everything.objects)
    assert set(large.objects) == set(everything.objects) - set(dropped)
    labels = read(everything.labels)
    assert {k: o.volume_px for k, o in everything.objects.items()} == {
        int(k): n for k, n in zip(*np.unique(labels[labels > 0], return_counts=True), strict=True)
    }
    assert np.array_equal(read(large.labels), np.where(np.isin(labels, dropped), 0, labels))


def test_the_usual_volume_is_that_in_which_half_of_everything_lies() -> None:
    objects = {k: FoundObject({0: 1.0}, n) for k, n in enumerate((1000, 900, 800, 50, 30, 1), start=1)}
    assert debris(objects, 0.05) == [5, 6]
    assert debris(objects, 0.0) == [] and debris({}, 0.5) == []


def test_a_killed_run_goes_on_to_the_same_labels(
    predictor: Predictor, volume: Volume, linked: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", volume.array)
    code = f"""
import os, signal, numpy as np
from src_core import Predictor, open_volume
from src_core.automatic import SearchSettings
from src_core.linking import LinkSettings, segment_stack
volume = open_volume(np.load({str(tmp_path / "a.npy")!r}))
def progress(done, total):
    if done == 4:
        os.kill(os.getpid(), signal.SIGKILL)
segment_stack(Predictor.load("nano", "cpu"), volume, {str(tmp_path / "a.zarr")!r},
              search=SearchSettings(points_per_side=18), progress=progress,
              links=LinkSettings(method="link"))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL, found.stderr
    report = segment_stack(predictor, volume, tmp_path / "a.zarr", search=FEW, links=LINK)
    assert report.resumed and 0 < report.calls < linked.calls, "four slices were searched before"
    assert np.array_equal(read(report.labels), read(linked.labels))


def test_an_unfinished_run_may_go_on_with_other_thresholds_but_no_other_search(
    predictor: Predictor, volume: Volume, tmp_path: Path
) -> None:
    out = tmp_path / "a.zarr"
    asked = iter([False] * 20 + [True] * 1000)
    segment_stack(predictor, volume, out, search=FEW, links=LINK, stop=4, cancelled=lambda: next(asked))
    with pytest.raises(SessionError, match="another search"):
        segment_stack(predictor, volume, out, search=SearchSettings(points_per_side=17), links=LINK, stop=4)
    report = segment_stack(
        predictor, volume, out, search=FEW, links=LINK, stop=4, thresholds=Thresholds(min_score=0.99)
    )
    assert report.resumed and report.objects == {}


def test_empty_slices_and_slices_of_noise_give_no_error(predictor: Predictor, tmp_path: Path) -> None:
    pixels = np.zeros((3, 64, 64), np.uint8)
    pixels[1] = np.random.default_rng(0).integers(0, 255, (64, 64))
    report = segment_stack(predictor, open_volume(pixels), tmp_path / "a.zarr", search=FEW, links=LINK)
    assert report.complete and report.objects == {}, "nothing is on two slices"


def test_what_cannot_be_done_is_refused(predictor: Predictor, volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="range"):
        segment_stack(predictor, volume, tmp_path / "a.zarr", start=5, stop=50)
    with pytest.raises(VolumeError, match="2-D"):
        segment_stack(predictor, open_volume(np.zeros((9, 9), np.uint8)), tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(SessionError, match="exists"):
        segment_stack(predictor, volume, tmp_path / "b.zarr")


def test_records_come_back_from_the_shelf(tmp_path: Path) -> None:
    RecordShelf.prepare(tmp_path, {"a": 1})
    shelf = RecordShelf(tmp_path)
    records = [record(box(3, 4, 9, 20), 0.25, 0.5), record(box(0, 0, 40, 60), 0.75, 1.0)]
    shelf.put(3, records)
    shelf.put(4, [])
    assert 3 in shelf and 4 in shelf and 5 not in shelf
    for got, given in zip(shelf.get(3), records, strict=True):
        assert np.array_equal(got.mask.unpack(), given.mask.unpack())
        assert (got.area, got.score, got.stability) == (given.area, given.score, given.stability)
    assert shelf.get(4) == []


def test_gaps_are_between_the_slices_of_an_object() -> None:
    chains = {1: [(0, 0), (1, 0), (4, 2)], 2: [(1, 1), (4, 0), (4, 1)], 3: [(0, 1), (1, 2)]}
    assert gaps(chains) == {(1, 4): [1, 2]}


def test_a_gap_is_filled_by_propagation(
    predictor: Predictor, volume: Volume, linked: Any, tmp_path: Path
) -> None:
    from src_core.linking.bridging import bridge

    full = read(linked.labels)
    k = max(linked.objects, key=lambda k: (full == k).any((1, 2)).sum())
    slices = np.flatnonzero((full == k).any((1, 2)))
    z = int(slices[len(slices) // 2])
    labels = LabelVolume.create(tmp_path / "a.zarr", volume)
    for index in (z - 1, z + 1):
        labels.write_plane("z", index, {k: full[index] == k, 900: full[index] == 900})
    labels.write_plane("z", z, {77: full[z] == k})
    was = labels.read_plane("z", z)
    filled = list(
        bridge(
            predictor,
            volume,
            labels,
            (z - 1, z + 1),
            lambda index, k: full[index] == k,
            [k],
            axis="z",
            t=0,
            c=None,
        )
    )
    ((index, scores, won),) = filled
    assert index == z and set(scores) == {k}
    now = labels.read_plane("z", z)
    assert won == {
        i: np.count_nonzero(now == i) - np.count_nonzero(was == i)
        for i in (k, 77)
        if (now == i).sum() != (was == i).sum()
    }
    got, want = labels.read_plane("z", z) == k, full[z] == k
    assert np.count_nonzero(got & want) / np.count_nonzero(got | want) > 0.5, (
        "also where another had swallowed it"
    )


def test_seed_slices_lie_in_the_middle_of_their_share() -> None:
    assert list(seed_slices(0, 10, 4)) == [2, 6]
    assert list(seed_slices(0, 11, 4)) == [2, 6, 10]
    assert list(seed_slices(5, 7, 4)) == [6]


def test_labels_go_to_coco_and_back(linked: Any, volume: Volume, tmp_path: Path) -> None:
    def scores(index: int, k: int) -> float:
        return cast(float, linked.objects[k].scores[index])

    written = labels_to_coco(linked.labels, tmp_path / "coco", scores=scores)
    assert written and written[0].name.startswith("z000")
    fresh = LabelVolume.create(tmp_path / "b.zarr", volume)
    assert coco_to_labels(tmp_path / "coco", fresh) == len(written)
    assert np.array_equal(read(fresh), read(linked.labels))
    (tmp_path / "coco" / "zabc.json").write_text("{}")
    with pytest.raises(PromptError, match="named after a slice"):
        coco_to_labels(tmp_path / "coco", fresh)


def test_labels_go_to_tiff_and_ids_beyond_65535_survive(volume: Volume, tmp_path: Path) -> None:
    labels = LabelVolume.create(tmp_path / "a.zarr", volume)
    mask = np.zeros(labels.shape[1:], np.bool_)
    mask[2:9, 3:8] = True
    labels.write_plane("z", 2, {7: mask})
    labels_to_tiff(labels, tmp_path / "a.tif")
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == np.uint16 and np.array_equal(found, read(labels))
    labels.write_plane("z", 4, {70_000: mask})
    labels_to_tiff(labels, tmp_path / "b.tif")
    found = tifffile.imread(tmp_path / "b.tif")
    assert found.dtype == np.uint32 and np.array_equal(found, read(labels))


def test_objects_of_a_label_image_become_records_with_their_ids() -> None:
    labels = label_image(
        [record(box(3, 4, 9, 20)), record(box(20, 20, 30, 30))], (40, 60), [5, 4_000_000_000]
    )
    found = records_of(labels, {5: 0.5})
    assert list(found) == [5, 4_000_000_000]
    assert found[5].box == (3, 4, 9, 20) and found[5].score == 0.5 and found[5].point_yx == (5.5, 11.5)
    assert found[4_000_000_000].score == 1.0


@pytest.mark.parametrize("name", ["slice-1.npz", "note.json", "walked-1/1.npz", "group-1.json"])
def test_a_run_whose_state_is_damaged_says_so_and_can_be_begun_again(
    name: str, predictor: Predictor, volume: Volume, tmp_path: Path
) -> None:
    out, links = tmp_path / "a.zarr", LinkSettings(seed_step=3)
    seen = [(0, 1)]
    segment_stack(
        predictor, volume, out, search=FEW, links=links,
        cancelled=lambda: seen[-1][0] > seen[-1][1] / 2, progress=lambda *n: seen.append(n),
    )  # fmt: skip
    path = out / FOLDER / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if path.exists() else b"{")
    with pytest.raises(SessionError, match="start again and overwrite"):
        segment_stack(predictor, volume, out, search=FEW, links=links)
    report = segment_stack(predictor, volume, out, search=FEW, links=links, overwrite=True)
    assert report.complete and not report.resumed and read(report.labels).any()


def test_a_run_does_not_go_on_with_an_image_that_was_edited(predictor: Predictor, tmp_path: Path) -> None:
    image = STACK.image.copy()
    out, asked = tmp_path / "a.zarr", iter([False] * 40 + [True] * 999)
    volume = open_volume(image, contrast_limits=(0, 255))
    segment_stack(predictor, volume, out, search=FEW, links=LINK, cancelled=lambda: next(asked))
    edited = open_volume(image[::-1].copy(), contrast_limits=(0, 255))
    with pytest.raises(SessionError, match="another image content"):
        segment_stack(predictor, edited, out, search=FEW, links=LINK)


def test_masks_that_earlier_labels_have_left_are_removed(linked: Any, volume: Volume, tmp_path: Path) -> None:
    folder = tmp_path / "coco"
    labels_to_coco(linked.labels, folder)
    (folder / "z_notes.json").write_text("{}")
    labels = LabelVolume.create(tmp_path / "a.zarr", volume)
    labels.write_box("z", 2, (0, 0, 2, 2), np.full((2, 2), 7, np.uint32))
    assert [p.name for p in labels_to_coco(labels, folder)] == ["z00002.json"]
    assert sorted(p.name for p in folder.iterdir()) == ["z00002.json", "z_notes.json"]


def test_masks_that_are_no_labels_are_refused(linked: Any, volume: Volume, tmp_path: Path) -> None:
    labels = LabelVolume.create(tmp_path / "a.zarr", volume, dtype=np.uint8)
    with pytest.raises(PromptError, match="no masks of slices"):
        coco_to_labels(tmp_path / "nothing", labels)
    path = labels_to_coco(linked.labels, tmp_path / "coco")[0]
    content = json.loads(path.read_text())
    for k, fault in ((300, "too large"), (0, "from 1"), (-1, "from 1"), (2**32, "from 1")):
        content["annotations"] = [content["annotations"][0] | {"id": k}]
        path.write_text(json.dumps(content))
        with pytest.raises((PromptError, VolumeError), match=fault):
            coco_to_labels(tmp_path / "coco", labels)
    content["annotations"] = [content["annotations"][0] | {"id": 3}] * 2
    path.write_text(json.dumps(content))
    with pytest.raises(PromptError, match="3 twice"):
        coco_to_labels(tmp_path / "coco", labels)


@pytest.mark.parametrize("shape", [(4, 30, 1), (3, 1, 1), (2, 20, 24)])
def test_tiffs_have_the_scale_whatever_their_shape(shape: tuple[int, int, int], tmp_path: Path) -> None:
    image = open_volume(np.zeros(shape, np.uint8), scale=(2, 0.25, 0.25), units="micrometer")
    labels = LabelVolume.create(tmp_path / "a.zarr", image)
    labels.write_box("z", 1, (0, 0, *shape[1:]), np.full(shape[1:], 9, np.uint32))
    labels_to_tiff(labels, tmp_path / "a.tif")
    found = open_volume(tmp_path / "a.tif")
    assert tuple(found.scale[a] for a in "zyx") == (2, 0.25, 0.25) and found.units["z"] == "micrometer"
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif").reshape(shape), read(labels))


def test_a_film_has_no_slices_to_export(tmp_path: Path) -> None:
    labels = LabelVolume.create(tmp_path / "a.zarr", open_volume(np.zeros((3, 20, 20), np.uint8), axes="tyx"))
    for export in (labels_to_tiff, labels_to_coco):
        with pytest.raises(VolumeError, match="no axis z"):
            export(labels, tmp_path / "out")
