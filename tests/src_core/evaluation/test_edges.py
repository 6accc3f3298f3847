"""The scores of BSDS500, on edges whose scores are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from src_core.errors import VolumeError
from src_core.evaluation.edges import count_edges, evaluate_edges, read_bsds

SHAPE = (60, 80)


def line(row: int, first: int = 0, last: int = 80) -> np.ndarray:
    mask = np.zeros(SHAPE, np.bool_)
    mask[row, first:last] = True
    return mask


def test_the_true_edges_score_one() -> None:
    true = line(20) | line(40)
    scores = evaluate_edges([(true.astype(np.float32), [true])])
    assert (scores.ods, scores.ois, scores.ap) == (1.0, 1.0, 1.0)


def test_half_of_the_edges_is_a_recall_of_a_half() -> None:
    scores = evaluate_edges([(line(20).astype(np.float32), [line(20) | line(40)])])
    assert scores.ods == pytest.approx(2 / 3)
    # precision 1 up to a recall of 0.5, nothing beyond: 51 of 101 recalls
    assert scores.ap == pytest.approx(51 / 101)


def test_an_edge_may_be_a_little_beside_the_true_one() -> None:
    reach = 0.0075 * np.hypot(*SHAPE)
    assert 0 < reach < 1
    assert count_edges(line(20), [line(21)]) == (0, 80, 0, 80)
    wide = np.zeros((300, 400), np.bool_)
    wide[100] = True
    beside = np.roll(wide, 3, 0)
    assert count_edges(wide, [beside]) == (400, 400, 400, 400), "3 px of 3.75"
    assert count_edges(wide, [np.roll(wide, 4, 0)]) == (0, 400, 0, 400)


def test_each_true_pixel_is_found_once() -> None:
    true = np.zeros((300, 400), np.bool_)
    true[100, 50] = True
    found = np.zeros_like(true)
    found[100, [48, 52]] = True
    assert count_edges(found, [true]) == (1, 1, 1, 2)


def test_what_any_annotator_has_drawn_is_right_and_all_of_them_are_to_be_found() -> None:
    assert count_edges(line(20), [line(20), line(40)]) == (80, 160, 80, 80)


def test_one_threshold_for_all_images_is_worse_than_one_for_each() -> None:
    good, bad = line(20), line(40)
    weak = np.where(good, 0.3, np.where(bad, 0.1, 0)).astype(np.float32)
    strong = np.where(good, 0.9, np.where(bad, 0.6, 0)).astype(np.float32)
    scores = evaluate_edges([(weak, [good]), (strong, [good])])
    assert scores.ois == 1.0
    # Cut below 0.3: all true, and the false line of the second image; 160 right of 240.
    assert scores.ods == pytest.approx(0.8) and 0.1 < scores.threshold <= 0.3


def test_thick_edges_are_thinned_before_they_are_counted() -> None:
    thick = line(19) | line(20) | line(21)
    matched, of, right, n = count_edges(thick, [line(20)])
    assert n <= 82 and right / n > 0.95 and matched / of > 0.95


def test_annotators_are_read_from_a_file_of_bsds(tmp_path: Path) -> None:
    cells = np.empty((1, 2), object)
    for k, row in enumerate((20, 40)):
        cell = np.empty((1, 1), [("Segmentation", object), ("Boundaries", object)])
        cell["Segmentation"][0, 0], cell["Boundaries"][0, 0] = np.ones(SHAPE), line(row)
        cells[0, k] = cell
    savemat(tmp_path / "a.mat", {"groundTruth": cells})
    found = read_bsds(tmp_path / "a.mat")
    assert len(found) == 2 and all(np.array_equal(f, line(r)) for f, r in zip(found, (20, 40), strict=True))
    (tmp_path / "b.mat").write_bytes(b"nonsense")
    with pytest.raises(VolumeError, match="BSDS500"):
        read_bsds(tmp_path / "b.mat")


def test_images_without_annotators_are_refused() -> None:
    with pytest.raises(VolumeError, match="annotators"):
        evaluate_edges([(np.zeros(SHAPE, np.float32), [])])
    with pytest.raises(VolumeError, match="no image"):
        evaluate_edges([])
