"""Is it worth looking at small objects more closely? One click and a box on held-out synthetic planes, and small
objects propagated, with and without `Eyes.trusted`, and with enlarged tiles as large as others.

python -m tests.benchmarks.bench_closer [--model nano]
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from src_core import asking, questions, tiling
from src_core.evaluation import iou, markdown_table
from src_core.evaluation.datasets import Sample3D
from src_core.evaluation.propagation import evaluate_3d
from src_core.masks import Mask, bounds, innermost
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.synthetic import make_stack

PLANE_SEED, STACK_SEED = 8_100_000, 8_300_000
FAMILIES = ("nuclei", "membranes", "electron", "nuclei", "phase", "tubes")
SIDES = (256, 400, 700, 1024)
PLANES, STACKS, OBJECTS = 36, 24, 6
RULES: dict[str, tuple[float, float]] = {
    "by size alone": (0.0, tiling.CLOSE),
    "closer where not trusted, on large tiles": (questions.EYES[True].trusted, 1.0),
    "closer where not trusted": (questions.EYES[True].trusted, tiling.CLOSE),
}
"""`Eyes.trusted` and `tiling.CLOSE`."""


def main() -> None:
    """Print one line per rule."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    predictor = Predictor.load(parser.parse_args().model)
    torch.set_grad_enabled(False)
    planes, volumes = list(_planes()), list(_volumes())
    rows = {}
    for name, (trusted, close) in RULES.items():
        eyes = dataclasses.replace(questions.EYES[True], trusted=trusted)
        tiling.tiled.cache_clear()
        with mock.patch.object(tiling, "CLOSE", close), mock.patch.dict(questions.EYES, {True: eyes}):
            rows[name] = _clicked(predictor, planes) | _walked(predictor, volumes)
    print(markdown_table(rows, "tiles are chosen"))


def _planes() -> Iterator[tuple[NDArray[np.uint8], list[Mask]]]:
    for n in range(PLANES):
        side, rng = SIDES[n % len(SIDES)], np.random.default_rng(n)
        radius = float(np.exp(rng.uniform(np.log(4), np.log(60))))
        stack = make_stack(PLANE_SEED + n, (3, side, side), FAMILIES[n % len(FAMILIES)], radius)
        ids, areas = np.unique(stack.labels[1], return_counts=True)
        fitting = [k for k, area in zip(ids, areas, strict=True) if k and 30 < area < 0.3 * side**2]
        yield stack.image[1], [stack.labels[1] == k for k in rng.permutation(fitting)[:OBJECTS]]


def _volumes() -> Iterator[Sample3D]:
    for n in range(STACKS):
        rng, side = np.random.default_rng(n), (100, 200)[n % 2]
        family = ("nuclei", "membranes", "nuclei")[n % 3]
        stack = make_stack(STACK_SEED + n, (16, side, side), family, float(rng.uniform(4, 9)))
        labels = stack.labels.astype(np.int32)
        ids = [k for k in np.unique(labels)[1:] if _whole(labels == k)]
        for k in rng.permutation(ids)[:3]:
            yield Sample3D(Path(f"{n}"), stack.image, labels, int(k))


def _whole(truth: Mask) -> bool:
    there = truth.any((1, 2))
    return bool(5 <= there.sum() <= 14 and not there[0] and not there[-1])


def _clicked(predictor: Predictor, planes: list[tuple[NDArray[np.uint8], list[Mask]]]) -> dict[str, float]:
    asked, found = 0, []
    ask = asking.ask

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += len(arguments[3])
        return ask(*arguments)

    for image, truths in planes:
        embedding = predictor.embed(image)
        for truth in truths:
            with mock.patch.object(asking, "ask", counted):
                click = predictor.predict(embedding, Prompts([innermost(truth)]))
            box = predictor.predict(embedding, Prompts(box_yxyx=bounds(truth)))
            got = iou(click.masks[0], truth)
            found.append((got, abs(click.scores[0] - got), iou(box.masks[0], truth)))
    click_iou, error, box_iou = np.mean(found, axis=0)
    return {
        "objects": len(found),
        "click": click_iou,
        "score error": error,
        "box": box_iou,
        "questions a click": asked / len(found),
    }


def _walked(predictor: Predictor, volumes: list[Sample3D]) -> dict[str, float]:
    found = evaluate_3d(predictor, iter(volumes)).summary()
    return {
        "small objects": found["objects"],
        "3D IoU": found["IoU"],
        "ends within 1": found["ends within 1"],
    }


if __name__ == "__main__":
    main()
