"""What keeping embeddings saves an automatic run, whose walks come by the same slices, and norms within convolutions.

    python -m tests.benchmarks.bench_encodings --data ../shared/data [--slices 20]

Tiles encoded, and processor time of one thread, for the first slices of real volumes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from src_core.embedding import Embedding
from src_core.embeddings import EmbeddingCache
from src_core.evaluation import markdown_table
from src_core.linking import segment_stack
from src_core.model.common import ConvNorm
from src_core.predictor import Predictor
from src_core.volumes import Volume, open_volume

NAMES = ("plant_nuclei_1136", "stardist3d")
APART = patch.object(ConvNorm, "forward", nn.Sequential.forward)
FORGETFUL = patch.object(EmbeddingCache, "get", lambda self, plane: self._embed(plane))
WAYS = {"as before": (APART, FORGETFUL), "norms in convolutions": (FORGETFUL,), "and embeddings kept": ()}


def measured(predictor: Predictor, volume: Volume, slices: int) -> dict[str, float]:
    """Segment the first slices of a volume."""
    counted, encode = [0.0], Embedding._encode

    def noted(self: Embedding, index: int) -> Any:
        began = time.process_time()
        features = encode(self, index)
        counted.append(time.process_time() - began)
        return features

    with tempfile.TemporaryDirectory() as folder, patch.object(Embedding, "_encode", noted):
        began = time.process_time()
        segment_stack(predictor, volume, Path(folder) / "labels.zarr", stop=slices)
        seconds = time.process_time() - began
    return {"tiles encoded": len(counted) - 1, "encoding, s": sum(counted), "seconds": seconds}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--slices", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    predictor, table = Predictor.load("nano", "cpu"), {}
    for name in NAMES:
        volume = open_volume(options.data / f"{name}.ome.zarr")
        for way, patches in WAYS.items():
            with ExitStack() as stack:
                for each in patches:
                    stack.enter_context(each)
                table[f"{name}, {way}"] = measured(predictor, volume, options.slices)
    print(markdown_table(table, ""))


if __name__ == "__main__":
    main()
