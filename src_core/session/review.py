"""Which slices of which objects a human should look at next: the least sure one first."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from src_core.types import PlaneRef

Line = tuple[str | None, int]
"""Axis and time point: planes along it make one stack."""


@dataclass(frozen=True, order=True)
class Unsure:
    """An object on a slice that propagation filled, or left it on, and nobody has looked at; the smallest is the worst.

    `score` is the confidence, 0 to 1, `index` the plane and `identity` the object. Whether the object ended there
    is in its `ends`.
    """

    score: float
    index: int
    identity: int


class ReviewQueue:
    """Every object-slice that propagation filled or ended on and that no human has made, confirmed or finished.

    A session keeps it up to date with whatever changes its objects. Questions may come from any thread.
    """

    def __init__(self) -> None:
        self._lines: dict[Line, dict[int, dict[int, float]]] = {}
        # A strip is drawn many times a second, a plane changes rarely: its minimum is looked for once.
        self._lowest: dict[Line, dict[int, float]] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------- keeping up

    def put(self, identity: int, plane: PlaneRef, score: float | None) -> None:
        """Queue an object's plane with its confidence, or take it out (None)."""
        with self._lock:
            self._put(identity, plane, score)

    def replace(self, identity: int, scores: Mapping[PlaneRef, float]) -> None:
        """Queue these planes of an object and no others: it was started, deleted, finished or reopened."""
        with self._lock:
            for line, planes in self._lines.items():
                for index in [i for i, found in planes.items() if identity in found]:
                    self._put(identity, PlaneRef(line[0], index, line[1]), None)
            for plane, score in scores.items():
                self._put(identity, plane, score)

    def _put(self, identity: int, plane: PlaneRef, score: float | None) -> None:
        line = (plane.axis, plane.t)
        planes = self._lines.setdefault(line, {})
        self._lowest.setdefault(line, {}).pop(plane.index, None)
        if score is not None:
            planes.setdefault(plane.index, {})[identity] = score
        elif plane.index in planes:
            planes[plane.index].pop(identity, None)
            if not planes[plane.index]:
                del planes[plane.index]

    # ---------------------------------------------------------------- questions

    def remaining(self, axis: str | None, t: int = 0, identity: int | None = None) -> int:
        """Return how many object-slices along an axis remain, of one object or of all."""
        with self._lock:
            found = self._lines.get((axis, t), {}).values()
            return sum(len(scores) if identity is None else identity in scores for scores in found)

    def worst(
        self, axis: str | None, t: int = 0, identity: int | None = None, after: Unsure | None = None
    ) -> Unsure | None:
        """Return what to look at next along an axis, of one object or of all; None if nothing remains.

        After one that is left as it is for now comes the next better one, and after the best the worst again.
        """
        with self._lock:
            rest = list(self._unsure((axis, t), identity))
        following = [u for u in rest if after is not None and u > after]
        return min(following or rest, default=None)

    def lowest(self, axis: str | None, t: int = 0, identity: int | None = None) -> dict[int, float]:
        """Return the lowest confidence on every plane along an axis where something remains."""
        line = (axis, t)
        with self._lock:
            planes = self._lines.get(line, {})
            if identity is not None:
                return {i: scores[identity] for i, scores in planes.items() if identity in scores}
            known = self._lowest.setdefault(line, {})
            known |= {i: min(scores.values()) for i, scores in planes.items() if i not in known}
            return dict(known)

    def _unsure(self, line: Line, identity: int | None) -> Iterator[Unsure]:
        for index, scores in self._lines.get(line, {}).items():
            for k, score in scores.items():
                if identity is None or k == identity:
                    yield Unsure(score, index, k)
