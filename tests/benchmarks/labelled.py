"""Labelled images on which something may be looked at or chosen: those outside the protocol's test split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.evaluation import test_files
from src_core.evaluation.datasets import read_labelled


def outside_the_protocol(
    folder: Path, rng: np.random.Generator, count: int | None = None
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
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
