"""The protocol's objects of the real volumes, propagated along z alone and fused with the other axes.

    python -m tests.benchmarks.bench_axes_protocol [--data ../shared/data] [--objects 40]

From the true middle slice. Unlike `napari-sam evaluate`, it tells the propagation how far apart the slices are, which
fusing needs for square pixels. Nothing may be chosen on these objects.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from src_core.evaluation import markdown_table
from src_core.evaluation.datasets import Sample3D, objects_3d
from src_core.evaluation.propagation import evaluate_3d, propagation_of
from src_core.predictor import Predictor
from src_core.volumes import open_volume

SETS = ("plant_nuclei", "ovule_cells", "stardist3d")


def samples(data: Path, name: str, count: int) -> tuple[dict[str, float], Iterator[Sample3D]]:
    """Return the size of the voxels of a set, and its objects."""
    first = open_volume(next(iter(sorted(data.glob(f"{name}*.ome.zarr")))))
    return {axis: first.scale[axis] for axis in "zyx"}, objects_3d(data, name, max_objects=count)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="nano")
    parser.add_argument("--objects", type=int, default=40)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    predictor, table = Predictor.load(options.model), {}
    for name in SETS:
        for axes in ("z", "zyx"):
            scale, objects = samples(options.data, name, options.objects)
            table[f"{name}, {axes}"] = evaluate_3d(propagation_of(predictor, axes, scale), objects).summary()
    print(markdown_table(table, "set, axes"))


if __name__ == "__main__":
    main()
