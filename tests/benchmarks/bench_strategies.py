"""Compare ways to carry a mask to the next slice.

    python -m tests.benchmarks.bench_strategies [--real ../shared/data] [--stacks 5] [--objects 4] [--keep FILE]

Objects start from a true slice. Synthetic stacks come in four flavours: as they are, with lost sections, with jumps
between slices, and with starts close to an object's end; defaults may be chosen on these. The real volumes are only
reported. With --keep, what is measured is kept line by line, and the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.embeddings import EmbeddingCache
from src_core.evaluation import iou, markdown_table
from src_core.evaluation.datasets import objects_3d
from src_core.evaluation.propagation import middle_slice
from src_core.predictor import Predictor
from src_core.volumes import open_volume
from src_core.zoo.checkpoint import fingerprint
from tests.benchmarks.flavours import FLAVOURS, Placed, placed
from tests.benchmarks.kept import Kept
from tests.benchmarks.strategies import STRATEGIES, walk

Result = dict[str, float]
"""Of one object: its 3D IoU without the start, and how far its low and its high end are off, in slices."""


def real(folder: Path, objects: int) -> Iterator[Placed]:
    """Yield the real volumes, each with so many objects drawn at random, from their middle slices."""
    for path in sorted(folder.glob("*.ome.zarr")):
        name = path.name.removesuffix(".ome.zarr")
        found = list(islice(objects_3d(folder, name, max_objects=objects), objects))
        image = found[0].volume
        volume = open_volume(image, axes="zyxc" if image.ndim == 4 else "zyx", scale=open_volume(path).scale)
        yield Placed(name, volume, found[0].labels, {s.object_id: middle_slice(s.truth) for s in found})


def result(
    found: NDArray[np.bool_], truth: NDArray[np.bool_], start: int, lost: frozenset[int] = frozenset()
) -> Result:
    """Compare what was found of an object with what is true, both (Z, Y, X)."""
    scored = [z for z in range(len(truth)) if z != start and z not in lost]
    own, true = (np.nonzero(m.any((1, 2)))[0] for m in (found, truth))
    return {
        "iou": iou(found[scored], truth[scored]),
        "low": int(true[0] - own[0]),
        "high": int(own[-1] - true[-1]),
    }


def measure(predictor: Predictor, stack: Placed, names: list[str], kept: Kept) -> None:
    """Try the strategies that have not been tried on a stack."""
    cache = EmbeddingCache(predictor, stack.volume)
    for name in names:
        key = (stack.name, name, len(stack.starts))
        if key not in kept:
            found = walk(cache, stack.labels, stack.starts, STRATEGIES[name])
            kept.put(
                key, [result(found[k], stack.labels == k, z, stack.lost) for k, z in stack.starts.items()]
            )


def table(kept: Kept, names: list[str], sets: dict[str, list[Placed]]) -> str:
    """Write a row per strategy: 3D IoU on every set, and over the synthetic ones how exact the ends are."""
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for name in names:
        drawn = []
        for group, stacks in sets.items():
            objects = [r for stack in stacks for r in kept[stack.name, name, len(stack.starts)]]
            rows[name][group] = float(np.mean([r["iou"] for r in objects]))
            drawn += objects if group in FLAVOURS else []
        ends = np.array([(r["low"], r["high"]) for r in drawn])
        rows[name] |= {
            "synthetic": float(np.mean([r["iou"] for r in drawn])),
            "ends within 1": float((np.abs(ends) <= 1).mean()),
        }
    return markdown_table(rows, "strategy")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=5, help="of every flavour")
    parser.add_argument("--objects", type=int, default=4, help="at most so many of each stack or volume")
    parser.add_argument("--real", type=Path, help="folder of OME-Zarr volumes with ground truth")
    parser.add_argument("--only", nargs="*", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--keep", type=Path, help="file of results to add to and to go on with")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    predictor = Predictor.load(options.model)
    kept = Kept(options.keep, fingerprint(predictor.model))
    sets: dict[str, list[Placed]] = defaultdict(list)
    for flavour in FLAVOURS:
        for stack in placed(flavour, options.stacks, options.objects):
            measure(predictor, stack, options.only, kept)
            sets[flavour].append(stack)
    for stack in () if options.real is None else real(options.real, options.objects):
        measure(predictor, stack, options.only, kept)
        sets[stack.name].append(stack)
    print(f"{options.objects} objects of each at most\n")
    print(table(kept, options.only, sets))


if __name__ == "__main__":
    main()
