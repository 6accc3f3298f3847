from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from src_core import evaluation as ev
from src_core.evaluation.propagation import middle_slice
from src_core.evaluation.segmenters import FunctionSegmenter
from tests.src_core.evaluation import reference
from tests.src_core.image_files import write_ome_zarr


@pytest.fixture
def truth() -> Any:
    mask = np.zeros((9, 40, 60), bool)
    mask[2:7, 5:25, 10:40] = True
    return mask


def test_oracle_and_copy(truth: Any) -> None:
    perfect = ev.propagate_object(lambda *_: truth, truth * 1.0, truth)
    assert (perfect.z0, perfect.iou, perfect.dice, perfect.low, perfect.high) == (4, 1, 1, 0, 0)
    copied = ev.propagate_object(lambda v, z, m: np.repeat(m[None], len(v), 0), truth * 1.0, truth)
    assert (copied.low, copied.high, copied.n_slices) == (2, 2, 5)
    assert copied.iou == pytest.approx(0.5) and copied.dice == pytest.approx(2 / 3)
    assert copied.iou_all == pytest.approx(5 / 9)


def test_runs_that_end_early_are_negative(truth: Any) -> None:
    late = truth.copy()
    late[:4] = False
    result = ev.propagate_object(lambda *_: late, truth * 1.0, truth)
    assert (result.low, result.high) == (-2, 0)
    nothing = ev.propagate_object(lambda *_: np.zeros_like(truth), truth * 1.0, truth, z0=3)
    assert (nothing.low, nothing.high, nothing.iou) == (-1, -3, 0)


def test_summary_means_both_ends(truth: Any) -> None:
    sample = ev.Sample3D(Path("x"), truth * 1.0, truth.astype(np.int32), 1)
    late = truth.copy()
    late[:4] = False
    late[8] = True
    summary = ev.evaluate_3d(lambda *_: late, [sample]).summary()
    assert summary["over"] == 1 and summary["under"] == 1 and summary["ends within 1"] == 0
    assert summary["start IoU"] == 1 and summary["objects"] == 1
    assert ev.evaluate_3d(lambda *_: late, []).summary() == {"objects": 0}


def test_starts_from_a_click_if_asked(truth: Any) -> None:
    half = truth[4].copy()
    half[:, 25:] = False
    started: list[Any] = []

    def remember(volume: Any, z0: int, mask: Any) -> Any:
        started.append(mask)
        return truth

    sample = ev.Sample3D(Path("x"), truth * 1.0, truth.astype(np.int32), 1)
    summary = ev.evaluate_3d(remember, [sample], start=lambda *_: (half, None)).summary()
    assert np.array_equal(started[0], half) and summary["start IoU"] == pytest.approx(0.5)


def test_middle_slice_of_an_object_with_a_gap() -> None:
    mask = np.zeros((10, 2, 2), bool)
    mask[[1, 2, 8]] = True
    assert middle_slice(mask) == 2


class Predictor:
    def embed(self, plane: Any) -> Any:
        return plane

    def predict(self, embedding: Any, prompts: Any) -> Any:
        raise NotImplementedError


def test_a_predictor_goes_through_the_librarys_propagation(
    truth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def propagate(predictor: Any, volume: Any, anchors: Any, **options: Any) -> Iterator[Any]:
        calls.append((predictor, volume, anchors, options))
        for z in (3, 5, 6):
            yield types.SimpleNamespace(index=z, masks={1: truth[z]}, scores={1: 0.9})
        yield types.SimpleNamespace(index=7, masks={}, scores={})

    propagation, volumes = types.ModuleType("propagation"), types.ModuleType("volumes")
    propagation.propagate = propagate  # type: ignore[attr-defined]
    volumes.open_volume = lambda array, axes, scale, units: ("opened", axes, scale)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "src_core.propagation", propagation)
    monkeypatch.setitem(sys.modules, "src_core.volumes", volumes)
    scale = {"z": 2.0, "y": 0.5, "x": 0.5}
    sample = ev.Sample3D(Path("x"), truth * 1.0, truth.astype(np.int32), 1, scale)
    predictor = Predictor()
    result = ev.evaluate_3d(predictor, [sample]).objects[0]
    assert (result.low, result.high) == (-1, 0) and result.iou == pytest.approx(3 / 4)
    assert calls[0][0] is predictor and calls[0][1] == ("opened", "zyx", scale)
    assert list(calls[0][2]) == [4] and np.array_equal(calls[0][2][4][1], truth[4])
    ev.propagation_of(predictor, stop=0.5)(truth * 1.0, 4, truth[4])
    assert calls[1][1] == ("opened", "zyx", None) and calls[1][3] == {"stop": 0.5}


@pytest.mark.parametrize("scale", [(2.0, 0.5, 0.5), (1.0, 1.0, 1.0), None])
def test_samples_know_how_large_their_voxels_are(
    truth: Any, scale: tuple[float, float, float] | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.zarr"
    if scale is None:
        zarr.save_array(path / "0", truth * np.uint8(9))
    else:
        write_ome_zarr(path, [truth * np.uint8(9)], scale=scale)
    zarr.save_array(path / "labels" / "ground_truth" / "0", truth.astype(np.uint16))
    (sample,) = ev.objects_3d(tmp_path)
    assert sample.scale == (None if scale is None else dict(zip("zyx", scale, strict=True)))


@pytest.mark.parametrize("start", ["gt", "click"])
@pytest.mark.parametrize(("prefix", "max_objects"), [("stardist3d", 8), ("ovule_cells", None)])
def test_numbers_are_those_of_the_shared_protocol(prefix: str, max_objects: int | None, start: str) -> None:
    bench = reference.clickbench()
    expected, objects = bench.bench3d(
        reference.propagate, prefix, start, reference.predict, max_objects=max_objects, min_slices=8
    )
    samples = ev.objects_3d(reference.DATA, prefix, min_slices=8, max_objects=max_objects)
    segmenter = None if start == "gt" else FunctionSegmenter(reference.predict)
    result = ev.evaluate_3d(reference.propagate, samples, segmenter)
    names = {"start_iou": "iou0", "n_slices": "extent", "low": "lo", "high": "hi"}
    assert len(result.objects) == len(objects) >= 5
    for ours, theirs in zip(result.objects, objects, strict=True):
        for name in ("start_iou", "iou", "dice", "iou_all", "dice_all", "low", "high", "n_slices", "z0"):
            assert getattr(ours, name) == theirs[names.get(name, name)], name
    summary = {key: round(value, 3) for key, value in result.summary().items()}
    for ours_name, theirs_name in (("IoU", "IoU"), ("Dice", "Dice"), ("ends within 1", "ends_within_1")):
        assert summary[ours_name] == expected[theirs_name]
    assert round(summary["over"], 2) == expected["over"] and round(summary["under"], 2) == expected["under"]
