"""Train `Continuity` on walks of the network through synthetic stacks, on past the objects' ends.

    python -m src_core.training.continuity --walks runs/walks --out src_core/weights/continuity.safetensors

Stacks are drawn from seeds of their own, which neither the network's training nor a benchmark uses. Walks are kept
in a folder, one file a stack: a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from src_core.continuity import N_FEATURES, Continuity, Memory, Picture, features, picture_of
from src_core.embedding import Embedding
from src_core.files import write_atomically
from src_core.masks import iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.synthetic import FAMILIES, make_stack
from src_core.training.judges import Course, train
from src_core.types import Candidates
from src_core.volumes import Volume, open_volume

FIRST_SEED = 2_000_000
SHAPE = (24, 192, 192)
MAX_OBJECTS, MIN_SLICES, MIN_AREA_PX = 6, 4, 60
BEYOND = 6
"""How many slices a walk is followed past the object's end."""
COURSE = Course(epochs=50, batch=128, learning_rate=3e-3, weight_decay=0.05)

Rows = NDArray[np.float32]
"""(n, 2 N_FEATURES + 2): numbers of a slice and of the one before, whether the object is there, and its IoU."""


class _Scene:
    """A stack as the network sees it, every slice encoded once."""

    def __init__(self, predictor: Predictor, volume: Volume) -> None:
        self.predictor, self.volume = predictor, volume
        self._slices: dict[int, tuple[Embedding, Picture]] = {}

    def at(self, z: int) -> tuple[Embedding, Picture]:
        if z not in self._slices:
            plane = self.volume.plane(z=z)
            self._slices[z] = self.predictor.embed(plane), picture_of(plane.rgb8())
        return self._slices[z]

    def walk(self, truth: NDArray[np.bool_], start: int, direction: int) -> Iterator[Rows]:
        """Yield one row a slice, from the true mask on slice `start`, until the mask is empty."""
        mask, prompt = truth[start], Prompts(mask=truth[start])
        memory = Memory.of(self.at(start)[1], mask)
        z, past = start + direction, 0
        while 0 <= z < len(truth) and past < BEYOND:
            embedding, now = self.at(z)
            found = self.predictor.predict(embedding, prompt, multimask=False)
            if not found.masks[0].any():
                return
            before = self.at(z - direction)[1]
            numbers = features(memory, mask, found, now, before)
            yield np.array([*numbers, *memory.last, *_truth(found, truth[z])], np.float32)
            memory = memory.after(found, numbers)
            mask, prompt = found.masks[0], Prompts(mask=found.logits[0], mask_window=found.window)
            past += not truth[z].any()
            z += direction


def _truth(found: Candidates, truth: NDArray[np.bool_]) -> tuple[float, float]:
    return float(truth.any()), iou(found.masks[0], truth)


def walks(predictor: Predictor, seed: int) -> Rows:
    """Walk up and down from one slice of each of some objects of the stack that `seed` draws."""
    stack = make_stack(seed, SHAPE, family=list(FAMILIES)[seed % len(FAMILIES)])
    scene = _Scene(predictor, open_volume(stack.image, axes="zyxc" if stack.image.ndim == 4 else "zyx"))
    rows: list[Rows] = []
    for truth, start in _starts(stack.labels, seed):
        for direction in (-1, 1):
            rows += scene.walk(truth, start, direction)
    return np.array(rows, np.float32).reshape(len(rows), 2 * N_FEATURES + 2)


def _starts(labels: NDArray[np.uint16], seed: int) -> Iterator[tuple[NDArray[np.bool_], int]]:
    """Yield some objects with the slice to start from, most often their middle."""
    rng, count = np.random.default_rng(seed), 0
    for identity in rng.permutation(np.unique(labels)[1:]):
        truth = labels == identity
        planes = np.nonzero(truth.any((1, 2)))[0]
        start = int(planes[len(planes) // 2] if rng.random() < 0.7 else rng.choice(planes))
        if len(planes) >= MIN_SLICES and np.count_nonzero(truth[start]) >= MIN_AREA_PX:
            yield truth, start
            count += 1
        if count == MAX_OBJECTS:
            return


def collect(predictor: Predictor, folder: Path, seeds: Sequence[int]) -> list[Rows]:
    """Return the walks of each seed, from the folder where they are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in seeds:
        path = folder / f"{seed}.npy"
        if not path.exists():
            rows = walks(predictor, seed)
            write_atomically(path, lambda part, rows=rows: _write(part, rows))  # type: ignore[misc]
            print(f"stack {seed}: {len(rows)} slices", flush=True)
        found.append(np.load(path))
    return found


def kept(folder: Path) -> dict[int, Rows]:
    """Return the walks that a folder has, by the seeds of their stacks."""
    return {int(path.stem): np.load(path) for path in sorted(folder.glob("*.npy"))}


def _write(path: Path, rows: Rows) -> None:
    with path.open("wb") as file:
        np.save(file, rows)


def fit(rows: Rows, seed: int = 0) -> Continuity:
    """Train a judge on rows: cross-entropy on presence, absolute error on the IoU where the object is."""
    torch.manual_seed(seed)
    numbers, there, iou = (torch.from_numpy(p) for p in (rows[:, :-2], rows[:, -2], rows[:, -1]))

    def loss(said: Tensor, batch: Tensor) -> Tensor:
        presence, score = said.unbind(1)
        known = F.binary_cross_entropy_with_logits(presence, there[batch])
        return known + (there[batch] * (score.sigmoid() - iou[batch]).abs()).mean()

    return train(Continuity(), numbers, loss, COURSE)


@torch.inference_mode()
def report(judge: Continuity, rows: Rows) -> dict[str, float]:
    """Return how well presence is told, and the mean error of the score, judged and by the network itself."""
    presence, score = judge(torch.from_numpy(rows[:, :-2])).sigmoid().numpy().T
    there, iou = rows[:, -2] > 0, rows[:, -1]
    own = 1 / (1 + np.exp(-4 * rows[:, 0]))
    return {
        "slices": len(rows),
        "AUC of presence": _auc(presence, there),
        "of the network": _auc(own, there),
        "score error": float(np.abs(score * presence - iou).mean()),
        "of the network's": float(np.abs(np.clip(rows[:, 1] * own, 0, 1) - iou).mean()),
    }


def _auc(values: NDArray[np.floating], there: NDArray[np.bool_]) -> float:
    ranks = np.empty(len(values))
    ranks[np.argsort(values)] = np.arange(len(values))
    n = np.count_nonzero(there)
    return float((ranks[there].sum() - n * (n - 1) / 2) / (n * (len(values) - n)))


def main() -> None:
    """Collect walks, report on a quarter of the stacks what training on the others gives, then train on all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=160)
    parser.add_argument("--walks", type=Path, required=True)
    parser.add_argument(
        "--more", type=Path, nargs="*", default=[], help="Walks of other weights, to train on as well."
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + options.stacks)
    found = collect(Predictor.load(options.model), options.walks, seeds)
    more = [(seed, rows) for folder in options.more for seed, rows in kept(folder).items()]
    held_out, others = found[::4], [rows for i, rows in enumerate(found) if i % 4]
    others += [rows for seed, rows in more if seed % 4]  # seeds are those of the same stacks
    if held_out and others:
        print(report(fit(np.concatenate(others)), np.concatenate(held_out)))
    judge = fit(np.concatenate([*found, *(rows for _, rows in more)]))
    write_atomically(options.out, lambda part: save_file(judge.state_dict(), part))


if __name__ == "__main__":
    main()
