"""How fast the networks are, against the same formulas written out plainly, other people's code and the processor.

`python -m tests.benchmarks` runs it with its defaults; `python -m tests.benchmarks.bench_network --help` lists the
options. All of a line is measured in one run, in turns. The limit is what the operations of our own code would take if
all ran at the rate of a large matrix product, measured in the same run.

A click is one point, and the best of its three candidates as a mask of the plane. Weights are drawn, so that masks are
noise all over the plane and have to be enlarged as a whole: the worst case. The plain formulas, like the reference
implementation, enlarge all three candidates; "all masks" does the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from src_core import painting, tiling, zoo
from src_core.evaluation import markdown_table
from src_core.model.builder import build_sam
from src_core.model.sam import Sam
from src_core.tiles import Tile
from tests.benchmarks import eager_sam, peer_hf
from tests.src_core.model.golden import CASES, Golden, draw

PLANE_HW = (768, 1024)
OBJECTS = 20
NETWORKS = ("vit_b", "vit_t", "med2d_b", "nano")
DIFFERENCE = "largest difference, 1e-6"

Work = Callable[[], object]
Timer = Callable[[], float]
Row = dict[str, float]


def best_ms(*functions: Work, repeats: int, timer: Timer) -> list[float]:
    """Shortest time of each in milliseconds, taken in turns so that other load falls on all."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for i, function in enumerate(functions):
            start = timer()
            function()
            best[i] = min(best[i], 1e3 * (timer() - start))
    return best


def load(network: str) -> Sam:
    """Build a network with the weights that its recorded outputs belong to."""
    sam = build_sam(network)
    sam.load_state_dict({k: draw(k, tuple(v.shape)) for k, v in sam.state_dict().items()}, assign=True)
    return sam


