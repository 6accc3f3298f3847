"""What it is worth to look at an object on the levels beside the one that fits, too.

    python -m tests.benchmarks.bench_looks --images ../shared/data/dsb2018 [--model nano] [--count 120]

One click, boxes, and up to eight clicks, each on the middle of the largest error; by one look alone, and together with
looks at what is next larger and next smaller. Drawn planes from seeds that training never uses, and images outside the
protocol's test split.
"""

from __future__ import annotations

import time
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch

from src_core import questions
from src_core.evaluation import markdown_table, number_of_clicks
from src_core.masks import iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.training.room import with_room
from tests.benchmarks.bench_loose import SIDES
from tests.benchmarks.bench_sticking import CLICKS, series
from tests.benchmarks.labelled import Planes, arguments, asked, sources

USED = questions.EYES[True]
WAYS = {"one look": replace(USED, beside_px=None), "and those beside": USED}
BOXES = ("exact", "5 % off", "10 % room")


def measured(predictor: Predictor, planes: Planes, count: int) -> dict[str, float]:
    """Return means over `count` objects: IoU, the error of a box's score, and processor time."""
    rows: list[dict[str, float]] = []
    for embedding, truth in asked(predictor, planes, count, np.random.default_rng(0)):
        row, began, rng = {}, time.process_time(), np.random.default_rng(len(rows))
        for name in BOXES:
            box = with_room(truth, SIDES[name](rng))
            found = predictor.predict(embedding, Prompts(box_yxyx=box))
            row[f"box, {name}"] = iou(found.masks[0], truth)
            if name == "exact":
                row["score error"] = abs(float(found.scores[0]) - row[f"box, {name}"])
        ious, _ = series(predictor, embedding, truth)
        row |= {f"{n} click{'s' if n > 1 else ''}": ious[n - 1] for n in (1, 2, 3, 5, 8)}
        row["NoC@90"] = number_of_clicks(ious, 0.9, CLICKS + 1)
        rows.append(row | {"seconds": time.process_time() - began})
    return {"objects": float(len(rows))} | {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}


def main() -> None:
    """Print the table."""
    options = arguments(__doc__, 120)
    torch.set_num_threads(1)
    predictor, table = Predictor.load(options.model, "cpu"), {}
    for name in ("drawn", "images"):
        for way, eyes in WAYS.items():
            with patch.dict(questions.EYES, {True: eyes}):
                found = measured(predictor, sources(options.images)[name], options.count)
            table[f"{name}, {way}"] = found
    print(markdown_table(table, ""))


if __name__ == "__main__":
    main()
