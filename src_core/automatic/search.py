"""Ask a plane about points until everything on it has been seen (paper, section 4, and appendix B)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from src_core.automatic.points import grid, seen, suggested
from src_core.automatic.records import MaskRecord, contrast, moved_record
from src_core.automatic.selecting import select
from src_core.automatic.settings import SearchSettings, Thresholds
from src_core.automatic.views import Found, Levels, Places
from src_core.embedding import Embedding
from src_core.masks import Box
from src_core.predictor import Predictor
from src_core.types import Cancelled, Progress

FLOOR_SCORE = 0.2
"""Masks below it are not even kept for the thresholds to choose from."""
WORTH_ANOTHER_LOOK = 0.5
"""Masks that a window cuts are asked about again in a larger one only from this score on."""
DRAFT = Thresholds(min_score=0.4, min_stability=0.1)
"""Masks that reach this and are no worse copies of others are asked about again by their box."""
CERTAIN = Thresholds(min_score=0.7, min_stability=0.3)
"""No more points are asked inside masks that reach this."""


@dataclass
class Search:
    """One plane while it is being searched.

    Attributes
    ----------
    skipping
        Whether points inside certain masks are left out.
    sparing
        Whether an adaptive search leaves out what only the image suggests, if the network can tell where objects are:
        of the slices of a stack, what one misses another shows, and what noise invents on each adds up.
    records
        Every candidate above `FLOOR_SCORE`, in the order in which they were found.
    calls, budget
        How many prompts the decoder has answered, and how many it may.
    """

    predictor: Predictor
    embedding: Embedding
    skipping: bool = True
    sparing: bool = False
    budget: int | None = None
    records: list[MaskRecord] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        self.levels = Levels(self.predictor, self.embedding)
        self.covered = np.zeros(self.embedding.shape, np.bool_)
        self._grey = self.embedding.picture.astype(np.float32).mean(-1) / 255

    def run(self, settings: SearchSettings) -> Iterator[tuple[int, int]]:
        """Search the plane, crops included; yields (done, total) in points after each window."""
        picture = self.embedding.picture
        if picture.min() == picture.max():
            return  # every answer would be a guess
        yield from self._run(settings)
        for layer in range(1, settings.layers + 1):
            inner = replace(settings, points_per_side=max(1, settings.points_per_side >> layer), layers=0)
            for crop in crops(self.embedding.shape, layer):
                yield from self._run_crop(crop, inner)

    def _run_crop(self, crop: Box, settings: SearchSettings) -> Iterator[tuple[int, int]]:
        y0, x0, y1, x1 = crop
        shape = self.embedding.shape
        embedding = self.predictor.embed(self.embedding.picture[y0:y1, x0:x1], lazily=True)
        part = Search(self.predictor, embedding, sparing=self.sparing)
        yield from part.run(settings)
        self.calls += part.calls
        moved = [moved_record(r, (y0, x0), shape) for r in part.records]
        self.records += [r for r in moved if not _cut(r.box, crop, shape)]

    def _run(self, settings: SearchSettings) -> Iterator[tuple[int, int]]:
        embedding = self.embedding
        spacing = max(embedding.tiles[embedding.tiles.native[-1]].shape) / settings.points_per_side
        full = grid(embedding.shape, spacing)
        self.skipping = settings.adaptive
        rounds = [full]
        if settings.adaptive:
            self.budget = max(1, int(POINTS_PART * len(full)))
            objects: list[Places] = []
            for index in embedding.tiles.native:
                if (points := seen(embedding, index)) is None:
                    break
                objects.append(points)
                embedding.shrink(MAX_BYTES)
                if len(embedding.tiles.native) > 1:  # that takes a while
                    yield 0, 1
            rounds = plan(embedding, objects, full, spacing, sparing=self.sparing)
        done, total = 0, sum(len(points) for points in rounds)
        for points in rounds:
            left = self.uncovered(points)
            done += len(points) - len(left)
            for answered in self.ask(left):
                done += answered
                yield done, total
        self.budget = max(1, int(BUDGET_PART * len(full))) if settings.adaptive else None
        self.refine()
        yield total, total

    def ask(self, points: Places, level: int = 0) -> Iterator[int]:
        """Ask about points, from small windows to large; yields how many are done after each view."""
        again: list[NDArray[np.float64]] = []
        for view, members in self.levels.split(level, points):
            wanted = self.uncovered(points[members])
            if self.budget is not None:
                wanted = wanted[: max(0, self.budget - self.calls)]
            for point, found in zip(wanted, view.ask(self.predictor, wanted), strict=True):
                self.calls += 1
                if found and found[0].cut and found[0].score >= WORTH_ANOTHER_LOOK:
                    again.append(point)
                else:
                    self._keep(point, [f for f in found if not f.cut])
            self.embedding.shrink(MAX_BYTES)
            yield len(members) if level == 0 else 0
        if again:
            yield from self.ask(np.array(again), level + 1)

    def refine(self) -> None:
        """Ask again about the box of each mask that is likely to be kept: a box says more than a point."""
        drafts = select(self.records, DRAFT)
        if self.budget is not None:
            drafts = drafts[: max(0, self.budget - self.calls)]
        boxes = np.array([r.box for r in drafts], np.float64).reshape(-1, 4)
        for i, found in self.by_box(boxes):
            self._keep(np.array(drafts[i].point_yx), [f for f in found if not f.cut])

    def by_box(self, boxes: Places) -> Iterator[tuple[int, list[Found]]]:
        """Ask about (N, 4) boxes, each through the smallest view that has room for it; yields (which, found)."""
        levels = self.levels.fitting(boxes)
        for level in np.unique(levels):
            here = np.flatnonzero(levels == level)
            for view, members in self.levels.split(int(level), boxes[here]):
                asked = here[members]
                for i, found in zip(asked.tolist(), view.ask(self.predictor, boxes[asked]), strict=True):
                    self.calls += 1
                    yield i, found

    def uncovered(self, points: Places) -> Places:
        """Return those of (N, 2) points that lie in no certain mask; all where none are skipped."""
        if not self.skipping:
            return points
        rows, columns = np.rint(points).astype(int).T
        height, width = self.embedding.shape
        known = self.covered[rows.clip(0, height - 1), columns.clip(0, width - 1)]
        return np.asarray(points[~known])

    def _keep(self, point: NDArray[np.float64], found: list[Found]) -> None:
        where = (float(point[0]), float(point[1]))
        for f in found:
            if f.score >= FLOOR_SCORE:
                seen = contrast(self._grey, f.mask)
                self.records.append(MaskRecord(f.mask, f.area, f.score, f.stability, where, seen))
        best = found[0] if found else None
        if best and best.score >= CERTAIN.min_score and best.stability >= CERTAIN.min_stability:
            self.covered[best.mask.where] |= best.mask.crop()


SUGGESTED_PART, COARSER = 0.1875, 4
"""An adaptive search asks where objects are likely, then on a grid so much coarser; of suggestions at most a part."""
MAX_BYTES = 2**30
"""Tiles of very large planes are encoded again rather than kept beyond it."""
POINTS_PART, BUDGET_PART = 0.17, 0.32
"""An adaptive search asks the decoder so often, as parts of the full grid: about points, and with boxes in all."""
CROP_OVERLAP = 512 / 1500
"""Crops of the first layer overlap by this part of the plane's shorter side (paper, appendix B)."""
CHUNKS = 3
"""In how many parts the suggestions are asked: what one part covers, the next leaves out."""


