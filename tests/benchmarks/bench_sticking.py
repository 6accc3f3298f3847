"""Do corrections stick, and what is it worth that they do?

    python -m tests.benchmarks.bench_sticking --images ../shared/data/dsb2018 [--model nano] [--count 60]

Eight clicks on each object, every one on the middle of the largest error of the answer before: how many answers leave a
click on the wrong side of the outline, and the mean IoU after each, by the network alone and with
`src_core.clicked.obeyed`. Drawn planes from seeds that training never uses, and images outside the protocol's test
split.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from src_core.clicked import obeyed
from src_core.embedding import Embedding
from src_core.evaluation import markdown_table
from src_core.evaluation.clicks import Click, next_click
from src_core.masks import Mask, innermost, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from tests.benchmarks.labelled import Planes, arguments, asked, sources

CLICKS = 8
WAYS = {"the network alone": lambda logits, *_: logits, "as clicks say": obeyed}


def series(predictor: Predictor, embedding: Embedding, truth: Mask) -> tuple[list[float], list[bool]]:
    """Return the IoU after every click, and whether the answer goes against any; a perfect answer ends it."""
    clicks = [Click(*innermost(truth), True)]
    ious: list[float] = []
    against: list[bool] = []
    before: dict[str, Any] = {}
    while len(ious) < CLICKS:
        asked = Prompts([(c.y, c.x) for c in clicks], [int(c.positive) for c in clicks], **before)
        found = predictor.predict(embedding, asked)
        mask = found.masks[0]
        ious.append(iou(mask, truth))
        against.append(any(bool(mask[c.y, c.x]) != c.positive for c in clicks))
        following = next_click(truth, mask)
        if following is None:
            ious += [1.0] * (CLICKS - len(ious))
            break
        clicks.append(following)
        before = {"mask": found.logits[0], "mask_window": found.window}
    return ious, against


def measured(predictor: Predictor, planes: Planes, count: int) -> dict[str, float]:
    """Click on `count` objects."""
    rows, against = [], []
    for embedding, truth in asked(predictor, planes, count, np.random.default_rng(0)):
        ious, wrong = series(predictor, embedding, truth)
        rows.append(ious)
        against += wrong
    means = np.mean(rows, 0)
    table = {"objects": float(len(rows)), "against a click": float(np.mean(against))}
    return table | {f"{n} clicks": float(means[n - 1]) for n in (1, 2, 3, 5, 8)}


def main() -> None:
    """Print the table."""
    options = arguments(__doc__, 60)
    torch.set_num_threads(1)
    predictor, table = Predictor.load(options.model, "cpu"), {}
    for name in ("drawn", "images"):
        for way, obey in WAYS.items():
            with patch("src_core.predictor.obeyed", obey):
                found = measured(predictor, sources(options.images)[name], options.count)
            table[f"{name}, {way}"] = found
    print(markdown_table(table, ""))


if __name__ == "__main__":
    main()
