"""How much to enlarge small planes: `tiling.MAX_ZOOM` on held-out synthetic planes of 64 to 128 px.

python -m tests.benchmarks.bench_zoom [--model nano]
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np
import torch

from src_core import tiling
from src_core.evaluation import iou, markdown_table
from src_core.masks import bounds, innermost
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.synthetic import make_stack

FIRST_SEED, STACKS = 8_000_000, 40
FAMILIES = ("nuclei", "membranes", "electron", "nuclei", "phase")
SIDES = (64, 100, 128)
ZOOMS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
MIN_AREA_PX, MAX_AREA_PX, MAX_OBJECTS = 60, 3000, 4


def main() -> None:
    """Print one line per zoom."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    predictor = Predictor.load(parser.parse_args().model)
    torch.set_grad_enabled(False)
    planes = []
    for n in range(STACKS):
        radius = float(np.random.default_rng(n).uniform(7, 18))
        side = SIDES[n % len(SIDES)]
        stack = make_stack(FIRST_SEED + n, (3, side, side), FAMILIES[n % len(FAMILIES)], radius)
        ids, areas = np.unique(stack.labels[1], return_counts=True)
        fitting = [k for k, area in zip(ids, areas, strict=True) if k and MIN_AREA_PX < area < MAX_AREA_PX]
        planes.append((stack.image[1], [stack.labels[1] == k for k in fitting[:MAX_OBJECTS]]))
    rows = {}
    for zoom in ZOOMS:
        found = []
        with mock.patch.object(tiling, "MAX_ZOOM", zoom):
            for image, truths in planes:
                embedding = predictor.embed(image)
                for truth in truths:
                    asked = (
                        Prompts([innermost(truth)]),
                        Prompts(box_yxyx=bounds(truth)),
                        Prompts(mask=truth),
                    )
                    answers = [predictor.predict(embedding, prompts) for prompts in asked]
                    ious = [iou(answer.masks[0], truth) for answer in answers]
                    error = np.mean([abs(a.scores[0] - i) for a, i in zip(answers, ious, strict=True)])
                    found.append((*ious, error))
        click, box, mask, error = np.mean(found, axis=0)
        rows[f"{zoom:g}"] = {"objects": len(found), "click": click, "box": box, "mask": mask, "error": error}
    print(markdown_table(rows, "at most"))


if __name__ == "__main__":
    main()
