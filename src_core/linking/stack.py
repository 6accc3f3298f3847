"""The run itself: slices are searched, what is found on them becomes objects, and these are written."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict
from typing import Any

import numpy as np

from src_core.automatic import (
    MaskRecord,
    Search,
    SearchSettings,
    Thresholds,
    common_contrast,
    label_image,
    select,
    usual_contrast,
)
from src_core.embedding import Embedding
from src_core.embeddings import EmbeddingCache
from src_core.labels import LabelVolume
from src_core.linking.bridging import bridge, drawn, gaps
from src_core.linking.contest import contest
from src_core.linking.graph import Links, Node
from src_core.linking.report import FoundObject
from src_core.linking.seeds import erase, grow, new_objects, seed_slices
from src_core.linking.settings import LinkSettings
from src_core.linking.shelf import RecordShelf
from src_core.predictor import Predictor
from src_core.propagation.request import known_scale
from src_core.stepping import Stepwise
from src_core.types import Cancelled, PlaneRef
from src_core.volumes import Volume


class StackRun:
    """One run over some slices of a stack: `link` or `seeds` goes through it, yielding (done, total) in slices."""

    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        labels: LabelVolume,
        shelf: RecordShelf,
        axis: str,
        slices: range,
        t: int,
        c: int | None,
    ) -> None:
        self.predictor, self.volume, self.labels, self.shelf = predictor, volume, labels, shelf
        self.axis, self.slices, self.t, self.c = axis, slices, t, c
        self.search, self.thresholds, self.links = SearchSettings(), Thresholds(), LinkSettings()
        # Walks from several seed slices come by the same slices.
        kept = EmbeddingCache(predictor, volume, c, lazily=True)
        self.embed: Callable[[int], Embedding] = lambda index: kept.get(PlaneRef(axis, index, t))
        self.cancelled: Cancelled = lambda: False
        self.calls = 0
        self.usual: float | None = None
        self.options: dict[str, Any] = {"axis": axis, "t": t, "c": c}

    def searched(self, index: int, progress: tuple[int, int]) -> Generator[tuple[int, int], None, bool]:
        """Search a slice unless that is done, yielding `progress` meanwhile; False if cancelled before its end."""
        if index not in self.shelf:
            found = Search(self.predictor, self.embed(index), sparing=True)
            for _ in found.run(self.search):
                yield progress
                if self.cancelled():
                    return False
            self.calls += found.calls
            self.shelf.put(index, found.records)
        return True

    def records(self, index: int) -> list[MaskRecord]:
        """Return the masks that are kept on a slice."""
        return select(self.shelf.get(index), self.thresholds, self.usual)

    def _searched_all(self, slices: range, total: int) -> Generator[tuple[int, int], None, bool]:
        """Search slices, of `total` steps, and learn what contrast is usual; False if cancelled before the end."""
        contrasts = []
        for n, index in enumerate(slices):
            if not (yield from self.searched(index, (n, total))):
                return False
            contrasts.append(usual_contrast(self.shelf.get(index), self.thresholds))
            yield n + 1, total
        self.usual = common_contrast(contrasts)
        return True

    def link(self) -> Generator[tuple[int, int], None, dict[int, FoundObject] | None]:
        """Search every slice, link, write, fill gaps; None if cancelled."""
        if not (yield from self._searched_all(self.slices, len(self.slices))):
            return None
        graph = Links(self.links)
        for index in self.slices:
            graph.add(index, self.records(index))
        chains = dict(enumerate(graph.solve(), start=1))
        del graph
        objects = self._write(chains)
        places: dict[tuple[int, int], list[int]] = {}
        for k, chain in chains.items():
            for index, i in chain:
                places.setdefault((k, index), []).append(i)
        for gap, ids in gaps(chains).items():
            ends = {index: self.records(index) for index in gap}
            for index, scores, won in bridge(
                self.predictor,
                self.volume,
                self.labels,
                gap,
                lambda index, k, ends=ends: drawn(ends[index], places[k, index]),  # type: ignore[misc]
                ids,
                **self.options,
                embed=self.embed,
            ):
                for k, score in scores.items():
                    objects[k].scores[index] = score
                for k, voxels in won.items():
                    objects[k].volume_px += voxels
            if self.cancelled():
                return None
        return objects

    def _write(self, chains: dict[int, list[Node]]) -> dict[int, FoundObject]:
        owner = {node: k for k, chain in chains.items() for node in chain}
        objects = {k: FoundObject() for k in chains}
        for index in self.slices:
            records = self.records(index)
            mine = [(owner[index, i], r) for i, r in enumerate(records) if (index, i) in owner]
            for k, record in mine:
                objects[k].scores[index] = max(record.score, objects[k].scores.get(index, 0.0))
            shape = self.volume.plane_shape(self.axis)
            drawing = label_image([r for _, r in mine], shape, [k for k, _ in mine])
            self.labels.write_box(self.axis, index, (0, 0, *shape), drawing, t=self.t)
            for k, voxels in zip(*np.unique(drawing[drawing > 0], return_counts=True), strict=True):
                objects[int(k)].volume_px += int(voxels)
        return objects

    def seeds(self) -> Generator[tuple[int, int], None, dict[int, FoundObject] | None]:
        """Search some slices, propagate what is new on each, and let what comes of it contest; None if cancelled."""
        wanted = seed_slices(self.slices.start, self.slices.stop, self.links.seed_step)
        note = self._walks()
        candidates = self.shelf.candidates(note["next"] + note["grown"])
        total = 2 * len(wanted)
        if not (yield from self._searched_all(wanted, total)):
            return None
        for n, index in enumerate(wanted, start=len(wanted)):
            if index not in note["done"]:
                earlier = {k: c for k, c in candidates.items() if k < note["next"]}
                fresh = new_objects(self.records(index), self.shelf.walked(index, earlier).values())
                for through, grown in grow(
                    self.predictor,
                    self.volume,
                    self.shelf,
                    index,
                    fresh[note["grown"] :],
                    note["next"] + note["grown"],
                    self.links,
                    start=self.slices.start,
                    stop=self.slices.stop,
                    **self.options,
                    embed=self.embed,
                ):
                    candidates |= grown
                    if through:
                        note["grown"] += through
                        self.shelf.note(note)
                    if self.cancelled():
                        return None
                    yield n, total
                note |= {"next": note["next"] + len(fresh), "grown": 0, "done": [*note["done"], index]}
                self.shelf.note(note)
            yield n + 1, total
        deciding = Stepwise(
            contest(self.shelf, self.labels, candidates, self.slices, axis=self.axis, t=self.t)
        )
        for _ in deciding:
            if self.cancelled():
                return None
            yield total, total
        return deciding.found

    def _walks(self) -> dict[str, Any]:
        """Return how far walks have come: searched slices that are done, the next id, and the seeds through since.

        Walks that began with other thresholds or settings, or another size of voxels, are forgotten.
        """
        asked = [asdict(self.links), asdict(self.thresholds), known_scale(self.volume)]
        note: dict[str, Any] = self.shelf.noted() or {}
        if note.get("asked") != asked:
            if note:  # they may have been drawn already
                erase(self.labels, lambda plane: plane > 0, self.slices, axis=self.axis, t=self.t)
            self.shelf.forget_walks()
            note = {"asked": asked, "done": [], "next": 1, "grown": 0}
            self.shelf.note(note)
        return note
