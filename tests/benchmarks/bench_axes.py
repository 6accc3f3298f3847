"""Is it worth propagating along all three axes?

    python -m tests.benchmarks.bench_axes [--stacks 4] [--objects 2] [--real ../shared/data] [--keep FILE]

Objects start from their true middle slice along z. Compared are that run alone, and fused with runs along y and x
that start from what it found; on planes as they are, and with square pixels. What counts more or less in the vote
may be chosen on the synthetic stacks; the real volumes are only reported.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from src_core.embeddings import EmbeddingCache
from src_core.evaluation import iou, markdown_table
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.propagation import fusing, propagate, propagate_axes
from src_core.types import PlaneRef
from src_core.zoo.checkpoint import fingerprint
from tests.benchmarks.bench_strategies import real
from tests.benchmarks.flavours import FLAVOURS, Placed, placed
from tests.benchmarks.kept import Kept

WAYS = ("z alone", "zyx", "zyx, planes as they are", "zy", "zyx, away 0.25", "zyx, away 0.75")


def found_by(way: str, cache: EmbeddingCache, stack: Placed) -> dict[int, Mask]:
    """Propagate the objects of a stack together; return id -> (Z, Y, X) bool, with the start slices."""
    anchors: dict[int, dict[int, Mask]] = {}
    for k, z in stack.starts.items():
        anchors.setdefault(z, {})[k] = stack.labels[z] == k
    found = {k: np.zeros(stack.labels.shape, np.bool_) for k in stack.starts}
    for z, masks in anchors.items():
        for k, mask in masks.items():
            found[k][z] = mask
    axes, _, rest = way.partition(",")
    arguments = (cache.predictor, stack.volume, anchors)
    if way == "z alone":
        steps = propagate(*arguments, embed=lambda i: cache.get(PlaneRef("z", i)))
    else:
        steps = propagate_axes(*arguments, axes, embed=lambda i: cache.get(PlaneRef("z", i)))
    with (
        mock.patch.object(fusing, "AWAY", float(rest.split()[1]) if "away" in rest else fusing.AWAY),
        mock.patch.object(
            fusing, "isotropic", (lambda v, *_: v) if "as they are" in rest else fusing.isotropic
        ),
    ):
        for step in steps:
            for k, mask in step.masks.items():
                found[k][step.index] = mask
    return found


def measure(
    predictor: Predictor, stack: Placed, ways: list[str], kept: Kept
) -> dict[str, tuple[list[float], float]]:
    """Return the 3D IoU of every object, and the seconds that each way took."""
    for way in ways:
        if (stack.name, way, len(stack.starts)) not in kept:
            began = time.process_time()
            found = found_by(way, EmbeddingCache(predictor, stack.volume), stack)
            ious = []
            for k, z in stack.starts.items():
                rest = [i for i in range(len(stack.labels)) if i != z and i not in stack.lost]
                ious.append(iou(found[k][rest], stack.labels[rest] == k))
            kept.put((stack.name, way, len(stack.starts)), (ious, time.process_time() - began))
    return {way: kept[stack.name, way, len(stack.starts)] for way in ways}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=4, help="of every flavour")
    parser.add_argument("--objects", type=int, default=2, help="at most so many of each stack or volume")
    parser.add_argument("--flavours", nargs="*", default=["plain", "ends"], choices=FLAVOURS)
    parser.add_argument("--real", type=Path, help="folder of OME-Zarr volumes with ground truth")
    parser.add_argument("--only", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--keep", type=Path, help="file of results to add to and to go on with")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    predictor = Predictor.load(options.model)
    kept = Kept(options.keep, fingerprint(predictor.model))
    stacks = [s for f in options.flavours for s in placed(f, options.stacks, options.objects)]
    stacks += [] if options.real is None else real(options.real, options.objects)
    rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for stack in stacks:
        known = measure(predictor, stack, options.only, kept)
        for way in options.only:
            rows[way][stack.name.split()[0]] += known[way][0]
            rows[way]["seconds of CPU an object"].append(known[way][1] / max(1, len(known[way][0])))
    table = {way: {name: float(np.mean(values)) for name, values in row.items()} for way, row in rows.items()}
    print(markdown_table(table, "axes"))


if __name__ == "__main__":
    main()
