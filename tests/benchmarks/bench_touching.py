"""Do a click on an object and one on background beside it part what touches?

    python -m tests.benchmarks.bench_touching --images ../shared/data/dsb2018 [--model nano] [--count 80]

Pairs of objects that touch, on labelled images other than those of the protocol: a click in the middle of one, then a
background click in the middle of the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.evaluation import markdown_table
from src_core.evaluation.datasets import outside_the_protocol
from src_core.masks import Mask, innermost, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts

MIN_AREA_PX, MIN_BORDER_PX, PER_IMAGE = 60, 5, 3
COLUMNS = ("click", "click and background click", "both objects, by the click", "best of three")


def pairs(folder: Path, count: int) -> Iterator[tuple[NDArray[Any], list[tuple[Mask, Mask]]]]:
    """Yield images, each with some objects and the neighbour that each shares most of its outline with."""
    rng = np.random.default_rng(5)
    for image, labels in outside_the_protocol(folder, rng, count):
        found: list[tuple[Mask, Mask]] = []
        for k in rng.permutation(np.unique(labels)[1:]):
            mask = labels == k
            if len(found) == PER_IMAGE or mask.sum() < MIN_AREA_PX:
                continue
            around = np.bincount(
                labels[ndi.binary_dilation(mask, iterations=2) & ~mask].astype(np.int64), minlength=1
            )
            around[0] = 0
            if around.max() >= MIN_BORDER_PX:
                found.append((mask, labels == around.argmax()))
        yield image, found


def main() -> None:
    """Print the mean IoU with the object, of all pairs and of those that one click rather merges."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=80, help="Images.")
    options = parser.parse_args()
    predictor = Predictor.load(options.model)
    rows = []
    for image, found in pairs(options.images, options.count):
        embedding = predictor.embed(image, lazily=True)
        for mask, other in found:
            here, beside = innermost(mask), innermost(other)
            one = predictor.predict(embedding, Prompts([here])).masks
            two = predictor.predict(embedding, Prompts([here, beside], [1, 0]), multimask=False).masks
            rows.append(
                (
                    iou(one[0], mask),
                    iou(two[0], mask),
                    iou(one[0], mask | other),
                    max(iou(m, mask) for m in one),
                )
            )
    values = np.array(rows)
    merged = values[values[:, 2] > values[:, 0]]
    parts = {"all": values, "merged by one click": merged}
    print(
        markdown_table(
            {
                name: {"pairs": len(part), **dict(zip(COLUMNS, part.mean(0), strict=True))}
                for name, part in parts.items()
            },
            Path(options.model).stem,
        )
    )


if __name__ == "__main__":
    main()
