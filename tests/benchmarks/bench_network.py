"""How fast the networks are, against the same formulas written out plainly.

Run `python -m tests.benchmarks.bench_network`; `--help` lists the options.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from src_core import frames, tiling
from src_core.model.builder import build_sam
from src_core.model.sam import Sam
from tests.benchmarks import eager_sam
from tests.src_core.model.golden import CASES, Golden, draw

PLANE_HW = (768, 1024)


Timer = Callable[[], float]


def best_ms(
    first: Callable[[], object], second: Callable[[], object], repeats: int, timer: Timer
) -> tuple[float, float]:
    """Shortest time of each in milliseconds, taken in turns so that other load falls on both."""
    best = [float("inf")] * 2
    for _ in range(repeats):
        for i, function in enumerate((first, second)):
            start = timer()
            function()
            best[i] = min(best[i], 1e3 * (timer() - start))
    return best[0], best[1]


def load(network: str) -> Sam:
    """Build a network with the weights that its recorded outputs belong to."""
    sam = build_sam(network)
    sam.load_state_dict({k: draw(k, tuple(v.shape)) for k, v in sam.state_dict().items()}, assign=True)
    return sam


def click_times(sam: Sam, embedding: Tensor, repeats: int, timer: Timer) -> tuple[float, float]:
    """One point, three masks at the plane's size: ours and plain."""
    size = sam.image_size
    tile = tiling.whole(PLANE_HW, size)
    points = (torch.tensor([[[0.4 * size, 0.3 * size]]]), torch.ones(1, 1, dtype=torch.int64))

    def ours() -> Tensor:
        return frames.upscale(sam, sam.decode((embedding,), points).logits, tile) > 0

    def plain() -> Tensor:
        logits = eager_sam.decode(sam, embedding, points)[0]
        return eager_sam.upscale(logits, size, tile.input_hw, PLANE_HW) > 0

    return best_ms(ours, plain, repeats, timer)


def golden_difference(sam: Sam, network: str) -> float:
    """Max |difference| from the recorded outputs of the reference."""
    golden = Golden(network)
    embedding = sam.encode(golden.image(sam))[0]
    worst = [golden.embedding(sam, embedding), *(golden.case(sam, embedding, case) for case in CASES)]
    return max(worst + ([golden.predictor(sam)] if golden.has_predictor else []))


def main() -> None:
    """Print one line per network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=["vit_b", "vit_t", "med2d_b"], metavar="network")
    parser.add_argument("--repeats", type=int, default=3, help="encoder runs; clicks run ten times as often")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--golden", action="store_true", help="also compare with the recorded outputs")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, for a busy machine; one thread"
    )
    options = parser.parse_args()
    timer, clock = (time.process_time, "processor") if options.cpu_time else (time.perf_counter, "wall")
    options.threads = 1 if options.cpu_time else options.threads
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} threads, best {clock} time of {options.repeats} in ms"
    )
    print(f"click: one point, three masks of {PLANE_HW[0]} x {PLANE_HW[1]} pixels")
    head = f"{'network':10}{'encoder':>10}{'eager':>10}{'ratio':>7}{'click':>10}{'eager':>10}{'ratio':>7}"
    print(head + ("   max |golden difference|" if options.golden else ""))
    for network in options.networks:
        sam = load(network)
        image = Golden(network).image(sam)
        with torch.inference_mode():
            embedding = sam.encode(image)[0]
            ours, plain = best_ms(
                lambda sam=sam, image=image: sam.encode(image),
                lambda sam=sam, image=image: eager_sam.encode(sam, image),
                options.repeats,
                timer,
            )
            click, plain_click = click_times(sam, embedding, 10 * options.repeats, timer)
            line = f"{network:10}{ours:10.1f}{plain:10.1f}{plain / ours:7.2f}"
            line += f"{click:10.2f}{plain_click:10.2f}{plain_click / click:7.2f}"
            if options.golden:
                line += f"   {golden_difference(sam, network):.1e}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