def matmul_rate(timer: Timer) -> float:
    """Operations per millisecond of a product of two large matrices."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / best_ms(lambda: a @ a, repeats=8, timer=timer)[0]


def operations(work: Work) -> float:
    """Count the operations of matrix products and convolutions."""

    def attention(q: torch.Size, k: torch.Size, v: torch.Size, *_: object, **__: object) -> int:
        return int(sdpa_flop_count(q, k, v))

    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={on_cpu: attention}) as counter:
        work()
    return float(counter.get_total_flops())


class Bench:
    """Measures one kind of work after another."""

    def __init__(self, repeats: int, timer: Timer) -> None:
        self.repeats, self.timer = repeats, timer
        self.rate = matmul_rate(timer)
        self.rows: dict[str, Row] = {}

    def add(
        self, name: str, ours: Work, plain: Work | None, other: Work | None, often: int = 1, share: int = 1
    ) -> Row:
        """Measure one line; `share` objects share our work."""
        works = [work for work in (ours, plain, other) if work is not None]
        times = iter(best_ms(*works, repeats=often * self.repeats, timer=self.timer))
        row = {"ours ms": next(times) / share}
        if plain is not None:
            row["plain ms"] = next(times)
            row["plain / ours"] = row["plain ms"] / row["ours ms"]
        count = operations(ours) / share
        row |= {"GFLOP": count / 1e9, "limit ms": count / self.rate}
        row["limit / ours"] = row["limit ms"] / row["ours ms"]
        if other is not None:
            row["transformers ms"] = next(times)
            row["transformers / ours"] = row["transformers ms"] / row["ours ms"]
        self.rows[name] = row
        return row

    def network(self, network: str) -> None:
        """Measure encoder, one click, its three masks, and many objects on one slice."""
        sam = load(network)
        image = Golden(network).image(sam)
        embedding = sam.encode(image)[0]
        size = sam.image_size
        tile = tiling.whole(PLANE_HW, size)
        peer = peer_hf.Peer(sam) if network == "vit_b" and peer_hf.is_installed() else None
        point = (torch.tensor([[[0.4 * size, 0.3 * size]]]), torch.ones(1, 1, dtype=torch.int64))
        many = (torch.rand(OBJECTS, 1, 2) * 0.7 * size, torch.ones(OBJECTS, 1, dtype=torch.int64))

        def shown(points: tuple[Tensor, Tensor]) -> None:
            logits, iou, _ = sam.decode((embedding,), points)
            paint(sam, logits[torch.arange(len(iou)), iou.argmax(1)], tile)

        def every() -> None:
            paint(sam, sam.decode((embedding,), point).logits[0], tile)

        def plain() -> Tensor:
            return eager_sam.upscale(eager_sam.decode(sam, embedding, point)[0], size, *hw) > 0

        def other() -> Tensor:
            return eager_sam.upscale(peer.decode(embedding, point)[0], size, *hw) > 0

        hw = (tile.input_hw, PLANE_HW)
        theirs = None if peer is None else other
        encoder = self.add(
            f"{network}: image encoder",
            lambda: sam.encode(image),
            lambda: eager_sam.encode(sam, image),
            None if peer is None else lambda: peer.encode(image),
        )
        click = self.add(f"{network}: one click", lambda: shown(point), plain, theirs, often=10)
        self.add(f"{network}: one click, all masks", every, plain, theirs, often=10)
        self.add(
            f"{network}: one of {OBJECTS} objects", lambda: shown(many), plain, theirs, often=2, share=OBJECTS
        )
        if peer is not None:
            encoder[DIFFERENCE] = 1e6 * differs(peer.encode(image), embedding)
            pairs = zip(peer.decode(embedding, point), sam.decode((embedding,), point), strict=False)
            click[DIFFERENCE] = 1e6 * max(differs(a, b) for a, b in pairs)

    def nano(self) -> None:
        """Measure a tile and a click of the network that ships, which has no plain formulas."""
        sam = zoo.load("nano")
        image = torch.randn(1, 3, sam.image_size, sam.image_size)
        features = sam.encode(image)
        point = (torch.tensor([[[200.0, 180.0]]]), torch.ones(1, 1, dtype=torch.int64))
        tile = tiling.whole((sam.image_size, sam.image_size), sam.image_size)

        def click() -> None:
            logits, iou, _ = sam.decode(features, point)
            paint(sam, logits[0, int(iou.argmax())][None], tile)

        self.add("nano: tile of 512 px", lambda: sam.encode(image), None, None, often=2)
        self.add("nano: one click", click, None, None, often=10)


def paint(sam: Sam, logits: Tensor, tile: Tile) -> None:
    """Make masks of the plane of logits (M, h, w)."""
    for low in logits:
        painting.paint(sam, low, tile, np.zeros(tile.shape, np.bool_))


def differs(a: Tensor, b: Tensor) -> float:
    """Max |difference|."""
    return float((a - b).abs().max())


def golden_difference(network: str) -> float:
    """Max |difference| from the recorded outputs of the reference."""
    sam, golden = load(network), Golden(network)
    embedding = sam.encode(golden.image(sam))[0]
    worst = [golden.embedding(sam, embedding), *(golden.case(sam, embedding, case) for case in CASES)]
    return max(worst + ([golden.predictor(sam)] if golden.has_predictor else []))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="network")
    parser.add_argument("--repeats", type=int, default=2, help="encoder runs; clicks run ten times as often")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--golden", action="store_true", help="also compare with the recorded outputs")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, for a busy machine; one thread"
    )
    options = parser.parse_args()
    timer, clock = (time.process_time, "processor") if options.cpu_time else (time.perf_counter, "wall")
    threads = 1 if options.cpu_time else options.threads
    torch.set_num_threads(threads)
    with torch.inference_mode():
        bench = Bench(options.repeats, timer)
        for network in options.networks:
            bench.nano() if network == "nano" else bench.network(network)
        compared = "" if peer_hf.is_installed() else "; transformers is not installed: no comparison with it"
        print(
            f"torch {torch.__version__}, {threads} threads, best {clock} time of {options.repeats} encoder runs"
        )
        print(
            f"matrix product: {bench.rate / 1e6:.0f} GFLOP/s; clicks on {PLANE_HW[0]} x {PLANE_HW[1]} px{compared}\n"
        )
        print(markdown_table(bench.rows, "work"))
        if options.golden:
            for network in (n for n in options.networks if n != "nano"):
                print(f"{network}: max difference from recorded outputs {golden_difference(network):.1e}")


if __name__ == "__main__":
    main()
