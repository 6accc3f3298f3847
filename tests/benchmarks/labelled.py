"""Labelled planes on which something may be looked at or chosen: drawn, or outside the protocol's test split."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from src_core.embedding import Embedding
from src_core.evaluation.datasets import Planes, outside_the_protocol, some_objects
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.training.room import drawn

DRAWN_SEED = 8_503_000
LEAST_PX, PER_PLANE = 60, 3
"""Of the objects that `asked` asks about, their size and how many there are on a plane at most."""


def arguments(description: str | None, count: int, *, report: bool = False) -> argparse.Namespace:
    """Parse which images, which model and how many objects a benchmark is about, and whether to report, too."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--count", type=int, default=count, help="objects")
    if report:
        parser.add_argument("--report", action="store_true", help="also on images of the protocol")
    return parser.parse_args()


def sources(images: Path) -> dict[str, Planes]:
    """Return drawn planes, and those of a folder outside the protocol's test split."""
    return {"drawn": drawn(DRAWN_SEED), "images": outside_the_protocol(images, np.random.default_rng(7))}


def asked(
    predictor: Predictor, planes: Planes, count: int, rng: np.random.Generator
) -> Iterator[tuple[Embedding, Mask]]:
    """Yield where to ask about `count` objects, up to three of each plane, and the mask of each."""
    found = 0
    for image, labels in planes:
        embedding = predictor.embed(image, lazily=True)
        for k in some_objects(rng, labels, LEAST_PX, PER_PLANE):
            yield embedding, labels == k
            found += 1
        if found >= count:
            return
