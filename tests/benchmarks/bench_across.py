"""How long a second look across the slices takes, beside the walk before it.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.bench_across [--data ../shared/data] [--objects 1 5 20]

Objects of a real volume from the true masks on one slice, and discs on a drawn stack of 2048 x 2048 pixels, propagated
together: seconds of processor time, and the highest number of bytes that a block had.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from src_core.evaluation import markdown_table
from src_core.evaluation.datasets import objects_3d
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.propagation import propagate
from src_core.propagation.blocks import Block
from src_core.volumes import Volume, open_volume

DEEP, SIDE, RADIUS = 40, 2048, 24


def real(data: Path, count: int) -> tuple[str, Volume, dict[int, dict[int, Mask]]]:
    """Return a volume and the objects of its middle slice."""
    sample = next(iter(objects_3d(data, "plant_nuclei", max_objects=None)))
    volume = open_volume(sample.volume, axes="zyx", scale=sample.scale, units="micrometer")
    z = len(sample.labels) // 2
    ids = [int(k) for k in np.unique(sample.labels[z])[1:] if np.count_nonzero(sample.labels[z] == k) > 60]
    return "plant_nuclei", volume, {z: {k: sample.labels[z] == k for k in ids[:count]}}


def wide(count: int) -> tuple[str, Volume, dict[int, dict[int, Mask]]]:
    """Return balls far apart on large slices."""
    rng = np.random.default_rng(0)
    image = rng.normal(40, 8, (DEEP, SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    z, y, x = np.ogrid[:DEEP, -RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    ball = (2 * (z - DEEP // 2)) ** 2 + y**2 + x**2 <= RADIUS**2
    anchors: dict[int, Mask] = {}
    for k in range(1, count + 1):
        cy, cx = rng.integers(RADIUS, SIDE - RADIUS, 2)
        part = image[:, cy - RADIUS : cy + RADIUS + 1, cx - RADIUS : cx + RADIUS + 1]
        part[ball] = np.minimum(part[ball].astype(int) + 120, 255)
        anchors[k] = np.zeros((SIDE, SIDE), np.bool_)
        anchors[k][cy - RADIUS : cy + RADIUS + 1, cx - RADIUS : cx + RADIUS + 1] = ball[DEEP // 2]
    volume = open_volume(image, axes="zyx", scale={"z": 2.0, "y": 1.0, "x": 1.0}, units="micrometer")
    return f"{SIDE} x {SIDE}", volume, {DEEP // 2: anchors}


def measured(predictor: Predictor, volume: Volume, anchors: dict[int, dict[int, Mask]]) -> dict[str, float]:
    """Propagate the objects together."""
    began, walked, largest = time.process_time(), 0.0, 0
    lay = Block.lay

    def noted(block: Block, *args: object) -> Mask:
        nonlocal largest
        largest = max(largest, block.pixels.nbytes)
        return lay(block, *args)  # type: ignore[arg-type]

    Block.lay = noted  # type: ignore[method-assign]
    try:
        for step in propagate(predictor, volume, anchors):
            if step.again is None:
                walked = time.process_time() - began
    finally:
        Block.lay = lay  # type: ignore[method-assign]
    total = time.process_time() - began
    return {
        "walk, s": walked,
        "second look, s": total - walked,
        "ratio": total / walked,
        "MiB": largest / 2**20,
    }


def cases(data: Path, counts: list[int]) -> Iterator[tuple[str, Volume, dict[int, dict[int, Mask]]]]:
    """Yield what is measured."""
    for count in counts:
        for name, volume, anchors in (real(data, count), wide(count)):
            yield f"{name}, objects: {sum(map(len, anchors.values()))}", volume, anchors


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--objects", type=int, nargs="*", default=[1, 5, 20])
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    predictor, table = Predictor.load(options.model, "cpu"), {}
    for name, volume, anchors in cases(options.data, options.objects):
        table[name] = measured(predictor, volume, anchors)
        print(markdown_table(table, ""), flush=True)


if __name__ == "__main__":
    main()
