"""Automatic masks and objects: planes, stacks, decoder calls, time and memory. One command does all of it:

    NAPARI_SAM_SHARED=/path/to/shared python -m tests.benchmarks.bench_automatic [--parts planes calls stacks ...]

Defaults are chosen on synthetic stacks from seeds that training never uses ("choosing"); on real images they are only
measured. Times are processor time of one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.automatic import SearchSettings, label_image, look, select
from src_core.evaluation import markdown_table, read_labelled, read_truth, test_files
from src_core.evaluation.instances import Contingency, Matches, adapted_rand_error, match, summary
from src_core.linking import LinkSettings, segment_stack
from src_core.predictor import Predictor
from src_core.synthetic import make_stack
from src_core.volumes import Volume, open_volume

SHARED = Path(os.environ.get("NAPARI_SAM_SHARED", "../shared"))
FIRST_SEED, N_STACKS, STACK_SHAPE = 8_000_000, 6, (12, 160, 160)
FAMILIES = ("nuclei", "membranes", "nuclei", "phase", "electron", "nuclei")
N_CALLS = 8
"""Images on which the full grid is asked, too: that takes minutes."""
REAL = ("plant_nuclei_1136", "plant_nuclei_1135", "ovule_cells", "stardist3d")
Rows = dict[str, dict[str, float]]
Case = tuple[str, Volume, NDArray[np.int64]]
"""A name, a volume and its true labels."""


def planes(predictor: Predictor, limit: int | None) -> Rows:
    """Average precision on the images of dsb2018 that training never sees."""
    folder = SHARED / "data" / "dsb2018"
    per_image: list[dict[str, float]] = []
    total = Matches(0, 0, 0)
    for name in test_files(folder)[:limit]:
        image, labels = read_labelled(folder / name)
        found, _, calls = searched(predictor, image, labels, SearchSettings())
        half = match(found, 0.5)
        total = total + half
        per_image.append(
            {
                "AP 0.5": half.average_precision,
                "AP 0.75": match(found, 0.75).average_precision,
                "recall 0.5": half.recall,
                "Rand error": adapted_rand_error(found)[0],
                "calls": calls,
            }
        )
        print(name, per_image[-1], flush=True)
    means = {key: float(np.mean([row[key] for row in per_image])) for key in per_image[0]}
    return {
        "dsb2018 test, mean of images": {"images": len(per_image), **means},
        "dsb2018 test, all objects together": {
            "images": len(per_image),
            "AP 0.5": total.average_precision,
            "recall 0.5": total.recall,
        },
    }


def searched(
    predictor: Predictor, image: NDArray[Any], labels: NDArray[Any], settings: SearchSettings
) -> tuple[Contingency, float, int]:
    """Search one image; returns what it shares with the truth, seconds, and decoder calls."""
    embedding = predictor.embed(image)
    clock = time.process_time()
    search = look(predictor, embedding, settings)
    drawn = label_image(select(search.records), (labels.shape[0], labels.shape[1]))
    seconds = time.process_time() - clock
    return Contingency.of([(labels.astype(np.int64), drawn.astype(np.int64))]), seconds, search.calls


def calls(predictor: Predictor, limit: int | None) -> Rows:
    """Full grid against adaptive search: decoder calls and recall on the same images."""
    folder = SHARED / "data" / "dsb2018"
    ways = {"full grid 32 x 32": SearchSettings(adaptive=False), "adaptive": SearchSettings()}
    sums: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
    for name in test_files(folder)[:: max(1, 60 // (limit or N_CALLS))]:
        image, labels = read_labelled(folder / name)
        for way, settings in ways.items():
            found, seconds, n = searched(predictor, image, labels, settings)
            half = match(found, 0.5)
            sums[way].append((n, half.recall, half.average_precision, seconds))
            print(name, way, sums[way][-1], flush=True)
    rows: Rows = {}
    for way, values in sums.items():
        n, recall, precision, seconds = np.mean(values, 0)
        rows[way] = {
            "images": len(values),
            "calls": float(n),
            "recall 0.5": float(recall),
            "AP 0.5": float(precision),
            "seconds": float(seconds),
        }
    return rows


def drawn_stacks(
    first_seed: int = FIRST_SEED,
    count: int = N_STACKS,
    shape: tuple[int, int, int] = STACK_SHAPE,
    families: Sequence[str] = FAMILIES,
    radii_px: tuple[float, float] = (10, 20),
) -> Iterator[Case]:
    """Yield synthetic stacks that training never sees, with the distance of their slices."""
    for n in range(count):
        radius = float(np.random.default_rng(n).uniform(*radii_px))
        stack = make_stack(first_seed + n, shape, families[n % len(families)], radius)
        axes = "zyxc" if stack.image.ndim == 4 else "zyx"
        scale = {"z": stack.z_step_px, "y": 1.0, "x": 1.0}
        volume = open_volume(stack.image, axes=axes, scale=scale)
        yield f"{stack.family} {n}", volume, stack.labels.astype(np.int64)


def real_stacks(data: Path = SHARED / "data") -> Iterator[Case]:
    """Yield the real volumes with their true instances."""
    for name in REAL:
        path = data / f"{name}.ome.zarr"
        yield name, open_volume(path), np.asarray(read_truth(path)[1][:]).astype(np.int64)


def stacks(
    predictor: Predictor,
    limit: int | None,
    source: Callable[[], Iterator[Case]],
) -> Rows:
    """Link every slice, or propagate seeds: scores in 3D."""
    rows: Rows = {}
    for n, (name, volume, truth) in enumerate(source()):
        if limit is not None and n >= limit:
            break
        for method in ("link", "seeds"):
            clock = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                report = segment_stack(
                    predictor, volume, Path(folder) / "a.zarr", links=LinkSettings(method=method)
                )
                blocks = ((truth[z], report.labels.read_plane("z", z)) for z in range(len(truth)))
                found = summary(Contingency.of((a, b.astype(np.int64)) for a, b in blocks))
            seconds = time.process_time() - clock
            rows[f"{name}, {method}"] = {**found, "calls": report.calls, "seconds": seconds}
            print(name, method, rows[f"{name}, {method}"], flush=True)
    for method in ("link", "seeds"):
        own = [row for name, row in rows.items() if name.endswith(method)]
        rows[f"mean, {method}"] = {key: float(np.mean([row[key] for row in own])) for key in own[0]}
    return rows


def speed(predictor: Predictor, _: int | None) -> Rows:
    """Time of a 512 x 512 slice against that of its embedding."""
    rows: Rows = {}
    for family, radius in (("nuclei", 15.0), ("nuclei", 40.0), ("electron", 25.0)):
        stack = make_stack(FIRST_SEED + 50, (3, 512, 512), family, radius)
        clock = time.process_time()
        for _n in range(3):
            embedding = predictor.embed(stack.image[1])
        encoding = (time.process_time() - clock) / 3
        clock = time.process_time()
        found = look(predictor, embedding, SearchSettings())
        kept = select(found.records)
        seconds = time.process_time() - clock
        rows[f"{family}, radius {radius:g} px"] = {
            "objects": len(kept),
            "calls": found.calls,
            "embedding s": encoding,
            "automatic s": seconds,
            "ratio": (encoding + seconds) / encoding,
        }
    return rows


def memory(predictor: Predictor, _: int | None) -> Rows:
    """Peak of Python's memory for stacks of different length."""
    rows: Rows = {}
    stack = make_stack(FIRST_SEED + 60, (6, 96, 96), "nuclei", 12.0)
    for count in (6, 24, 96):
        image = np.concatenate([stack.image, stack.image[::-1]] * 8)[:count]
        # Estimating the contrast takes a sample that grows with the stack, to a limit.
        volume = open_volume(image, contrast_limits=(0, 255))
        with tempfile.TemporaryDirectory() as folder:
            tracemalloc.start()
            segment_stack(
                predictor,
                volume,
                Path(folder) / "a.zarr",
                search=SearchSettings(points_per_side=10),
            )
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        rows[f"{count} slices"] = {"peak MB": peak / 1e6}
    return rows


PARTS: dict[str, Callable[[Predictor, int | None], Rows]] = {
    "planes": planes,
    "calls": calls,
    "choosing": lambda predictor, limit: stacks(predictor, limit, drawn_stacks),
    "stacks": lambda predictor, limit: stacks(predictor, limit, real_stacks),
    "speed": speed,
    "memory": memory,
}


def main() -> None:
    """Print a table for each part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--limit", type=int, help="Only so many images or stacks of a part.")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    predictor = Predictor.load(options.model, "cpu")
    for part in options.parts:
        print(f"\n## {part}\n")
        print(markdown_table(PARTS[part](predictor, options.limit), part), flush=True)


if __name__ == "__main__":
    main()
