"""How objects end: what planes across the slices are worth, taking back what grew again, closing, and looking again.

    python -m tests.benchmarks.bench_reach [--stacks 70] [--real ../shared/data]

Objects of drawn stacks, from a slice on which they are known: the walk alone, and with planes through the object that
say how far it reaches, less the slices beyond a waist, with less on the last slice, and looked at again across the
slices. Settings may be chosen on these; the protocol's objects of the real volumes are only reported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from src_core.evaluation import markdown_table
from src_core.evaluation.datasets import Sample3D, objects_3d
from src_core.evaluation.propagation import Evaluation3D, VolumeResult, propagate_object, propagation_of
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings, held
from tests.benchmarks.flavours import Placed, fine, placed

SETS = ("plant_nuclei", "ovule_cells", "stardist3d")
OBJECTS = 2
"""Of every drawn stack at most."""
WAYS = {
    "the walk alone": (PropagationSettings(sides=False, waists=False), held.SURER),
    "and the sides": (PropagationSettings(waists=False, across=()), held.SURER),
    "less what grew again": (PropagationSettings(across=()), 0.0),
    "and closed": (PropagationSettings(across=()), held.SURER),
    "and looked at again": (PropagationSettings(), held.SURER),
}
"""Settings, and which logits count on an object's last slice."""
THICK = 3.0
"""Voxels that are longer across the slices are shown apart."""


def drawn(stacks: Iterable[Placed]) -> Iterator[tuple[Sample3D, int]]:
    """Yield objects of drawn stacks and the slice each starts from."""
    for stack in stacks:
        scale = {axis: stack.volume.scale[axis] for axis in "zyx"}
        pixels, labels = np.asarray(stack.volume.array[:]), stack.labels.astype(np.int32)
        for k, z in stack.starts.items():
            yield Sample3D(Path(stack.name), pixels, labels, k, scale), z


def measured(
    predictor: Predictor, samples: Iterator[tuple[Sample3D, int | None]], ways: list[str]
) -> dict[str, list[tuple[float, VolumeResult]]]:
    """Propagate every object in every way; with each goes how long its voxels are across the slices."""
    found: dict[str, list[tuple[float, VolumeResult]]] = {way: [] for way in ways}
    for s, z in samples:
        scale = s.scale or {"z": 1.0, "y": 1.0}
        for way, results in found.items():
            settings, surer = WAYS[way]
            propagate = propagation_of(predictor, scale=s.scale, settings=settings)
            with patch.object(held, "SURER", surer):
                results.append(
                    (scale["z"] / scale["y"], propagate_object(propagate, s.volume, s.truth, z0=z))
                )
    return found


def row(results: list[tuple[float, VolumeResult]]) -> dict[str, float]:
    """Sum up, less what does not change."""
    summary = Evaluation3D(tuple(r for _, r in results)).summary()
    return {k: summary[k] for k in ("objects", "IoU", "ends within 1", "over", "under", "seconds")}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=70, help="drawn ones of either kind")
    parser.add_argument("--real", type=Path, help="folder of OME-Zarr volumes with ground truth")
    parser.add_argument("--objects", type=int, default=40, help="of each real set at most")
    parser.add_argument("--only", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    predictor, table = Predictor.load(options.model, "cpu"), {}
    groups = {flavour: drawn(placed(flavour, options.stacks, OBJECTS)) for flavour in ("plain", "ends")}
    groups["fine"] = drawn(fine(options.stacks, OBJECTS))
    for name in SETS if options.real else ():
        objects = objects_3d(options.real, name, max_objects=options.objects)
        groups[name] = ((s, None) for s in objects)
    for name, samples in groups.items():
        for way, results in measured(predictor, samples, options.only).items():
            table[f"{name}, {way}"] = row(results)
            thin = [(f, r) for f, r in results if f < THICK]
            if thin and name not in SETS:
                table[f"{name}, voxels up to {THICK:g} long, {way}"] = row(thin)
        print(markdown_table(table, "objects of"), flush=True)


if __name__ == "__main__":
    main()
