"""The protocol's objects of the real volumes, propagated along z alone and fused with the other axes.

    python -m tests.benchmarks.bench_axes_protocol [--data ../shared/data] [--objects 40]

From the true middle slice. Nothing may be chosen on these objects.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from src_core.evaluation import markdown_table
from src_core.evaluation.datasets import objects_3d
from src_core.evaluation.propagation import Evaluation3D, propagate_object, propagation_of
from src_core.predictor import Predictor

SETS = ("plant_nuclei", "ovule_cells", "stardist3d")


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
            found = [
                propagate_object(propagation_of(predictor, axes, s.scale), s.volume, s.truth)
                for s in objects_3d(options.data, name, max_objects=options.objects)
            ]
            table[f"{name}, {axes}"] = Evaluation3D(tuple(found)).summary()
    print(markdown_table(table, "set, axes"))


if __name__ == "__main__":
    main()
