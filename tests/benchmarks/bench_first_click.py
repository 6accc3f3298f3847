"""What the first click on a large plane costs, in encodings of one tile.

    python -m tests.benchmarks.bench_first_click [--network vit_b] [--sides 2048 4096]

Clicks are answered through an overview and then, if the object is small, through a finer tile. Drawn weights answer
with noise, so the decoder's answer is replaced by a disc around the click, as an object of that size has one; encoding,
decoding and everything else take their time.
"""

from __future__ import annotations

import argparse
import time
from typing import Any
from unittest import mock

import numpy as np
import torch

from src_core import frames
from src_core.evaluation import markdown_table
from src_core.model.sam import Decoded
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from tests.benchmarks.bench_network import load

DIAMETERS_PX = (60, 1500)


def main() -> None:
    """Print one line for each plane and object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="vit_b")
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096])
    options = parser.parse_args()
    predictor = (
        Predictor.load("nano", "cpu") if options.network == "nano" else Predictor(load(options.network))
    )
    rows = {
        f"{side} x {side}, object of {diameter} px": first_click(predictor, side, diameter)
        for side in options.sides
        for diameter in DIAMETERS_PX
    }
    print(markdown_table(rows, options.network))


def first_click(predictor: Predictor, side: int, diameter: int) -> dict[str, float]:
    """Embed a plane and click once; processor seconds."""
    plane = np.random.default_rng(0).integers(0, 4000, (side, side), np.uint16)
    place = (0.4 * side, 0.6 * side)
    decode, encode = predictor.model.decode, frames.encode
    tiles: list[Any] = []
    encoding: list[float] = []

    def watched(model: Any, part: Any, tile: Any, *where: Any) -> Any:
        start = time.process_time()
        features = encode(model, part, tile, *where)
        encoding.append(time.process_time() - start)
        tiles.append(tile)
        return features

    def disc(*args: Any, **options: Any) -> Decoded:
        found = decode(*args, **options)
        window = frames.window(predictor.model, tiles[-1])
        height, width = found.logits.shape[-2:]
        y, x = (
            torch.linspace(window[axis], window[axis + 2], n) - place[axis]
            for axis, n in enumerate((height, width))
        )
        inside = torch.hypot(y[:, None], x[None]) < diameter / 2
        logits = torch.where(inside, 6.0, -6.0).expand_as(found.logits)
        return Decoded(logits, torch.full_like(found.iou, 0.9), found.presence)

    with mock.patch.object(frames, "encode", watched), mock.patch.object(predictor.model, "decode", disc):
        start = time.process_time()
        predictor.predict(predictor.embed(plane), Prompts([place]))
        seconds = time.process_time() - start
    one = sum(encoding) / len(encoding)
    return {"tiles": len(encoding), "one tile, s": one, "first click, s": seconds, "in tiles": seconds / one}


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
