"""Look at what one click misses: a contact sheet of the objects below an IoU of 0.5, and how many there are.

    python -m tests.benchmarks.bench_misses --images ../shared/data/dsb2018 --out misses.png [--count 400] [--close 0.5]

Objects of labelled images other than those of the protocol, clicked in their middle. Green is the truth, red the
answer, cyan are the neighbours; above each its IoU, that of the best of the three candidates, and the score. A table
says how good clicks are on objects of each size. `--close` is `tiling.CLOSE`: how large enlarged tiles are. Needs
matplotlib.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core import tiling
from src_core.evaluation import iou, markdown_table
from src_core.evaluation.datasets import outside_the_protocol, some_objects
from src_core.masks import bounds, innermost
from src_core.predictor import Predictor
from src_core.prompts import Prompts

MISSED, MIN_AREA_PX, PER_IMAGE, COLUMNS = 0.5, 30, 4, 9
SIZES_PX = (30, 60, 120, 250, 500, 1000, 1_000_000)


def objects(folder: Path) -> Iterator[tuple[Any, Any, int]]:
    """Yield image, labels and id of a few objects of each image, in a fixed random order."""
    rng = np.random.default_rng(0)
    for image, labels in outside_the_protocol(folder, rng):
        for k in some_objects(rng, labels, MIN_AREA_PX, PER_IMAGE):
            yield image, labels, int(k)


def by_size(clicked: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """Return means over objects (area, IoU, best IoU, missed) of each size."""
    areas = clicked[:, 0]
    groups = {f"{low} to {high}": (areas >= low) & (areas < high) for low, high in pairwise(SIZES_PX)}
    rows = {}
    for name, group in {**groups, "all": areas > 0}.items():
        _, click, best, missed = clicked[group].mean(0) if group.any() else (0, 0, 0, 0)
        n = int(np.count_nonzero(group))
        rows[name] = {"objects": n, "click": click, "best of three": best, "missed": missed * n}
    return rows


def main() -> None:
    """Click, and draw what was missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=400, help="Objects to click on.")
    parser.add_argument(
        "--close", type=float, default=tiling.CLOSE, help="Side of enlarged tiles, of 512 px."
    )
    options = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tiling.CLOSE = options.close
    predictor = Predictor.load(options.model)
    missed, clicked, image, embedding = [], [], None, None
    for picture, labels, k in islice(objects(options.images), options.count):
        if picture is not image:
            image, embedding = picture, predictor.embed(picture, lazily=True)
        truth = labels == k
        found = predictor.predict(embedding, Prompts([innermost(truth)]))
        values = [iou(mask, truth) for mask in found.masks]
        if values[0] < MISSED:
            missed.append((picture, labels, truth, found, values))
        clicked.append((np.count_nonzero(truth), values[0], max(values), values[0] < MISSED))
    print(markdown_table(by_size(np.array(clicked)), "pixels"))
    rows = max(1, -(-len(missed) // COLUMNS))
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(2.4 * COLUMNS, 2.5 * rows), squeeze=False)
    for panel in axes.flat:
        panel.axis("off")
    for panel, (picture, labels, truth, found, values) in zip(axes.flat, missed, strict=False):
        y0, x0, y1, x1 = bounds(truth)
        side = int(max(y1 - y0, x1 - x0, 12))
        part = (slice(max(0, y0 - side), y1 + side), slice(max(0, x0 - side), x1 + side))
        panel.imshow(picture[part], cmap="gray")
        others = (labels > 0) & ~truth
        for mask, colour in ((others, "cyan"), (truth, "lime"), (found.masks[0], "red")):
            if 0 < np.count_nonzero(mask[part]) < mask[part].size:
                panel.contour(mask[part], [0.5], colors=colour, linewidths=1)
        panel.set_title(f"{values[0]:.2f}, best {max(values):.2f}, score {found.scores[0]:.2f}", fontsize=8)
    figure.tight_layout()
    figure.savefig(options.out, dpi=70)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
