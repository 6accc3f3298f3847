"""Train `Room` on boxes around objects of drawn planes and of labelled images, exact and with room.

    python -m src_core.training.room --images ../shared/data/dsb2018 --rows room.npz --out room.safetensors

Planes are drawn from seeds that neither the network's training nor a benchmark uses; images of the protocol's test
split are left out. Rows that were collected are kept; delete them to ask again.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from src_core.evaluation.datasets import Planes, outside_the_protocol, some_objects
from src_core.files import write_atomically
from src_core.masks import Mask, bounds, iou
from src_core.predictor import Predictor
from src_core.propagation.store import packed
from src_core.room import Room, features
from src_core.synthetic import make_stack
from src_core.tiles import Extent
from src_core.training.clicks import OUTWARDS
from src_core.training.judges import Course, train

FIRST_SEED, SHAPE = 30_000_000, (3, 320, 320)
LEAST_PX, PER_PLANE = 60, 3
ROOMS: tuple[Callable[[np.random.Generator], Any], ...] = (
    lambda rng: np.zeros(4),
    lambda rng: rng.uniform(-0.05, 0.05, 4),
    lambda rng: np.full(4, 0.05),
    lambda rng: np.full(4, 0.1),
    lambda rng: np.full(4, 0.2),
    lambda rng: rng.uniform(0, 0.15, 4),
)
"""How much room boxes leave, as parts of the object's height and width."""
WEIGHTS = (8.0, 4.0, 1.0, 1.0, 1.0, 1.0)
"""How much each counts: who draws an exact box should lose little."""
COURSE = Course(epochs=120, batch=256, learning_rate=3e-3, weight_decay=0.02)


@dataclass(frozen=True, eq=False)
class Rows:
    """Boxes with what the network says about them and the smaller ones within.

    Attributes
    ----------
    numbers
        (n, len(SMALLER) * N_FEATURES) `features`.
    ious
        (n, len(SMALLER)) of the answers.
    rooms, objects
        (n,) which of `ROOMS` a box has, and which object it is around.
    """

    numbers: NDArray[np.float32]
    ious: NDArray[np.float32]
    rooms: NDArray[np.int64]
    objects: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows(self.numbers[chosen], self.ious[chosen], self.rooms[chosen], self.objects[chosen])


def drawn(first_seed: int = FIRST_SEED) -> Planes:
    """Yield drawn planes and their labels without end."""
    for seed in itertools.count(first_seed):
        stack = make_stack(seed, SHAPE)
        yield stack.image[1], stack.labels[1]


def asked(predictor: Predictor, planes: Planes, first: int) -> Iterator[list[tuple[Any, Any, int, int]]]:
    """Yield the rows of one object after the other, which are numbered from `first`."""
    rng = np.random.default_rng(first)
    for image, labels in planes:
        embedding = predictor.embed(image, lazily=True)
        for k in some_objects(rng, labels, LEAST_PX, PER_PLANE):
            truth, rows = labels == k, []
            for kind, room in enumerate(ROOMS):
                box = with_room(truth, room(rng))
                answers = predictor.within(embedding, [box])[0]
                ious = [
                    iou(predictor.mask_of(a.logits[0], a.window, embedding.shape), truth) for a in answers
                ]
                rows.append((features(box, answers, embedding.shape).ravel(), ious, kind, first))
            yield rows
            first += 1


def with_room(mask: Mask, room: NDArray[np.float64]) -> Extent:
    """Return the box of a mask, wider by parts of its height and width on each side, in whole pixels."""
    y0, x0, y1, x1 = box = bounds(mask)
    moved = np.rint(np.array(box) + OUTWARDS * room * ([y1 - y0, x1 - x0] * 2))
    low = np.clip(moved[:2], 0, np.array(mask.shape) - 1)
    high = np.clip(moved[2:], low + 1, mask.shape)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def collect(predictor: Predictor, folder: Path, count: int) -> Rows:
    """Ask about `count` objects of each kind of planes."""
    found: list[tuple[Any, Any, int, int]] = []
    images = outside_the_protocol(folder, np.random.default_rng(0))
    for planes, first in ((drawn(), 0), (images, 10**6)):
        for n, rows in enumerate(itertools.islice(asked(predictor, planes, first), count), start=1):
            found += rows
            if n % 50 == 0:
                print(f"{n} of {count} objects", flush=True)
    numbers, ious, rooms, objects = zip(*found, strict=True)
    return Rows(np.array(numbers, np.float32), np.array(ious, np.float32), np.array(rooms), np.array(objects))


def fit(rows: Rows, seed: int = 0) -> Room:
    """Train a judge on rows: squared errors of IoUs, and ten times those of what a box is better than the others."""
    torch.manual_seed(seed)
    numbers, ious = torch.from_numpy(rows.numbers), torch.from_numpy(rows.ious)
    weights = torch.tensor(WEIGHTS)[torch.from_numpy(rows.rooms)].unsqueeze(1)

    def loss(said: Tensor, batch: Tensor) -> Tensor:
        off = said - ious[batch]
        beside = off - off.mean(1, keepdim=True)
        return (weights[batch] * (10 * beside.square() + off.square())).mean()

    return train(Room(), numbers, loss, COURSE)


@torch.inference_mode()
def report(judge: Room, rows: Rows) -> dict[str, list[float]]:
    """Return the mean IoU of every kind of boxes: as drawn, as judged, and of who knew which answer is best."""
    best = judge(torch.from_numpy(rows.numbers)).argmax(1).numpy()
    taken = rows.ious[np.arange(len(best)), best]
    values = {"drawn": rows.ious[:, 0], "judged": taken, "best": rows.ious.max(1)}
    kinds = range(len(ROOMS))
    return {name: [round(float(v[rows.rooms == k].mean()), 4) for k in kinds] for name, v in values.items()}


def main() -> None:
    """Collect rows, report on a quarter of the objects what training on the others gives, then train on all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--objects", type=int, default=600, help="of drawn planes, and as many of images")
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if not options.rows.exists():
        rows = collect(Predictor.load(options.model, "cpu"), options.images, options.objects)
        write_atomically(options.rows, lambda part: part.write_bytes(packed(vars(rows))))
    with np.load(options.rows) as kept:
        rows = Rows(kept["numbers"], kept["ious"], kept["rooms"], kept["objects"])
    held_out = rows.objects % 4 == 0
    judge = fit(rows.of(~held_out))
    for name, some in (("drawn planes", rows.objects < 10**6), ("images", rows.objects >= 10**6)):
        print(name, report(judge, rows.of(held_out & some)))
    write_atomically(options.out, lambda part: save_file(fit(rows).state_dict(), part))


if __name__ == "__main__":
    main()