def look(
    predictor: Predictor,
    embedding: Embedding,
    settings: SearchSettings | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Search:
    """Search one plane for masks of everything on it.

    Parameters
    ----------
    predictor, embedding
        The network, and what it has made of the plane.
    settings
        See `SearchSettings`.
    progress
        Called as progress(done, total) in points.
    cancelled
        Asked after every window; the search then ends with what it has found.

    Returns
    -------
    The search, with all candidates: `select` chooses among them.
    """
    search = Search(predictor, embedding)
    for done, total in search.run(settings or SearchSettings()):
        if progress is not None:
            progress(done, total)
        if cancelled is not None and cancelled():
            break
    return search


def crops(shape: tuple[int, int], layer: int) -> list[Box]:
    """Return the 2^layer x 2^layer overlapping rectangles of a plane that a layer looks at (paper, appendix B)."""
    n = 2**layer
    overlap = round(CROP_OVERLAP * min(shape) * 2 / n)
    spans = []
    for size in shape:
        length = -(-(size + overlap * (n - 1)) // n)
        spans.append([(k * (length - overlap), min(k * (length - overlap) + length, size)) for k in range(n)])
    return [(y0, x0, y1, x1) for y0, y1 in spans[0] for x0, x1 in spans[1] if y1 - y0 > 1 and x1 - x0 > 1]


def _cut(box: Box, crop: Box, shape: tuple[int, int]) -> bool:
    """Say whether a mask reaches a border of its crop that is none of the plane: another crop shows it whole."""
    inner = (crop[0] > 0, crop[1] > 0, crop[2] < shape[0], crop[3] < shape[1])
    reaches = (box[0] <= crop[0], box[1] <= crop[1], box[2] >= crop[2], box[3] >= crop[3])
    return any(i and r for i, r in zip(inner, reaches, strict=True))


def plan(
    embedding: Embedding, objects: list[Places], full: Places, spacing: float, *, sparing: bool = False
) -> list[Places]:
    """Return the points of an adaptive search, round by round.

    First the `objects` that the network sees, tile by tile, if it can tell; then what the image suggests, in parts,
    unless `sparing` and the network could tell; then a coarse grid.
    """
    suggestions: Places = np.zeros((0, 2))
    if not (objects and sparing):
        zoom = embedding.tiles[embedding.tiles.native[-1]].zoom_yx[0]
        suggestions = suggested(embedding.picture, zoom)[: max(1, round(SUGGESTED_PART * len(full)))]
    parts = [suggestions[k::CHUNKS] for k in range(CHUNKS)]
    return [*objects, *parts, grid(embedding.shape, COARSER * spacing)]
