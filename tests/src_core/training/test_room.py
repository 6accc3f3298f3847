"""Boxes with room around drawn objects and those of images, and what is learned from the answers to them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src_core.evaluation import test_files
from src_core.evaluation.datasets import outside_the_protocol
from src_core.room import N_FEATURES, SMALLER, Room
from src_core.training import room
from src_core.training.room import ROOMS, Rows, fit, report, with_room


def _folder(path: Path, count: int) -> Path:
    path.mkdir()
    rng = np.random.default_rng(0)
    for n in range(count):
        labels = np.zeros((64, 64), np.uint16)
        labels[16:40, 20 : 40 + n % 8] = 1
        image = (50 + 150 * (labels > 0) + rng.normal(0, 4, labels.shape)).astype(np.uint8)
        np.savez(path / f"{n:03}.npz", image=image, labels=labels)
    return path


def test_boxes_with_room_are_whole_pixels_of_the_plane() -> None:
    mask = np.zeros((50, 60), bool)
    mask[10:30, 4:44] = True
    assert with_room(mask, np.zeros(4)) == (10, 4, 30, 44)
    assert with_room(mask, np.full(4, 0.1)) == (8, 0, 32, 48)
    assert with_room(mask, np.array([0.0, 0.0, 2.0, 0.0])) == (10, 4, 50, 44)
    y0, x0, y1, x1 = with_room(mask, np.full(4, -0.6))
    assert y0 < y1 and x0 < x1, "a box is never empty"


def test_images_of_the_test_split_are_left_out(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", 70)
    kept_back = len(test_files(folder))
    assert len(list(outside_the_protocol(folder, np.random.default_rng(0)))) == 70 - kept_back > 0


def test_what_gives_the_best_box_away_is_learned() -> None:
    rng = np.random.default_rng(0)
    best = rng.integers(0, len(SMALLER), 600)
    numbers = rng.normal(size=(600, len(SMALLER), N_FEATURES)).astype(np.float32)
    numbers[np.arange(600), best, 0] += 6
    ious = np.full((600, len(SMALLER)), 0.5, np.float32)
    ious[np.arange(600), best] = 0.9
    rows = Rows(numbers.reshape(600, -1), ious, rng.integers(0, len(ROOMS), 600), np.arange(600))
    judge = fit(rows.of(rows.objects % 4 > 0))
    said = report(judge, rows.of(rows.objects % 4 == 0))
    assert min(said["judged"]) > 0.8 > max(said["drawn"]) and said["best"] == [0.9] * len(ROOMS)


def test_rows_are_collected_once_and_a_judge_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _folder(tmp_path / "images", 66)
    monkeypatch.setattr(room, "COURSE", replace(room.COURSE, epochs=2))
    monkeypatch.setattr(room, "SHAPE", (3, 128, 128))
    paths = ["--rows", str(tmp_path / "rows.npz"), "--out", str(tmp_path / "judge.safetensors")]
    monkeypatch.setattr(sys, "argv", ["room", "--images", str(folder), "--objects", "2", *paths])
    room.main()
    with np.load(tmp_path / "rows.npz") as rows:
        assert rows["numbers"].shape == (4 * len(ROOMS), len(SMALLER) * N_FEATURES)
        assert (rows["ious"] >= 0).all() and rows["ious"].max() > 0.5
        assert sorted(set(rows["objects"])) == [0, 1, 10**6, 10**6 + 1]
    Room.load(tmp_path / "judge.safetensors")
    monkeypatch.setattr(room, "collect", None)
    room.main()
    assert capsys.readouterr().out.count("drawn planes") == 2
