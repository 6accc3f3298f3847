"""How much memory a day's work on a volume larger than memory takes, and that it does not grow with the volume.

Run `python -m tests.benchmarks.bench_memory`; `--help` lists the options. It draws a uint16 zarr (4 GB in memory,
little on disk), and, in a process of its own for every line of the table: opens it, answers a click on each of 20
objects on the middle slice, carries them over the slices around it, saving every slice, and reports the highest
resident memory the system saw. `before` is that of the process with the network loaded and nothing opened. With
`--within` the objects lie closer together, in fewer tiles: the same memory in less time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr
from zarr.codecs import ZstdCodec

import src_core
from src_core.evaluation import markdown_table
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.propagation.settings import PropagationSettings
from tests.benchmarks.bench_network import load

RADIUS_PX = 40
CHUNK_PX = 512
ENDLESS = PropagationSettings(
    min_presence=-1, min_score=-float("inf"), min_overlap=-1, max_growth=float("inf")
)
"""Drawn weights answer with noise, which no walk would follow."""


def main() -> None:
    """Print one line per stack."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="nano", help="nano has the weights that ship, others drawn ones")
    parser.add_argument("--slices", type=int, nargs="+", default=[500, 250], help="of the stacks")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--propagate", type=int, nargs="+", default=[200, 100], help="slices, for each stack")
    parser.add_argument(
        "--within", type=int, help="side in pixels of the middle square that holds the objects"
    )
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        places = centres(options.side, options.objects, options.within)
        print(json.dumps(work(options.one, options.network, places, options.propagate[0])))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for slices, reach in zip(options.slices, options.propagate, strict=True):
            path = Path(folder) / "stack.zarr"
            draw(path, slices, options.side, centres(options.side, options.objects, options.within))
            again = [sys.executable, "-m", "tests.benchmarks.bench_memory", *sys.argv[1:]]
            again += ["--one", str(path), "--propagate", str(reach)]
            done = subprocess.run(again, check=True, capture_output=True, text=True)
            rows[f"{slices} x {options.side} x {options.side}"] = json.loads(done.stdout.splitlines()[-1])
            shutil.rmtree(path)
    print(f"{options.network}, {options.objects} objects; MiB of resident memory, processor seconds")
    print(markdown_table(rows, "stack"))


def centres(side: int, count: int, within: int | None) -> list[tuple[int, int]]:
    """Return (y, x) of the objects on the first slice, on a grid in the middle `within` pixels of a side."""
    columns = int(np.ceil(np.sqrt(count)))
    within = within or side
    first, step = (side - within) // 2, within // columns
    middles = [first + step * k + step // 2 for k in range(columns)]
    return [(middles[k // columns], middles[k % columns]) for k in range(count)]


def draw(path: Path, slices: int, side: int, places: list[tuple[int, int]]) -> None:
    """Write a stack of bright discs that wander from slice to slice; grain of few values, so that it packs well."""
    array = zarr.create_array(
        path,
        shape=(slices, side, side),
        chunks=(1, CHUNK_PX, CHUNK_PX),
        dtype="uint16",
        compressors=ZstdCodec(level=1),
        dimension_names=("z", "y", "x"),
    )
    rng = np.random.default_rng(0)
    grain = 200 * rng.integers(0, 4, (side, side), np.uint16) + 2000
    rows, columns = np.ogrid[-RADIUS_PX : RADIUS_PX + 1, -RADIUS_PX : RADIUS_PX + 1]
    disc = 6000 * (np.hypot(rows, columns) <= RADIUS_PX).astype(np.uint16)
    for z in range(slices):
        plane = grain.copy()
        y0, x0 = (round(20 * f(z / 30)) - RADIUS_PX for f in (np.sin, np.cos))
        for y, x in places:
            plane[y + y0 : y + y0 + len(disc), x + x0 : x + x0 + len(disc)] += disc
        array[z] = plane


def work(path: Path, network: str, places: list[tuple[int, int]], reach: int) -> dict[str, float]:
    """Open, click, propagate and save; return what it took."""
    torch.set_num_threads(1)
    predictor = Predictor.load("nano", "cpu") if network == "nano" else Predictor(load(network))
    before = _peak_mib()
    volume = src_core.open_volume(path)
    middle = volume.n_planes("z") // 2
    y0, x0 = (round(20 * f(middle / 30)) for f in (np.sin, np.cos))
    clicks = {k: Prompts([(y + y0, x + x0)]) for k, (y, x) in enumerate(places, start=1)}
    start = middle - reach // 2
    began = time.process_time()
    report = src_core.propagate_to_labels(
        predictor,
        volume,
        {middle: clicks},
        path.with_name("labels.ome.zarr"),
        start=start,
        stop=start + reach,
        settings=None if network == "nano" else ENDLESS,
        overwrite=True,
    )
    filled = sum(len(o.scores) for o in report.objects.values())
    return {
        "propagated": reach,
        "masks": filled,
        "before": before,
        "peak": _peak_mib(),
        "seconds": time.process_time() - began,
    }


def _peak_mib() -> float:
    """Highest resident memory of this process; `getrusage` would count that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
