from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core import evaluation as ev
from src_core.errors import VolumeError
from src_core.evaluation.metrics import iou_after
from src_core.prompts import Prompts
from src_core.types import Candidates
from tests.src_core.evaluation import reference


@pytest.fixture
def truth() -> Any:
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10:40] = True
    return mask


def sample(truth: Any) -> ev.Sample2D:
    return ev.Sample2D(Path("x.npz"), truth * 1.0, truth.astype(np.uint8), (1,))


def test_metrics() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    nothing = np.zeros(4, bool)
    assert ev.iou(a, b) == pytest.approx(1 / 3) and ev.dice(a, b) == pytest.approx(1 / 2)
    assert ev.iou(nothing, nothing) == ev.dice(nothing, nothing) == 1 and ev.iou(a, nothing) == 0
    assert ev.number_of_clicks([0.2, 0.86, 0.91], 0.85, 20) == 2
    assert ev.number_of_clicks([0.2], 0.9, 20) == 20
    assert iou_after([0.2, 1.0], 1) == 0.2 and iou_after([0.2, 1.0], 5) == 1.0


def test_next_click_goes_into_the_largest_error(truth: Any) -> None:
    missing = truth.copy()
    missing[5:25, 30:40] = False
    click = ev.next_click(truth, missing)
    assert click is not None and click.positive and truth[click.y, click.x] and not missing[click.y, click.x]
    spilled = truth.copy()
    spilled[26:39, 1:59] = True
    click = ev.next_click(truth, spilled)
    assert click is not None and not click.positive and spilled[click.y, click.x]
    assert not truth[click.y, click.x]
    assert ev.next_click(truth, truth) is None


def test_an_oracle_needs_one_click(truth: Any) -> None:
    result = ev.evaluate_2d(lambda *_: (truth, 0.75), [sample(truth)])
    summary = result.summary()
    assert result.objects[0].ious == (1.0,)
    assert summary["objects"] == summary["NoC@85"] == summary["NoC@90"] == 1
    assert summary["mIoU@1"] == summary["mIoU@5"] == summary["box mIoU"] == 1 and summary["fail@90"] == 0
    assert summary["score error"] == pytest.approx(0.25)


def test_a_method_that_sees_nothing_is_clicked_to_the_end(truth: Any) -> None:
    seen: list[int] = []

    def blind(image: Any, points: Any, labels: Any, box: Any, previous: Any) -> Any:
        seen.append(len(points))
        return np.zeros(image.shape, bool), None

    summary = ev.evaluate_2d(blind, [sample(truth)], with_box=False).summary()
    assert seen == list(range(1, 21))
    assert summary["mIoU@5"] == 0 and summary["NoC@90"] == 20 and summary["fail@85"] == 1
    assert "box mIoU" not in summary and "score error" not in summary
    assert ev.evaluate_2d(blind, []).summary() == {"objects": 0}


def test_a_good_but_imperfect_mask_is_clicked_as_often_as_is_reported(truth: Any) -> None:
    almost = truth.copy()
    almost[5, 10:40] = False
    result = ev.evaluate_2d(lambda *_: (almost, None), [sample(truth)]).objects[0]
    assert result.ious == (0.95,) * 5


def test_subset_spreads_the_objects_over_few_images(tmp_path: Path) -> None:
    labels = np.zeros((30, 30), np.uint16)
    for k in range(5):
        labels[:, 6 * k : 6 * k + 3] = k + 1
    labels[0, 29] = 6
    for name in "abc":
        np.savez(tmp_path / f"{name}.npz", image=labels * 1.0, labels=labels)
    samples = list(ev.subset_2d(tmp_path, n_objects=6))
    assert [s.path.name for s in samples] == ["a.npz", "b.npz", "c.npz"]
    assert [len(s.ids) for s in samples] == [2, 2, 2]
    assert all(list(s.ids) == sorted(s.ids) and 6 not in s.ids for s in samples)
    assert samples[0].truth(1).sum() == 90
    assert [s.ids for s in ev.subset_2d(tmp_path, n_objects=6)] == [s.ids for s in samples]
    assert [s.ids for s in ev.subset_2d(tmp_path, n_objects=6, seed=1)] != [s.ids for s in samples]
    (smallest,) = ev.subset_2d(tmp_path, n_images=1, n_objects=99, min_area_px=1)
    assert smallest.ids == (1, 2, 3, 4, 5, 6) and ev.test_files(tmp_path, 1) == (smallest.path.name,)


class FakePredictor:
    """Offers a bad second candidate, and logits by which it recognises its own answers."""

    def __init__(self, truth: Any) -> None:
        self.truth = truth
        self.n_embedded = 0
        self.prompts: list[Prompts] = []

    def embed(self, plane: Any) -> Any:
        self.n_embedded += 1
        return self

    def predict(self, embedding: Any, prompts: Prompts) -> Candidates:
        self.prompts.append(prompts)
        best = self.truth.copy()
        best[:, : max(0, 35 - 2 * len(self.prompts))] = False
        masks = np.stack([best, ~best])
        scores = np.array([0.6, 0.1], np.float32)
        logits = np.full((2, 4, 4), len(self.prompts), np.float32)
        return Candidates(masks, scores, logits, window=(0.0, 0.0, 64.0, 64.0))


