"""Find out whether reviewing the least sure slices first is worth it.

    python -m tests.benchmarks.bench_review [--stacks 10] [--games 12] [--real ../shared/data]

Objects of held-out synthetic stacks travel from their true middle slice, and so do, with --real, those of the real
volumes, on which nothing may be chosen. First: of the bad slices, how many are among the least sure? Then a game:
a simulated user looks at one slice after the other, clicks where it is wrong and propagates again, until the object
is right in 3D; `tests.benchmarks.review_game` has the rules.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.embeddings import EmbeddingCache
from src_core.evaluation import iou, markdown_table
from src_core.evaluation.datasets import objects_3d
from src_core.evaluation.propagation import middle_slice
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.propagation import propagate
from src_core.session_propagation import Doubt
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume
from tests.benchmarks.bench_propagation import stacks
from tests.benchmarks.review_game import ORDERS, play

BAD_IOU = (0.7, 0.5)
"""A slice below it is bad."""
REVIEWED = 0.1
"""The part of the slices that is looked at."""

Placed = tuple[Volume, NDArray[np.integer], dict[int, int]]
"""A volume, its labels and the chosen objects with the slice they start from."""


@dataclass(frozen=True)
class Filled:
    """A slice in the queue: its confidences, one by one and with doubt carried on, and the truth.

    Where an object `ended`, the slice is right if the object is not on it: then its IoU is 1, else 0.
    """

    alone: float
    carried: float
    iou: float
    ended: bool = False


def real(folder: Path, most: int) -> Iterator[tuple[str, Placed]]:
    """Yield the real volumes by name."""
    for path in sorted(folder.glob("*.ome.zarr")):
        found = list(islice(objects_3d(folder, path.name.removesuffix(".ome.zarr")), most))
        image = found[0].volume
        volume = open_volume(image, axes="zyxc" if image.ndim == 4 else "zyx")
        chosen = {s.object_id: middle_slice(s.truth) for s in found}
        yield path.name.removesuffix(".ome.zarr"), (volume, found[0].labels, chosen)


def fill(
    predictor: Predictor, volume: Volume, labels: NDArray[np.integer], chosen: dict[int, int]
) -> list[Filled]:
    """Propagate objects together; return the slices that were filled, and those on which objects ended."""
    cache = EmbeddingCache(predictor, volume)
    anchors: dict[int, dict[int, Mask]] = {}
    for k, middle in chosen.items():
        anchors.setdefault(middle, {})[k] = labels[middle] == k
    doubt, found = Doubt(anchors), []
    for step in propagate(predictor, volume, anchors, embed=lambda i: cache.get(PlaneRef("z", i))):
        if not step.anchor:
            carried = doubt.scores(step)
            for k, mask in step.masks.items():
                found.append(Filled(step.scores[k], carried[k], iou(mask, labels[step.index] == k)))
            for k, sure in step.ends.items():
                found.append(Filled(sure, sure, float(not (labels[step.index] == k).any()), ended=True))
    return found


def curve(confidences: NDArray[np.float64], bad: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the part of the bad slices among the least sure `REVIEWED`, and the area under the whole curve."""
    order = np.argsort(confidences, kind="stable")
    found = np.concatenate([[0.0], np.cumsum(bad[order]) / max(1, bad.sum())])
    reviewed = np.linspace(0, 1, len(found))
    return float(np.interp(REVIEWED, reviewed, found)), float(np.trapezoid(found, reviewed))


def judged(volumes: list[list[Filled]]) -> dict[str, dict[str, float]]:
    """Return the curve of every confidence in each volume, weighted by how many bad slices it has."""
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for limit in BAD_IOU:
        bads = [np.array([f.iou < limit for f in v]) for v in volumes]
        weights = np.array([bad.sum() for bad in bads])
        if not weights.sum():
            continue
        rows["bad slices"] |= {f"IoU < {limit}: in worst 10 %": float(weights.sum() / sum(map(len, volumes)))}
        ways = {
            "random order": None,
            "each slice by itself": [np.array([f.alone for f in v]) for v in volumes],
            "doubt carried on (used)": [np.array([f.carried for f in v]) for v in volumes],
            "the true order": [np.array([f.iou for f in v]) for v in volumes],
        }
        for name, confidences in ways.items():
            curves = (
                [(REVIEWED, 0.5)] * len(bads)
                if confidences is None
                else [curve(c, bad) for c, bad in zip(confidences, bads, strict=True)]
            )
            first, area = np.average(curves, axis=0, weights=weights)
            rows[name] |= {f"IoU < {limit}: in worst 10 %": first, f"IoU < {limit}: area": area}
            if confidences is not None:
                errors = [
                    abs(c - [f.iou for f in v]).mean() for c, v in zip(confidences, volumes, strict=True)
                ]
                rows[name]["error"] = float(np.average(errors, weights=[len(v) for v in volumes]))
    return rows


def ends(volumes: list[list[Filled]]) -> dict[str, float]:
    """Return how many ends there are, how many come too early, and how well their confidence tells which."""
    found = [f for v in volumes for f in v if f.ended]
    sure, right = np.array([f.carried for f in found]), np.array([f.iou for f in found])
    return {
        "ends": len(found),
        "too early": float((right == 0).mean()),
        "area": curve(sure, right == 0)[1],
        "area of a perfect order": curve(right, right == 0)[1],
        "error": float(np.abs(sure - right).mean()),
        "bad slices that are ends": sum(right == 0)
        / max(1, sum(f.iou < BAD_IOU[1] for v in volumes for f in v)),
    }


def games(predictor: Predictor, volumes: list[Placed], count: int) -> dict[str, dict[str, float]]:
    """Play with `count` objects, as many of each volume as of the others, in every order; return means."""
    results = defaultdict(list)
    each = -(-count // len(volumes))
    for volume, labels, chosen in volumes:
        cache = EmbeddingCache(predictor, volume)
        for k, middle in list(chosen.items())[:each]:
            if len(results["queue"]) < count:
                for order in ORDERS:
                    results[order].append(play(cache, labels == k, middle, order))
    return {
        order: {
            "objects": len(found),
            "clicks": float(np.mean([g.clicks for g in found])),
            "slices looked at": float(np.mean([g.looks for g in found])),
            "IoU at the start": float(np.mean([g.first_iou for g in found])),
            "IoU at the end": float(np.mean([g.iou for g in found])),
        }
        for order, found in results.items()
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=10)
    parser.add_argument("--games", type=int, default=12, help="objects of each set to play with")
    parser.add_argument("--real", type=Path, help="folder of OME-Zarr volumes with ground truth")
    parser.add_argument("--objects", type=int, default=25, help="at most so many of each real volume")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    predictor = Predictor.load(options.model)
    sets = {"synthetic, held out": list(stacks(options.stacks))}
    if options.real is not None:
        sets |= {name: [placed] for name, placed in real(options.real, options.objects)}
    for name, volumes in sets.items():
        print(f"\n{name}\n", flush=True)
        filled = [fill(predictor, *v) for v in volumes]
        print(markdown_table(judged(filled), "order"), flush=True)
        print(markdown_table({"slices beside an end": ends(filled)}), flush=True)
        if options.games:
            print(markdown_table(games(predictor, volumes, options.games), "order"), flush=True)


if __name__ == "__main__":
    main()
