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

from src_core.evaluation import markdown_table
from src_core.predictor import Embedding, Predictor
from src_core.prompts import Prompts
from tests.benchmarks.bench_propagation import stacks

BEYOND = 6
"""How many slices a walk is followed past the object's end."""


@dataclass(frozen=True)
class Visit:
    """One slice of a walk: what the network said, and the truth."""

    presence: float
    score: float
    area: int
    before: int
    anchor: int
    smallest: int
    overlap: float
    shared: int
    true_area: int


Walk = tuple[Visit, ...]
Rule = Callable[[Visit], bool]
"""True where the walk ends before this slice."""


def walks(predictor: Predictor, count: int) -> Iterator[tuple[Walk, Walk]]:
    """Yield each object's walks up and down."""
    for volume, labels, chosen in stacks(count):
        embeddings: dict[int, Embedding] = {}

        def embed(z: int, kept: dict[int, Embedding] = embeddings, volume: object = volume) -> Embedding:
            if z not in kept:
                kept[z] = predictor.embed(volume.plane(z=z))  # type: ignore[attr-defined]
            return kept[z]

        for k, middle in chosen.items():
            truth = labels == k
            yield _walk(predictor, embed, truth, middle, 1), _walk(predictor, embed, truth, middle, -1)


def _walk(
    predictor: Predictor,
    embed: Callable[[int], Embedding],
    truth: NDArray[np.bool_],
    middle: int,
    direction: int,
) -> Walk:
    mask = truth[middle]
    prompt = Prompts(mask=mask)
    anchor = smallest = before = int(mask.sum())
    visits: list[Visit] = []
    z, past = middle + direction, 0
    while 0 <= z < len(truth) and past < BEYOND:
        found = predictor.predict(embed(z), prompt, multimask=False)
        new = found.masks[0]
        area, both = int(new.sum()), int((new & mask).sum())
        visits.append(
            Visit(
                found.presence,
                float(found.scores[0]),
                area,
                before,
                anchor,
                smallest,
                both / max(1, area + before - both),
                int((new & truth[z]).sum()),
                int(truth[z].sum()),
            )
        )
        if not area:
            break
        mask, before, smallest = new, area, min(smallest, area)
        prompt = Prompts(mask=found.logits[0], mask_window=found.window)
        past += not truth[z].any()
        z += direction
    # What the walk never reached still counts as missed.
    while 0 <= z < len(truth) and truth[z].any():
        visits.append(Visit(0, 0, 0, 0, anchor, 0, 0, 0, int(truth[z].sum())))
        z += direction
    return tuple(visits)


def judge(pairs: list[tuple[Walk, Walk]], stops: Rule) -> dict[str, float]:
    """Return the scores of `bench_propagation` under a rule."""
    ious, ends = [], []
    for pair in pairs:
        shared = union = 0
        for walk in pair:
            end = next((i for i, v in enumerate(walk) if v.area == 0 or stops(v)), len(walk))
            true_end = sum(v.true_area > 0 for v in walk)
            ends.append(end - true_end)
            for i, v in enumerate(walk):
                shared += v.shared if i < end else 0
                union += v.true_area + (v.area - v.shared if i < end else 0)
        ious.append(shared / max(1, union))
    array = np.array(ends)
    return {
        "objects": len(pairs),
        "3D IoU": float(np.mean(ious)),
        "ends within 1": float((np.abs(array) <= 1).mean()),
        "over": float(np.maximum(array, 0).mean()),
        "under": float(np.maximum(-array, 0).mean()),
    }


def rules() -> Iterator[tuple[str, Rule]]:
    """Yield what is tried: thresholds of presence and score, and of renewed growth after shrinking."""
    yield "emptiness alone", lambda v: False
    for presence, score in itertools.product((0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (0.0, 0.3, 0.4, 0.5)):
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
    rows = {name: judge(pairs, rule) for name, rule in rules()}
    rows["the true ends"] = judge(pairs, lambda v: v.true_area == 0)
    print(markdown_table(dict(sorted(rows.items(), key=lambda row: -row[1]["3D IoU"])), "rule"))


if __name__ == "__main__":
    main()