def test_predictor_embeds_once_per_image_and_gets_its_best_logits_back(truth: Any) -> None:
    labels = truth.astype(np.uint8)
    labels[30:38, 5:15] = 2
    predictor = FakePredictor(truth)
    result = ev.evaluate_2d(predictor, [ev.Sample2D(Path("x"), truth * 1.0, labels, (1, 2))], max_clicks=4)
    assert predictor.n_embedded == len(result.look_seconds) == 1 and len(result.objects) == 2
    first, second, *_, box = predictor.prompts[:5]
    assert first.mask is None and len(first.points_yx) == 1
    assert second.mask is not None and (second.mask == 1).all() and len(second.points_yx) == 2
    assert first.mask_window is None and second.mask_window == (0, 0, 64, 64)
    assert box.mask is None and box.box_yxyx == (5, 10, 25, 40) and not len(box.points_yx)
    assert predictor.prompts[5].mask is None
    assert {"ms per click", "ms per image"} <= result.summary().keys()


# ---------------------------------------------------------------- the shared protocol gives the same numbers

ARGUMENTS: dict[str, Any] = {"n_images": 4, "n_objects": 4}


@pytest.mark.parametrize("arguments", [{}, {"n_images": 7, "n_objects": 10, "seed": 3}])
def test_subset_is_the_shared_one(arguments: dict[str, Any]) -> None:
    reference_objects = list(reference.clickbench().subset2d("dsb2018", **arguments))
    samples = list(ev.subset_2d(reference.DATA / "dsb2018", **arguments))
    ours = [(str(s.path), s, s.truth(k)) for s in samples for k in s.ids]
    assert len(ours) == len(reference_objects) > 7
    for (path, s, truth), (file, image, expected) in zip(ours, reference_objects, strict=True):
        assert path == file and np.array_equal(s.image, image) and np.array_equal(truth, expected)


def test_test_files_are_those_the_subset_draws() -> None:
    reference.clickbench()
    folder = reference.DATA / "dsb2018"
    names = ev.test_files(folder)
    assert names == tuple(s.path.name for s in ev.subset_2d(folder))
    assert len(set(names)) == 60 and len(list(folder.glob("*.npz"))) > 60


@pytest.mark.parametrize(
    ("name", "arguments"), [("dsb2018", ARGUMENTS), ("isbi2012", {"n_images": 1, "n_objects": 2})]
)
def test_numbers_are_those_of_the_shared_protocol(name: str, arguments: dict[str, Any]) -> None:
    expected, objects = reference.clickbench().bench2d(reference.predict, name, **arguments)
    result = ev.evaluate_2d(reference.predict, ev.subset_2d(reference.DATA / name, **arguments))
    assert [list(r.ious) for r in result.objects] == [r["ious"] for r in objects]
    assert [r.box_iou for r in result.objects] == [r["box"] for r in objects]
    assert [r.score_error for r in result.objects] == [r["score_err"] for r in objects]
    summary = {key: round(value, 3) for key, value in result.summary().items()}
    assert summary.pop("objects") == expected.pop("n")
    assert summary.pop("score error") == expected.pop("|score-IoU|")
    for key in expected.keys() - {"ms"}:
        assert summary[key] == expected[key], key
    assert 0 < summary["mIoU@1"] < 1


def test_folders_without_data_are_an_error(tmp_path: Path) -> None:
    for draw in (ev.subset_2d, ev.objects_3d):
        with pytest.raises(VolumeError, match="no "):
            list(draw(tmp_path))
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 4)))
    with pytest.raises(VolumeError, match=r"a\.npz"):
        list(ev.subset_2d(tmp_path))


@pytest.mark.parametrize(
    "labels",
    [np.ones((4, 5), int), np.ones((4, 4)), np.full((4, 4), -1), np.ones((2, 4, 4), int)],
    ids=["another shape", "floats", "negative", "a volume"],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: Any) -> None:
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 4)), labels=labels)
    with pytest.raises(VolumeError, match=r"a\.npz: expected"):
        ev.read_labelled(tmp_path / "a.npz")


def test_torn_files_and_bare_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, image=np.zeros((40, 40)), labels=np.zeros((40, 40), int))
    whole = path.read_bytes()
    for content in (b"", whole[:9000], b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        with pytest.raises(VolumeError, match=r"a\.npz is not"):
            ev.read_labelled(path)


def test_labels_of_any_whole_type_are_counted(tmp_path: Path) -> None:
    for dtype in (bool, np.uint8, np.uint64, np.int32):
        np.savez(tmp_path / "a.npz", image=np.zeros((8, 8)), labels=np.ones((8, 8), dtype))
        (sample,) = ev.subset_2d(tmp_path)
        assert sample.ids == (1,)
