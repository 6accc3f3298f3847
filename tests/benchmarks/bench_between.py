"""What to put between two anchors, and how sure to be of it.

    python -m tests.benchmarks.bench_between [--stacks 4] [--objects 4] [--keep FILE]

Objects of held-out synthetic stacks have two true anchors, one near either end. Every slice between them is found
from below, from above, from both by distance, and by interpolation. Then: which confidence finds the bad slices, and
where the network should give way to the interpolation.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.embeddings import EmbeddingCache
from src_core.evaluation import iou, markdown_table
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings, propagate
from src_core.propagation.between import interpolated
from src_core.types import PlaneRef
from src_core.zoo.checkpoint import fingerprint
from tests.benchmarks.bench_review import curve
from tests.benchmarks.flavours import FLAVOURS, Placed, placed
from tests.benchmarks.kept import Kept

BAD_IOU = (0.7, 0.5)
NEVER = PropagationSettings(interpolate_below=0.0)


@dataclass(frozen=True)
class Slice:
    """A slice between two anchors. `up` and `down` are the confidences of the two directions, 0 where one ended.

    The others are overlaps: of the two directions' masks, and of what each way gives with the truth.
    """

    up: float
    down: float
    agree: float
    weight: float
    from_up: float
    from_down: float
    both: float
    drawn: float

    @property
    def confidence(self) -> float:
        """The confidences of the directions that reach it, weighted by distance."""
        if self.reached < 2:
            return max(self.up, self.down)
        return (1 - self.weight) * self.up + self.weight * self.down

    @property
    def reached(self) -> int:
        """How many directions reach it."""
        return (self.up > 0) + (self.down > 0)

    @property
    def used(self) -> float:
        """The mean of confidence and overlap, where both reach it."""
        return (self.confidence + self.agree) / 2 if self.reached == 2 else self.confidence


def _way(
    cache: EmbeddingCache,
    labels: NDArray[np.integer],
    k: int,
    anchors: tuple[int, ...],
    span: tuple[int, int],
):  # type: ignore[no-untyped-def]
    """Propagate one object from some of its true slices; return slice -> (mask, confidence)."""
    given = {z: {k: labels[z] == k} for z in anchors}
    steps = propagate(
        cache.predictor,
        cache.volume,
        given,
        start=span[0],
        stop=span[1] + 1,
        settings=NEVER,
        embed=lambda i: cache.get(PlaneRef("z", i)),
    )
    return {s.index: (s.masks[k], s.scores[k]) for s in steps if k in s.masks and not s.anchor}


def slices(predictor: Predictor, stack: Placed) -> Iterator[Slice]:
    """Yield what is between the anchors of every object of a stack."""
    cache = EmbeddingCache(predictor, stack.volume)
    for k in stack.starts:
        truth = stack.labels == k
        there = [int(z) for z in np.nonzero(truth.any((1, 2)))[0] if z not in stack.lost]
        if len(there) < 6:
            continue
        low, high = there[1], there[-2]
        up, down, both = (
            _way(cache, stack.labels, k, anchors, (low, high)) for anchors in ((low,), (high,), (low, high))
        )
        nothing = (np.zeros(truth.shape[1:], np.bool_), 0.0)
        for z in range(low + 1, high):
            if z in stack.lost:
                continue
            weight = (z - low) / (high - low)
            (one, first), (two, second) = up.get(z, nothing), down.get(z, nothing)
            yield Slice(
                first,
                second,
                iou(one, two),
                weight,
                iou(one, truth[z]),
                iou(two, truth[z]),
                iou(both.get(z, nothing)[0], truth[z]),
                iou(interpolated(truth[low], truth[high], weight), truth[z]),
            )


CONFIDENCES: dict[str, Callable[[Slice], float]] = {
    "by distance": lambda s: s.confidence,
    "the higher of both": lambda s: max(s.up, s.down),
    "overlap alone": lambda s: s.agree,
    "by distance x overlap": lambda s: s.confidence * s.agree,
    "by distance x root of overlap": lambda s: s.confidence * s.agree**0.5,
    "mean of by distance and overlap (used)": lambda s: s.used,
    "the true order": lambda s: s.both,
}


def judged(found: list[Slice]) -> dict[str, dict[str, float]]:
    """Return how well every confidence finds the bad slices."""
    rows: dict[str, dict[str, float]] = {}
    for name, confidence in CONFIDENCES.items():
        values, true = np.array([confidence(s) for s in found]), np.array([s.both for s in found])
        rows[name] = {}
        for limit in BAD_IOU:
            first, area = curve(values, true < limit)
            rows[name] |= {f"IoU < {limit}: in worst 10 %": first, f"IoU < {limit}: area": area}
        rows[name]["error"] = float(np.abs(values - true).mean())
    return rows


def fallbacks(found: dict[str, list[Slice]]) -> dict[str, dict[str, float]]:
    """Return the mean IoU where slices below a threshold are interpolated."""
    ways: dict[str, Callable[[Slice], float]] = {
        "from below alone": lambda s: s.from_up,
        "from above alone": lambda s: s.from_down,
        "both by distance": lambda s: s.both,
    }
    ways["interpolated where neither comes"] = lambda s: s.both if s.reached else s.drawn
    for limit in (0.3, 0.35, 0.4, 0.5, 0.6, 0.7):
        ways[f"interpolated below {limit}"] = lambda s, x=limit: s.drawn if s.used < x else s.both  # type: ignore[misc]
    ways["interpolated everywhere"] = lambda s: s.drawn
    ways["the better one of both"] = lambda s: max(s.drawn, s.both)
    everything = [s for part in found.values() for s in part]
    rows = {}
    for name, way in ways.items():
        rows[name] = {flavour: float(np.mean([way(s) for s in part])) for flavour, part in found.items()}
        rows[name]["all"] = float(np.mean([way(s) for s in everything]))
    return rows


def measured(predictor: Predictor, options: argparse.Namespace) -> dict[str, list[Slice]]:
    """Return the slices by flavour; those of stacks in the file are not measured again."""
    kept = Kept(options.keep, fingerprint(predictor.model))
    found: dict[str, list[Slice]] = {flavour: [] for flavour in FLAVOURS if flavour != "ends"}
    for flavour in found:
        for stack in placed(flavour, options.stacks, options.objects):
            key = (stack.name, len(stack.starts))
            if key not in kept:
                kept.put(key, [asdict(s) for s in slices(predictor, stack)])
            found[flavour] += [Slice(**s) for s in kept[key]]
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--stacks", type=int, default=5, help="of every flavour")
    parser.add_argument("--objects", type=int, default=3, help="at most so many of each stack")
    parser.add_argument("--keep", type=Path, help="file of results to add to and to go on with")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    found = measured(Predictor.load(options.model), options)
    everything = [s for part in found.values() for s in part]
    for most in (0, 1, 2):
        some = [s for s in everything if s.reached == most]
        drawn, both = (float(np.mean([getattr(s, way) for s in some] or [0])) for way in ("drawn", "both"))
        print(f"{len(some)} slices reached from {most} sides: IoU {both:.3f}, interpolated {drawn:.3f}")
    print(f"\n{markdown_table(fallbacks(found), 'way')}\nslices that both directions reach\n")
    print(markdown_table(judged([s for s in everything if s.reached == 2]), "confidence"))
    print(
        f"\nslices that either reaches\n\n{markdown_table(judged([s for s in everything if s.reached]), 'confidence')}"
    )


if __name__ == "__main__":
    main()
