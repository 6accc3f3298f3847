"""At which level to look at an object of a large plane: rules judged on the same answers of held-out planes.

Run `python -m tests.benchmarks.bench_levels`; `--help` lists the options. Large planes full of objects are drawn
from seeds that training never uses. Every level (the overview, coarser grids, the native one, the enlarged one)
answers a click, a box and a slightly shifted mask of every object chosen. Printed are, by size of object, the IoU
at single levels, at the best of them, and at those that rules would have chosen.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core import questions
from src_core.asking import ask
from src_core.embedding import Embedding
from src_core.evaluation import iou
from src_core.masks import Mask, bounds, innermost
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.synthetic import make_stack

FIRST_SEEDS = (8_100_000, 8_200_000)
FAMILIES = ("nuclei", "membranes", "electron")
RADII_PX = (70, 140, 35, 220, 18)
BINS_PX = (0, 32, 64, 96, 160, 256, 400, 2000)


@dataclass(frozen=True)
class Answer:
    """What one level says: IoU with the truth, predicted IoU times presence, longer side, whether it is cut."""

    iou: float
    trust: float
    side_px: int
    cut: bool


Levels = dict[float, Answer]
"""By zoom; that of the overview is the smallest."""
Rule = Callable[[Levels, int], list[float]]
"""From the answers and the true size to the zooms asked; the one shown comes last."""


def main() -> None:
    """Print a table a kind of prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--radii", type=int, nargs="+", default=RADII_PX)
    parser.add_argument("--objects", type=int, default=5, help="a plane")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    predictor = Predictor.load(options.weights, "cpu")
    found: dict[str, list[tuple[int, Levels]]] = {"click": [], "box": [], "mask": []}
    done: dict[str, list[tuple[float, int]]] = {kind: [] for kind in found}
    for first in FIRST_SEEDS:
        for n, (radius, family) in enumerate(((r, f) for r in options.radii for f in FAMILIES), start=1):
            stack = make_stack(first + n, (1, options.side, options.side), family, float(radius))
            embedding = predictor.embed(stack.image[0], lazily=True)
            for truth in chosen(stack.labels[0], radius, first + n, options.objects):
                y0, x0, y1, x1 = bounds(truth)
                for kind, prompt in prompts(truth, radius).items():
                    answers = asked(predictor, embedding, prompt, truth, many=kind == "click")
                    found[kind].append((max(y1 - y0, x1 - x0), answers))
                    done[kind].append(as_predicted(predictor, stack.image[0], prompt, truth))
                embedding.shrink(0)
    for kind, answers in found.items():
        print(table(kind, answers, done[kind]), flush=True)


def chosen(labels: NDArray[np.uint16], radius: int, seed: int, count: int) -> list[Mask]:
    """Return masks of objects that are in one piece and do not touch the border of the plane."""
    ids, areas = np.unique(labels, return_counts=True)
    whole: list[Mask] = []
    rng = np.random.default_rng(seed)
    for identity in rng.permutation(ids[(ids > 0) & (areas > 0.8 * radius**2)])[:40]:
        mask = labels == identity
        y0, x0, y1, x1 = bounds(mask)
        if min(y0, x0) == 0 or y1 == labels.shape[0] or x1 == labels.shape[1]:
            continue
        sizes = np.bincount(ndi.label(mask[y0:y1, x0:x1])[0].ravel())[1:]
        if sizes.max() >= 0.95 * sizes.sum():
            whole.append(mask)
        if len(whole) == count:
            break
    return whole


