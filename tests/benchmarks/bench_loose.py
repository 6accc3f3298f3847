"""How well a box has to fit.

    python -m tests.benchmarks.bench_loose --images ../shared/data/dsb2018 [--model nano] [--count 120] [--report]

Boxes around objects: exact, with noise on every side, and with room left on every side, as parts of the object's sides;
taken as they are drawn, and made to fit (`src_core/room.py`). Drawn planes from seeds that training never uses, and
images outside the protocol's test split; those of the protocol are only for the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.evaluation import markdown_table, subset_2d
from src_core.masks import iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.training.room import with_room
from tests.benchmarks.labelled import Planes, arguments, asked, sources

SIDES: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "exact": lambda rng: np.zeros(4),
    "5 % off": lambda rng: rng.normal(0, 0.05, 4),
    "0 to 15 % room": lambda rng: rng.uniform(0, 0.15, 4),
    "10 % room": lambda rng: np.full(4, 0.1),
    "20 % room": lambda rng: np.full(4, 0.2),
}
"""How far (y0, x0, y1, x1) move outwards, as parts of the object's height and width."""


WAYS = ("as drawn", "fitted")


def protocol(folder: Path) -> dict[str, Planes]:
    """Return the images of the protocol, each with labels of those objects alone that it asks about."""
    return {
        name: ((s.image, np.where(np.isin(s.labels, s.ids), s.labels, 0)) for s in subset_2d(folder / name))
        for name in ("dsb2018", "isbi2012")
    }


def measured(predictor: Predictor, planes: Planes, count: int) -> dict[str, dict[str, float]]:
    """Return, for every way, means over `count` objects: IoU for each kind of box, and processor time of a box."""
    rng, judge = np.random.default_rng(0), predictor.room
    rows: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for embedding, truth in asked(predictor, planes, count, rng):
        boxes = [Prompts(box_yxyx=with_room(truth, side(rng))) for side in SIDES.values()]
        predictor.predict_many(embedding, boxes)  # tiles are encoded before time is taken
        for way, found in rows.items():
            predictor.room = judge if way == "fitted" else None
            began = time.process_time()
            answers = [predictor.predict(embedding, box) for box in boxes]
            seconds = (time.process_time() - began) / len(boxes)
            found.append([*(iou(a.masks[0], truth) for a in answers), seconds])
    names = [*SIDES, "seconds"]
    return {
        way: {"objects": float(len(found)), **dict(zip(names, np.mean(found, 0).tolist(), strict=True))}
        for way, found in rows.items()
    }


def main() -> None:
    """Print the table."""
    options = arguments(__doc__, 120, report=True)
    torch.set_num_threads(1)
    predictor = Predictor.load(options.model, "cpu")
    groups = sources(options.images) | (protocol(options.images.parent) if options.report else {})
    table = {}
    for name, planes in groups.items():
        for way, row in measured(predictor, planes, options.count).items():
            table[f"{name}, {way}"] = row
    print(markdown_table(table, ""))


if __name__ == "__main__":
    main()
