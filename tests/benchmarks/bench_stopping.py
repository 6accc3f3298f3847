"""Find out when a propagation should stop, on held-out synthetic stacks.

    python -m tests.benchmarks.bench_stopping [--model nano] [--stacks 20]

Every object walks up and down from its true middle slice without ever stopping. What the network said on each
slice, and how right it was, is kept, so that any rule can be judged afterwards without asking the network again.
Defaults of `PropagationSettings` may be chosen here: training never uses these stacks.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.continuity import Memory, Picture, picture_of
from src_core.embeddings import EmbeddingCache
from src_core.evaluation import markdown_table
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.types import PlaneRef
from tests.benchmarks.bench_propagation import stacks, summary

BEYOND = 6
"""How many slices a walk is followed past the object's end."""


@dataclass(frozen=True)
class Visit:
    """One slice of a walk: what the network said, and the truth; areas in pixels."""

    presence: float
    score: float
    area: int
    shared: int
    true_area: int


Walk = tuple[Visit, ...]
Rule = Callable[[Visit], bool]
"""True where the walk ends before this slice."""


def walks(predictor: Predictor, count: int) -> Iterator[tuple[Walk, Walk]]:
    """Yield each object's walks down and up."""
    for volume, labels, chosen in stacks(count):
        cache = EmbeddingCache(predictor, volume)
        for k, middle in chosen.items():
            yield _walk(cache, labels == k, middle, -1), _walk(cache, labels == k, middle, 1)


def _walk(cache: EmbeddingCache, truth: NDArray[np.bool_], middle: int, direction: int) -> Walk:
    prompt, previous = Prompts(mask=truth[middle]), truth[middle]
    judge, memory = cache.predictor.continuity, None
    if judge is not None:
        memory = Memory.of(_picture(cache, middle), previous)
    visits: list[Visit] = []
    z, past = middle + direction, 0
    while 0 <= z < len(truth) and past < BEYOND:
        found = cache.predictor.predict(cache.get(PlaneRef("z", z)), prompt, multimask=False)
        if judge is not None and memory is not None:
            now, before = _picture(cache, z), _picture(cache, z - direction)
            found, memory = judge.revise(memory, previous, found, now, before)
        mask, area = found.masks[0], int(truth[z].sum())
        shared = int((mask & truth[z]).sum())
        visits.append(Visit(found.presence, float(found.scores[0]), int(mask.sum()), shared, area))
        z += direction
        if not mask.any():
            break
        prompt, previous = Prompts(mask=found.logits[0], mask_window=found.window), mask
        past += not area
    # What the walk never reached still counts as missed.
    while 0 <= z < len(truth) and truth[z].any():
        visits.append(Visit(0, 0, 0, 0, int(truth[z].sum())))
        z += direction
    return tuple(visits)


def _picture(cache: EmbeddingCache, z: int) -> Picture:
    return picture_of(cache.get(PlaneRef("z", z)).picture)


def scores(pairs: list[tuple[Walk, Walk]], stops: Rule) -> dict[str, float]:
    """Return the scores of `bench_propagation` under a rule."""
    objects = []
    for pair in pairs:
        shared = union = 0
        beyond = []
        for walk in pair:
            end = next((i for i, v in enumerate(walk) if v.area == 0 or stops(v)), len(walk))
            beyond.append(end - sum(v.true_area > 0 for v in walk))
            shared += sum(v.shared for v in walk[:end])
            union += sum(v.true_area for v in walk) + sum(v.area - v.shared for v in walk[:end])
        objects.append((shared / max(1, union), beyond[0], beyond[1]))
    return summary(objects)


def rules() -> Iterator[tuple[str, Rule]]:
    """Yield what is tried: thresholds of presence and score, and of renewed growth after shrinking."""
    yield "emptiness alone", lambda v: False
    for presence, score in itertools.product((0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)):
        yield (
            f"presence {presence}, score {score}",
            lambda v, p=presence, s=score: v.presence < p or v.score < s,
        )
    for limit in (0.2, 0.3, 0.4, 0.5):
        yield f"presence x score {limit}", lambda v, x=limit: v.presence * v.score < x


def main() -> None:
    """Print the rules, best first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=20)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    pairs = list(walks(Predictor.load(options.model), options.stacks))
    rows = {name: scores(pairs, rule) for name, rule in rules()}
    rows["the true ends"] = scores(pairs, lambda v: v.true_area == 0)
    print(markdown_table(dict(sorted(rows.items(), key=lambda row: -row[1]["3D IoU"])), "rule"))


if __name__ == "__main__":
    main()
