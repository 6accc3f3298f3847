"""How well a box has to fit.

    python -m tests.benchmarks.bench_loose --images ../shared/data/dsb2018 [--model nano] [--count 120]

Boxes around objects: exact, with noise on every side, and with room left on every side, as parts of the object's sides.
Drawn planes from seeds that training never uses, and images outside the protocol's test split.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.evaluation import markdown_table
from src_core.masks import Box, bounds, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.training.clicks import OUTWARDS
from tests.benchmarks.labelled import Planes, arguments, asked, sources

SIDES: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "exact": lambda rng: np.zeros(4),
    "5 % off": lambda rng: rng.normal(0, 0.05, 4),
    "0 to 15 % room": lambda rng: OUTWARDS * rng.uniform(0, 0.15, 4),
    "10 % room": lambda rng: OUTWARDS * 0.1,
    "20 % room": lambda rng: OUTWARDS * 0.2,
}
"""By how much (y0, x0, y1, x1) move, as parts of the object's height and width."""


def moved(box: Box, by: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[float, ...]:
    """Move a box's sides, to whole pixels and within the plane."""
    y0, x0, y1, x1 = box
    sides = np.array(box) + by * [y1 - y0, x1 - x0, y1 - y0, x1 - x0]
    low, high = np.rint(sides[:2]), np.rint(sides[2:])
    limits = np.array(shape[:2])
    low = np.clip(low, 0, limits - 1)
    return (*low.tolist(), *np.clip(high, low + 1, limits).tolist())


def measured(predictor: Predictor, planes: Planes, count: int) -> dict[str, float]:
    """Return the mean IoU over `count` objects for every way to draw the box."""
    rng, rows = np.random.default_rng(0), []
    for embedding, truth in asked(predictor, planes, count, rng):
        boxes = [moved(bounds(truth), side(rng), truth.shape) for side in SIDES.values()]
        answers = [predictor.predict(embedding, Prompts(box_yxyx=b), multimask=False) for b in boxes]
        rows.append([iou(a.masks[0], truth) for a in answers])
    return {"objects": float(len(rows)), **dict(zip(SIDES, np.mean(rows, 0).tolist(), strict=True))}


def main() -> None:
    """Print the table."""
    options = arguments(__doc__, 120)
    torch.set_num_threads(1)
    predictor = Predictor.load(options.model, "cpu")
    groups = sources(options.images)
    table = {name: measured(predictor, found, options.count) for name, found in groups.items()}
    print(markdown_table(table, ""))


if __name__ == "__main__":
    main()
