"""A simulated user who looks at slice after slice of an object until it is right in 3D.

Rules. A look: a slice that is right (IoU 0.8) is confirmed; where the object ends, the user sees the next slice too,
which is a look of its own. A wrong slice is clicked, each click into the middle of the largest error, until it is good
(IoU 0.9); what five clicks do not get right is painted by hand, which counts as five more. Removing the object from a
slice where it does not belong counts as one click. After every correction the object is propagated again. The game ends
at a 3D IoU of 0.9.

Orders. "queue": the least sure slice that has not been looked at; when none is left, outwards. "outwards": up from the
slice the object started from, then down. "random": any slice that has the object and has not been looked at; when
none is left, outwards.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src_core.embeddings import EmbeddingCache
from src_core.evaluation import iou
from src_core.evaluation.clicks import next_click
from src_core.labels import LabelVolume
from src_core.masks import Mask
from src_core.prompts import Prompts
from src_core.session import Session, confirm
from src_core.session_propagation import propagate_session
from src_core.types import PlaneRef

RIGHT_IOU, GOOD_IOU, DONE_IOU = 0.8, 0.9, 0.9
CLICKS_A_SLICE, PAINTING = 5, 5
ORDERS = ("queue", "outwards", "random")


@dataclass(frozen=True)
class Result:
    """What a game took: clicks, slices looked at, and the 3D IoU before it and after it."""

    clicks: int
    looks: int
    first_iou: float
    iou: float


def play(cache: EmbeddingCache, truth: Mask, middle: int, order: str) -> Result:
    """Start an object (Z, Y, X) with its true middle slice and play."""
    with tempfile.TemporaryDirectory() as folder:
        game = _Game(cache, truth, middle, order, Path(folder))
        first = game.iou()
        while game.iou() < DONE_IOU and (z := game.next()) is not None:
            game.look(z)
        return Result(game.clicks, game.looks, first, game.iou())


class _Game:
    def __init__(self, cache: EmbeddingCache, truth: Mask, middle: int, order: str, folder: Path) -> None:
        self.cache, self.truth, self.middle, self.order = cache, truth, middle, order
        self.session = Session(cache.volume, LabelVolume.create(folder / "labels", cache.volume), ids=())
        self.rng = np.random.default_rng(middle)
        self.clicks = self.looks = 0
        self.seen = {middle}
        self.session.accept(PlaneRef("z", middle), truth[middle])
        self.propagate()

    def propagate(self) -> None:
        for _ in propagate_session(self.session, self.cache, [1], axis="z"):
            pass
        self.found: Mask = np.asarray(self.session.labels.array[:]) == 1

    def iou(self) -> float:
        return iou(self.found, self.truth)

    def next(self) -> int | None:
        """Return the slice to look at."""
        waiting = [z for z in self.session.review.lowest("z") if z not in self.seen]
        if self.order == "queue" and waiting:
            worst = self.session.review.worst("z")
            return None if worst is None else worst.index
        if self.order == "random" and waiting:
            return int(self.rng.choice(sorted(waiting)))
        there = np.nonzero((self.found | self.truth).any((1, 2)))[0]
        outwards = [*range(self.middle, there[-1] + 1), *range(self.middle, there[0] - 1, -1)]
        return next((z for z in outwards if z not in self.seen), None)

    def look(self, z: int) -> None:
        """Look at a slice, and at the next one where the object ends; correct the first that is wrong."""
        outwards = z + (1 if z >= self.middle else -1)
        ends = 0 <= outwards < len(self.truth) and self.found[z].any() and not self.found[outwards].any()
        for index in (z, outwards) if ends and outwards not in self.seen else (z,):
            self.looks += 1
            self.seen.add(index)
            if not self._right(index):
                self.correct(index)
                self.propagate()
                return
            plane = PlaneRef("z", index)
            if self.found[index].any() or plane in self.session.objects[1].ends:
                confirm(self.session, plane, 1)

    def _right(self, z: int) -> bool:
        if not self.truth[z].any():
            return not self.found[z].any()
        return iou(self.found[z], self.truth[z]) >= RIGHT_IOU

    def correct(self, z: int) -> None:
        """Click until the slice is good, or paint it."""
        truth, plane = self.truth[z], PlaneRef("z", z)
        if not truth.any():
            self.clicks += 1
            self.session.accept(plane, np.zeros_like(truth))
            return
        mask = self.found[z]
        points: list[tuple[int, int]] = []
        signs: list[int] = []
        dense: tuple[NDArray[np.float32] | Mask | None, tuple[float, float, float, float] | None]
        dense = (mask if mask.any() else None, None)
        for _ in range(CLICKS_A_SLICE):
            click = next_click(truth, mask)
            if click is None or iou(mask, truth) >= GOOD_IOU:
                break
            self.clicks += 1
            points.append((click.y, click.x))
            signs.append(int(click.positive))
            found = self.cache.predictor.predict(self.cache.get(plane), Prompts(points, signs, None, *dense))
            mask, dense = found.masks[0], (found.logits[0], found.window)
        if iou(mask, truth) < GOOD_IOU:
            self.clicks += PAINTING
            mask = truth
        self.session.accept(plane, mask)
