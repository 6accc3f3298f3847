from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from src_core.continuity import N_FEATURES
from src_core.predictor import Predictor
from src_core.training import continuity
from src_core.training.continuity import collect, fit, report


def rows(count: int, seed: int) -> continuity.Rows:
    """Slices whose presence and IoU follow from the contrast that is left."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(0, 1, (count, 2 * N_FEATURES)).astype(np.float32)
    there = numbers[:, 10] > 0
    iou = np.where(there, np.clip(0.5 + 0.2 * numbers[:, 3], 0, 1), 0)
    return np.column_stack([numbers, there, iou]).astype(np.float32)


def test_what_decides_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "COURSE", replace(continuity.COURSE, epochs=15))
    judged = report(fit(rows(1500, 0)), rows(500, 1))
    assert judged["AUC of presence"] > 0.97
    assert judged["AUC of presence"] > judged["of the network"] + 0.3
    assert judged["score error"] < 0.5 * judged["of the network's"]


def test_the_same_rows_give_the_same_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "COURSE", replace(continuity.COURSE, epochs=2))
    a, b = (fit(rows(200, 0)).state_dict() for _ in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_walks_pass_the_end_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuity, "SHAPE", (10, 96, 96))
    monkeypatch.setattr(continuity, "MAX_OBJECTS", 2)
    predictor = Predictor.load("nano")
    found = collect(predictor, tmp_path, [2_000_000, 2_000_005])
    for walked in found:
        assert walked.shape[1] == 2 * N_FEATURES + 2
        assert np.isfinite(walked).all()
    there = np.concatenate(found)[:, -2]
    assert 0 < there.mean() < 1

    def never(*_: object) -> continuity.Rows:
        raise AssertionError("walked again")

    monkeypatch.setattr(continuity, "walks", never)
    again = collect(predictor, tmp_path, [2_000_000, 2_000_005])
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_walks_of_another_folder_come_with_their_seeds(tmp_path: Path) -> None:
    rows = {7: np.ones((2, 40), np.float32), 12: np.zeros((0, 40), np.float32)}
    for seed, values in rows.items():
        np.save(tmp_path / f"{seed}.npy", values)
    found = continuity.kept(tmp_path)
    assert list(found) == [12, 7] and all(np.array_equal(found[k], rows[k]) for k in rows)
