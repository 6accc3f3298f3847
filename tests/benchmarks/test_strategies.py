"""The benchmark of strategies: its walk does what propagation does, and its motion finds motion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from src_core.embeddings import EmbeddingCache
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings, propagate
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.benchmarks.bench_strategies import measure, result, table
from tests.benchmarks.flavours import FLAVOURS, Placed, placed
from tests.benchmarks.kept import Kept
from tests.benchmarks.strategies import STRATEGIES, USED, walk
from tests.napari_sam.fakes import Threshold, balls

SHAPE = (16, 96, 96)
LEFT = (balls() > 100) & (np.indices(balls().shape)[2] < 32)
LABELS = np.where(LEFT, 1, np.where(balls() > 100, 2, 0))
BALLS = Placed("balls", open_volume(balls()), LABELS, {1: 6, 2: 5})


def test_the_walk_that_is_used_is_what_propagation_does() -> None:
    stack = next(placed("jumps", 1, 3, SHAPE))
    cache = EmbeddingCache(Predictor.load("nano", device="cpu"), stack.volume)
    found = walk(cache, stack.labels, stack.starts, USED)
    anchors: dict[int, dict[int, np.ndarray]] = {}
    for k, z in stack.starts.items():
        anchors.setdefault(z, {})[k] = stack.labels[z] == k
    product = {k: np.zeros_like(found[k]) for k in found}
    alone = PropagationSettings(sides=False, waists=False)
    for step in propagate(
        cache.predictor, stack.volume, anchors, settings=alone, embed=lambda i: cache.get(PlaneRef("z", i))
    ):
        for k, mask in step.masks.items():
            product[k][step.index] = mask
    assert len(found) >= 2 and any(mask.any((1, 2)).sum() > 2 for mask in found.values())
    for k in found:
        assert np.array_equal(found[k], product[k])


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_finds_an_easy_object(name: str) -> None:
    found = walk(EmbeddingCache(Threshold(), BALLS.volume), LABELS, BALLS.starts, STRATEGIES[name])
    for k, z in BALLS.starts.items():
        got = result(found[k], LABELS == k, z)
        # the candidates of this network are the ball, a larger and a smaller one
        assert got["low"] == got["high"] == 0 and got["iou"] > (0.8 if "best of 3" in name else 0.99)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_flavours_are_what_they_say(flavour: str) -> None:
    stack = next(placed(flavour, 1, 3, SHAPE))
    again = next(placed(flavour, 1, 3, SHAPE))
    assert np.array_equal(stack.volume.array[:], again.volume.array[:]) and stack.labels.shape == SHAPE
    assert len(stack.lost) == (3 if flavour == "missing" else 0)
    for z in stack.lost:
        assert np.asarray(stack.volume.array[z]).max() < 6
    for k, z in stack.starts.items():
        planes = np.nonzero((stack.labels == k).any((1, 2)))[0]
        assert flavour != "ends" or min(z - planes[0], planes[-1] - z) <= 2


def test_what_is_kept_is_not_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    names = ["dense logits", "dense + box"]
    measure(Threshold(), BALLS, names, Kept(path, "one"))
    lines = path.read_text().splitlines()
    assert len(lines) == 2 and len(json.loads(lines[0])["value"]) == 2
    again = Kept(path, "one")
    measure(None, BALLS, names, again)  # type: ignore[arg-type]
    assert path.read_text().splitlines() == lines
    assert (BALLS.name, names[0], len(BALLS.starts)) not in Kept(path, "another")
    assert "1.000" in table(again, names, {"plain": [BALLS]})


def test_lost_slices_and_the_start_are_not_scored() -> None:
    truth = LEFT.copy()
    found = truth.copy()
    found[6] = found[7] = ~truth[7]
    assert result(found, truth, 6)["iou"] < 0.9
    assert result(found, truth, 6, frozenset({7}))["iou"] == 1
    assert result(found[:, :, :], truth, 6)["low"] == 0
