"""Edges lie on the outlines of objects and are thin."""

from __future__ import annotations

from typing import cast

import numpy as np

from src_core.automatic.edges import edges, thinned
from src_core.evaluation.edges import evaluate_edges
from src_core.predictor import Predictor
from src_core.synthetic import make_stack
from tests.src_core.automatic.stub import LabelPredictor


def outlines(labels: np.ndarray) -> np.ndarray:
    edge = np.zeros(labels.shape, np.bool_)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edge


def test_the_outlines_of_masks_are_the_edges() -> None:
    labels = np.zeros((160, 200), np.int64)
    for k, (y, x) in enumerate([(40, 40), (40, 140), (110, 90)], start=1):
        labels[np.hypot(*np.ogrid[-y : 160 - y, -x : 200 - x]) < 22] = k
    predictor = LabelPredictor(labels)
    found = edges(cast(Predictor, predictor), predictor.embed(None))
    assert found.dtype == np.float32 and found.max() == 1.0 and found.min() == 0.0
    assert evaluate_edges([(found, [outlines(labels)])], 9).ods > 0.9
    assert np.count_nonzero(found > 0.2) < 2.5 * np.count_nonzero(outlines(labels)), "thin"


def test_a_ridge_is_thinned_in_any_direction() -> None:
    y, x = np.mgrid[:80, :80]
    for angle in (0.0, 0.4, 0.8, 1.2, 1.57, 2.2):
        distance = (y - 40) * np.cos(angle) + (x - 40) * np.sin(angle)
        ridge = np.exp(-(distance**2) / 18).astype(np.float32)
        kept = thinned(ridge) > 0.3
        kept[[0, 1, 2, -3, -2, -1]] = kept[:, [0, 1, 2, -3, -2, -1]] = False  # the ridge ends at the rim
        assert np.abs(distance[kept]).max() < 1.5 and np.count_nonzero(kept) >= 70


def test_nano_draws_the_outlines_of_nuclei() -> None:
    stack = make_stack(8_000_304, (3, 96, 96), "nuclei", 10.0)
    predictor = Predictor.load("nano", "cpu")
    found = edges(predictor, predictor.embed(stack.image[1]))
    true = outlines(stack.labels[1].astype(np.int64))
    guess = np.random.default_rng(0).random(true.shape).astype(np.float32)
    score = evaluate_edges([(found, [true])], 9).ods
    assert score > evaluate_edges([(guess, [true])], 9).ods + 0.1


def test_a_plane_without_contrast_has_no_edges() -> None:
    predictor = LabelPredictor(np.zeros((30, 30), np.int64))
    assert not edges(cast(Predictor, predictor), predictor.embed(None)).any()
