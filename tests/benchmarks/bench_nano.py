"""How fast nano is beside ViT-B: one tile encoded, and one click answered, in one run.

    python -m tests.benchmarks.bench_nano [--repeats 5]

A click is prompt encoder and mask decoder with three candidates, without the masks at image size. ViT-B has random
weights, which take the same time. Objects are small, as most are: nano answers them in a window.
"""

from __future__ import annotations

import argparse
import time

import torch

from src_core.evaluation import markdown_table
from src_core.model.builder import build_sam
from src_core.zoo import load
from tests.benchmarks.bench_network import best_ms

CLICK_XY = (200.0, 180.0)


def main() -> None:
    """Print milliseconds and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    if options.cpu_time:
        torch.set_num_threads(1)
    timer = time.process_time if options.cpu_time else time.perf_counter
    nano, vit_b = load("nano"), build_sam("vit_b").eval()
    points = torch.tensor([[CLICK_XY]]), torch.ones(1, 1, dtype=torch.int64)
    tile, image = torch.randn(1, 3, 512, 512), torch.randn(1, 3, 1024, 1024)
    own, other = nano.encode(tile), (torch.randn(1, 256, 64, 64),)
    rows = {
        "tile or image encoded": best_ms(
            lambda: nano.encode(tile),
            lambda: vit_b.encode(image),
            repeats=max(1, options.repeats // 2),
            timer=timer,
        ),
        "one click": best_ms(
            lambda: nano.decode(own, points),
            lambda: vit_b.decode(other, points),
            repeats=4 * options.repeats,
            timer=timer,
        ),
    }
    table = {name: {"nano": a, "ViT-B": b, "ViT-B / nano": b / a} for name, (a, b) in rows.items()}
    print(markdown_table(table, "milliseconds"))


if __name__ == "__main__":
    main()
