"""Labelled planes on which something may be looked at or chosen: drawn, or outside the protocol's test split."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.embedding import Embedding
from src_core.evaluation import test_files
from src_core.evaluation.datasets import read_labelled
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.synthetic import make_stack

Planes = Iterator[tuple[NDArray[Any], NDArray[Any]]]
"""Images, and the labels of their objects."""
DRAWN_SEED, DRAWN_SHAPE = 8_503_000, (3, 320, 320)
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


def outside_the_protocol(folder: Path, rng: np.random.Generator, count: int | None = None) -> Planes:
    """Yield image and labels of the folder's .npz files in a random order, at most `count`."""
    kept_back = set(test_files(folder))
    files = [f for f in sorted(folder.glob("*.npz")) if f.name not in kept_back]
    for file in rng.permutation(np.array(files, object))[:count]:
        yield read_labelled(file)


def some_objects(
    rng: np.random.Generator, labels: NDArray[Any], least_px: int, most: int
) -> NDArray[np.intp]:
    """Draw ids of at most `most` objects of a label plane that have at least `least_px` pixels."""
    areas = np.bincount(labels.ravel().astype(np.int64))
    areas[0] = 0
    return rng.permutation(np.nonzero(areas >= least_px)[0])[:most]


def drawn() -> Planes:
    """Yield planes and their labels without end."""
    for seed in range(DRAWN_SEED, DRAWN_SEED + 10**6):
        stack = make_stack(seed, DRAWN_SHAPE)
        yield stack.image[1], stack.labels[1]


def sources(images: Path) -> dict[str, Planes]:
    """Return drawn planes, and those of a folder outside the protocol's test split."""
    return {"drawn": drawn(), "images": outside_the_protocol(images, np.random.default_rng(7))}


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
