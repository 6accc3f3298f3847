"""Do objects that were found slice by slice look right from the side, and what is that worth?

    python -m tests.benchmarks.bench_sides [--stacks 12] [--real ../shared/data]

Every way of a seed through a drawn stack is a candidate: how well do the confidences on its slices, and how it looks on
two planes across them, tell its true 3D IoU? Then the candidates contest what they share, with and without the side,
and those below a confidence are left out. The least confidence may be chosen on the drawn stacks, from seeds that
training never uses; the real volumes are only reported.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.evaluation import markdown_table
from src_core.evaluation.instances import Contingency, summary
from src_core.labels import LabelVolume
from src_core.linking import LinkSettings
from src_core.linking.contest import contest
from src_core.linking.report import FoundObject, debris
from src_core.linking.seeds import drop
from src_core.linking.shelf import RecordShelf
from src_core.linking.stack import StackRun
from src_core.predictor import Predictor
from src_core.stepping import Stepwise
from src_core.volumes import Volume
from tests.benchmarks.bench_automatic import drawn_stacks, real_stacks

FIRST_SEED, SHAPE = 8_000_300, (24, 160, 160)
FAMILIES = ("nuclei", "membranes", "nuclei", "phase", "nuclei", "membranes", "electron", "nuclei")
LEAST = (0.0, 0.2, 0.25, 0.3, 0.35, 0.4)


def candidates_of(
    predictor: Predictor, volume: Volume, folder: Path
) -> tuple[RecordShelf, dict[int, FoundObject]]:
    """Search and grow, leaving nothing out; returns where the masks are, and the candidates."""
    labels = LabelVolume.create(folder / "all.zarr", volume)
    RecordShelf.prepare(labels.path, {})
    shelf = RecordShelf(labels.path)
    run = StackRun(predictor, volume, labels, shelf, "z", range(volume.n_planes("z")), 0, None)
    run.links = LinkSettings(min_confidence=0.0)
    for _ in run.seeds():
        pass
    return shelf, shelf.candidates(sys.maxsize)


def true_ious(
    shelf: RecordShelf, candidates: dict[int, FoundObject], truth: NDArray[np.int64]
) -> dict[int, float]:
    """Return the IoU of every candidate with the true object it fits best."""
    shared: dict[int, dict[int, int]] = {k: defaultdict(int) for k in candidates}
    for z, plane in enumerate(truth):
        for k, mask in shelf.walked(z, candidates).items():
            for i, n in zip(*np.unique(plane[mask.unpack()], return_counts=True), strict=True):
                shared[k][int(i)] += int(n)
    sizes = np.bincount(truth.ravel())
    return {
        k: max((n / (candidates[k].volume_px + sizes[i] - n) for i, n in own.items() if i), default=0.0)
        for k, own in shared.items()
    }


def decided(
    shelf: RecordShelf,
    candidates: dict[int, FoundObject],
    truth: NDArray[np.int64],
    volume: Volume,
    least: float,
) -> dict[str, float]:
    """Let candidates contest that are sure enough; returns the scores of what stays."""
    sure = {k: c for k, c in candidates.items() if c.confidence >= least}
    with tempfile.TemporaryDirectory() as folder:
        labels = LabelVolume.create(Path(folder) / "a.zarr", volume)
        steps = Stepwise(contest(shelf, labels, sure, range(len(truth)), axis="z", t=0))
        objects = steps.run()
        usual = LinkSettings()
        drop(labels, objects, debris(objects, usual.min_size, usual.min_slices), axis="z", t=0)
        planes = ((truth[z], labels.read_plane("z", z).astype(np.int64)) for z in range(len(truth)))
        return summary(Contingency.of(planes))


def main() -> None:
    """Print both tables for the drawn stacks, and for the real ones."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=12, help="drawn ones")
    parser.add_argument("--real", type=Path, help="folder of OME-Zarr volumes with ground truth")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    predictor = Predictor.load(options.model, "cpu")
    groups = {"drawn": drawn_stacks(FIRST_SEED, options.stacks, SHAPE, FAMILIES, (8, 20))}
    groups |= {"real": real_stacks(options.real)} if options.real else {}
    for group, cases in groups.items():
        told: list[tuple[float, ...]] = []
        scores: dict[str, list[dict[str, float]]] = defaultdict(list)
        for name, volume, truth in cases:
            with tempfile.TemporaryDirectory() as folder:
                shelf, candidates = candidates_of(predictor, volume, Path(folder))
                ious = true_ious(shelf, candidates, truth)
                told += [
                    (ious[k], float(np.mean(list(c.scores.values()))), c.side, c.confidence)
                    for k, c in candidates.items()
                ]
                for way, known in (
                    ("slices alone", {k: replace(c, side=1.0) for k, c in candidates.items()}),
                    ("and the side", candidates),
                ):
                    for least in LEAST:
                        scores[f"{way}, {least:g}"].append(decided(shelf, known, truth, volume, least))
            print(name, len(candidates), flush=True)
        numbers = np.corrcoef(np.array(told).T)[0, 1:]
        print(f"\n{group}: {len(told)} candidates; correlation with the true 3D IoU\n")
        rated = dict(zip(("on its slices", "from the side", "both"), numbers.tolist(), strict=True))
        print(markdown_table({group: rated}, "rated"))
        table = {
            way: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
            for way, rows in scores.items()
        }
        print("\n" + markdown_table(table, "who contests, least confidence"), flush=True)


if __name__ == "__main__":
    main()