def prompts(truth: Mask, radius: int) -> dict[str, Prompts]:
    """Return one of every kind: the mask is a little off."""
    shift = (max(1, radius // 8), -max(1, radius // 10))
    shifted = ndi.shift(truth.astype(np.uint8), shift, order=0).astype(np.bool_)
    return {
        "click": Prompts([innermost(truth)]),
        "box": Prompts(box_yxyx=bounds(truth)),
        "mask": Prompts(mask=shifted),
    }


def asked(predictor: Predictor, embedding: Embedding, prompt: Prompts, truth: Mask, *, many: bool) -> Levels:
    """Return every level's answer to a prompt."""
    tiles = embedding.tiles
    (y, x) = innermost(truth)
    levels: Levels = {}
    extent = (y, x, y + 1, x + 1) if len(prompt.points_yx) else bounds(truth)
    for index in (0, *(grid.best(extent)[0] for grid in tiles.grids)):
        (found,) = ask(predictor.model, embedding, index, [prompt], many)
        mask = found.masks[0]
        box = bounds(mask) if mask.any() else (0, 0, 0, 0)
        cut = index > 0 and mask.any() and questions.cuts(tiles[index], box, tiles[0])
        side = max(box[2] - box[0], box[3] - box[1])
        trust = float(found.scores[0]) * found.presence
        levels[tiles.zoom(index)] = Answer(iou(mask, truth), trust, side, bool(cut))
    return levels


def as_predicted(
    predictor: Predictor, picture: NDArray[np.uint8], prompt: Prompts, truth: Mask
) -> tuple[float, int]:
    """Return the IoU of what `Predictor.predict` answers, and how many tiles it has looked through."""
    embedding = predictor.embed(picture, lazily=True)
    mask = predictor.predict(embedding, prompt).masks[0]
    return iou(mask, truth), len(embedding._features)


def level_for(levels: Levels, side_px: int, comfort_px: float) -> float:
    """Return the finest zoom up to 1, or above it for small objects, at which a side is at most `comfort_px`."""
    finest = questions.zoom_for((0, 0, side_px or 1, 1), 2, comfort_px)
    return max((z for z in levels if z <= finest), default=min(levels))


def by_size(comfort_px: float) -> Rule:
    """Ask where the true size fits: what a box or a mask can do."""
    return lambda levels, size: [level_for(levels, size, comfort_px)]


def walk(start: str, comfort_px: float, *, trusting: bool) -> Rule:
    """Begin in the overview or at native resolution, and let each answer's size say where to look next."""

    def rule(levels: Levels, _: int) -> list[float]:
        at = min(levels) if start == "overview" else 1.0
        tried: list[float] = []
        while at not in tried:
            tried.append(at)
            at = level_for(levels, levels[at].side_px, comfort_px)
        return sorted(tried, key=lambda z: (levels[z].trust, z)) if trusting else tried

    return rule


def until_whole(levels: Levels, _: int) -> list[float]:
    """Begin at native resolution, and look coarser only where the tile cuts the answer."""
    tried: list[float] = []
    for zoom in sorted((z for z in levels if z <= 1), reverse=True):
        tried.append(zoom)
        if not levels[zoom].cut:
            break
    return tried


def table(kind: str, answers: list[tuple[int, Levels]], done: list[tuple[float, int]]) -> str:
    """Return the mean IoU of each rule, and of what is done, by size of object, over all, and the tiles it needs."""
    rules: dict[str, Rule] = {
        "the overview": lambda levels, _: [min(levels)],
        "native resolution": lambda levels, _: [1.0],
        "the best level of all": lambda levels, _: sorted(levels, key=lambda z: levels[z].iou),
    }
    for comfort in (64, 80, 96, 112, 128):
        if kind == "click":
            rules[f"overview first, by size {comfort}, last"] = walk("overview", comfort, trusting=False)
            rules[f"overview first, by size {comfort}, most trusted"] = walk(
                "overview", comfort, trusting=True
            )
            rules[f"native first, by size {comfort}, most trusted"] = walk("native", comfort, trusting=True)
        else:
            rules[f"at most {comfort} px"] = by_size(comfort)
    if kind == "click":
        rules["native first, coarser where cut"] = until_whole
    spans = [(a, b) for a, b in itertools.pairwise(BINS_PX) if any(a <= s < b for s, _ in answers)]
    head = [kind, *(f"{a}-{b}" for a, b in spans), "all", "tiles"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    counts = [str(sum(a <= s < b for s, _ in answers)) for a, b in spans]
    lines.append(f"| objects | {' | '.join(counts)} | {len(answers)} | |")
    results = {"`Predictor.predict`": [(size, *own) for (size, _), own in zip(answers, done, strict=True)]}
    for name, rule in rules.items():
        tried = [(size, rule(levels, size), levels) for size, levels in answers]
        results[name] = [(size, levels[zooms[-1]].iou, len(zooms)) for size, zooms, levels in tried]
    for name, shown in results.items():
        cells = [f"{np.mean([v for s, v, _ in shown if a <= s < b]):.3f}" for a, b in spans]
        cells += [f"{np.mean([v for _, v, _ in shown]):.3f}", f"{np.mean([n for *_, n in shown]):.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
