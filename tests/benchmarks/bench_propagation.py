"""Compare ways to propagate on held-out synthetic stacks, on which defaults may be chosen.

    python -m tests.benchmarks.bench_propagation [--model nano] [--stacks 8]

Stacks are drawn from seeds that training never uses. Every object that begins and ends within the stack starts
from its true middle slice; all objects of a stack travel together.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.embeddings import EmbeddingCache
from src_core.evaluation import iou, markdown_table
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings, propagate
from src_core.synthetic import FAMILIES, make_stack
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume

FIRST_SEED = 9_000_000
SHAPE = (24, 192, 192)
MIN_SLICES, MIN_AREA_PX, MAX_OBJECTS = 4, 60, 6

SETTINGS = {
    "mask": PropagationSettings(cues=()),
    "mask + box": PropagationSettings(cues=("box",)),
    "mask + point": PropagationSettings(cues=("point",)),
    "mask + box + point": PropagationSettings(cues=("box", "point")),
    "no stopping but emptiness": PropagationSettings((), 0.0, -1.0, 0.0, 1e9),
    **{f"presence {p}": PropagationSettings((), min_presence=p) for p in (0.3, 0.4, 0.6, 0.7)},
    **{f"score {s}": PropagationSettings((), min_score=s) for s in (0.2, 0.3, 0.4, 0.45, 0.5)},
    **{f"growth {g}": PropagationSettings((), max_growth=g) for g in (1.6, 2.0)},
    **{f"overlap {o}": PropagationSettings((), min_overlap=o) for o in (0.2, 0.3)},
}


def stacks(count: int) -> Iterator[tuple[Volume, NDArray[np.uint16], dict[int, int]]]:
    """Yield volumes, their labels and the chosen objects with their middle slice."""
    families = itertools.cycle(FAMILIES)
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        stack = make_stack(seed, SHAPE, family=next(families))
        rng = np.random.default_rng(seed)
        chosen: dict[int, int] = {}
        for k in rng.permutation(np.unique(stack.labels)[1:]):
            planes = np.nonzero((stack.labels == k).any((1, 2)))[0]
            inside = planes[0] > 0 and planes[-1] < SHAPE[0] - 1 and len(planes) >= MIN_SLICES
            middle = int(planes[len(planes) // 2])
            if inside and np.count_nonzero(stack.labels[middle] == k) >= MIN_AREA_PX:
                chosen[int(k)] = middle
            if len(chosen) == MAX_OBJECTS:
                break
        if chosen:
            yield (
                open_volume(stack.image, axes="zyxc" if stack.image.ndim == 4 else "zyx"),
                stack.labels,
                chosen,
            )


def main() -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    predictor = Predictor.load(options.model)
    results: dict[str, list[tuple[float, int, int]]] = defaultdict(list)
    for volume, labels, chosen in stacks(options.stacks):
        cache = EmbeddingCache(predictor, volume)
        anchors: dict[int, dict[int, NDArray[np.bool_]]] = {}
        for k, middle in chosen.items():
            anchors.setdefault(middle, {})[k] = labels[middle] == k
        for name in options.only:
            found = {k: np.zeros(labels.shape, np.bool_) for k in chosen}
            steps = propagate(
                predictor,
                volume,
                anchors,
                settings=SETTINGS[name],
                embed=lambda i, cache=cache: cache.get(PlaneRef("z", i)),
            )
            for step in steps:
                for k, mask in step.masks.items():
                    found[k][step.index] = mask
            results[name] += [score(found[k], labels == k, middle) for k, middle in chosen.items()]
    print(markdown_table({name: summary(objects) for name, objects in results.items()}, "setting"))


def summary(objects: list[tuple[float, int, int]]) -> dict[str, float]:
    """Return means over objects, each with its IoU and the slices beyond its low and its high end."""
    array = np.array(objects, float)
    ends = array[:, 1:]
    return {
        "objects": len(array),
        "3D IoU": array[:, 0].mean(),
        "ends within 1": (np.abs(ends) <= 1).mean(),
        "over": np.maximum(ends, 0).mean(),
        "under": np.maximum(-ends, 0).mean(),
    }


def score(found: NDArray[np.bool_], truth: NDArray[np.bool_], middle: int) -> tuple[float, int, int]:
    """Return IoU without the start slice, and slices beyond the low and the high end."""
    rest = np.arange(len(truth)) != middle
    own, true = (np.nonzero(m.any((1, 2)))[0] for m in (found, truth))
    return iou(found[rest], truth[rest]), int(true[0] - own[0]), int(own[-1] - true[-1])


if __name__ == "__main__":
    main()
