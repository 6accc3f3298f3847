"""Every object of a stack, without a prompt, into a label volume: cancelled or killed, a run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from src_core.automatic import (
    MaskRecord,
    Search,
    SearchSettings,
    Thresholds,
    label_image,
    select,
    usual_contrast,
)
from src_core.embedding import Embedding
from src_core.errors import VolumeError
from src_core.labels import LabelVolume, check_target
from src_core.linking.bridging import bridge, drawn, gaps
from src_core.linking.graph import Links, Node
from src_core.linking.report import FoundObject, StackReport
from src_core.linking.seeds import erase, grow, new_objects, seed_slices
from src_core.linking.settings import LinkSettings
from src_core.linking.shelf import RecordShelf, labels_of_run
from src_core.predictor import Predictor
from src_core.propagation.saving import described
from src_core.stepping import Stepwise
from src_core.types import Cancelled, PlaneRef, Progress
from src_core.volumes import Volume

Steps = Generator[tuple[int, int], None, StackReport]


def segment_stack(
    predictor: Predictor,
    volume: Volume,
    out: str | Path,
    *,
    axis: str = "z",
    start: int | None = None,
    stop: int | None = None,
    t: int = 0,
    c: int | None = None,
    search: SearchSettings | None = None,
    thresholds: Thresholds | None = None,
    links: LinkSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> StackReport:
    """Find the objects of a stack and write them to an OME-Zarr label image.

    Memory does not grow with the number of slices, but for a few numbers an object: masks wait on disk, in the
    folder of the labels, until the run is complete. A run that was killed or cancelled goes on when it is asked
    again for the same; thresholds and linking may then be others, as long as the search is the same.

    Parameters
    ----------
    predictor, volume
        The network and the image.
    out
        The label image to write. Inside the image's own labels folder it is listed there.
    axis, start, stop, t, c
        The spatial axis across the slices, the half-open range of slices, time point and channel.
    search, thresholds, links
        How slices are searched, which masks are kept, and how they become objects.
    embed
        Called with a slice's index instead of `Predictor.embed`, by callers that keep embeddings.
    overwrite
        Replace labels that are there, unless they are this very run's, unfinished.
    progress
        Called as progress(done, total) in slices.
    cancelled
        Asked after every window of a search and every group of objects.

    Raises
    ------
    PromptError
        The range is not within the stack.
    SessionError
        `out` is there already, or cannot be written.
    VolumeError
        The image cannot be read, or has no planes along `axis`.
    """
    steps = stack_steps(
        predictor,
        volume,
        out,
        axis=axis,
        start=start,
        stop=stop,
        t=t,
        c=c,
        search=search,
        thresholds=thresholds,
        links=links,
        embed=embed,
        overwrite=overwrite,
        cancelled=cancelled,
    )
    through = Stepwise(steps)
    for done, total in through:
        if progress is not None:
            progress(done, total)
    return through.found


def stack_steps(
    predictor: Predictor,
    volume: Volume,
    out: str | Path,
    *,
    axis: str = "z",
    start: int | None = None,
    stop: int | None = None,
    t: int = 0,
    c: int | None = None,
    search: SearchSettings | None = None,
    thresholds: Thresholds | None = None,
    links: LinkSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
    overwrite: bool = False,
    cancelled: Cancelled | None = None,
) -> Steps:
    """Do what `segment_stack` does step by step, for callers who do something else in between.

    Yields
    ------
    (done, total) in slices. Nothing happens between two steps; not asking for the next one is as good as cancelling.
    The generator returns the report.
    """
    out = Path(out)
    check_target(volume, out)
    if len(volume.spatial_axes) == 2:
        raise VolumeError(f"{volume.name} is a 2-D image without slices to link; search its plane instead")
    planes = volume.planes(axis, start, stop)
    first, end = planes.start, planes.stop
    links = links or LinkSettings()
    request = {
        **described(predictor, volume, c),
        "planes": [axis, first, end, t, c],
        "search": asdict(search or SearchSettings()),
        "method": links.method
        if links.method == "link"
        else [asdict(links), asdict(thresholds or Thresholds())],
    }
    labels, shelf, resumed = labels_of_run(volume, out, request, overwrite=overwrite)
    run = _Run(predictor, volume, labels, shelf, axis, range(first, end), t, c)
    run.search, run.thresholds, run.links = search or SearchSettings(), thresholds or Thresholds(), links
    run.embed, run.cancelled = embed or run.embed, cancelled or run.cancelled
    objects = yield from (run.link() if links.method == "link" else run.seeds())
    if objects is not None:
        shelf.finish()
    return StackReport(labels, objects or {}, run.calls, resumed, objects is not None)


class _Run:
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
        self.embed: Callable[[int], Embedding] = self._embed
        self.cancelled: Cancelled = lambda: False
        self.calls = 0
        self.usual: float | None = None
        self.options: dict[str, Any] = {"axis": axis, "t": t, "c": c}

    def _embed(self, index: int) -> Embedding:
        plane = self.volume.plane_at(PlaneRef(self.axis, index, self.t), self.c)
        return self.predictor.embed(plane, lazily=True)

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

    def link(self) -> Generator[tuple[int, int], None, dict[int, FoundObject] | None]:
        """Search every slice, link, write, fill gaps; None if cancelled."""
        contrasts = []
        for n, index in enumerate(self.slices):
            if not (yield from self.searched(index, (n, len(self.slices)))):
                return None
            contrasts.append(usual_contrast(self.shelf.get(index), self.thresholds))
            yield n + 1, len(self.slices)
        # Slices beyond the objects show their blur only, which is faint next to those with objects.
        self.usual = float(np.median(sorted(contrasts)[len(contrasts) // 2 :]))
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
            for index, k, score in bridge(
                self.predictor,
                self.volume,
                self.labels,
                gap,
                lambda index, k, ends=ends: drawn(ends[index], places[k, index]),  # type: ignore[misc]
                ids,
                **self.options,
                embed=self.embed,
            ):
                objects[k].scores[index] = score
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
        return objects

    def seeds(self) -> Generator[tuple[int, int], None, dict[int, FoundObject] | None]:
        """Search some slices and propagate what is new on each; None if cancelled."""
        wanted = seed_slices(self.slices.start, self.slices.stop, self.links.seed_step)
        note = self.shelf.noted() or {"done": [], "objects": {}}
        objects = {
            int(k): FoundObject({int(z): s for z, s in scores.items()})
            for k, scores in note["objects"].items()
        }
        next_id = max(objects, default=0) + 1
        if wanted.start in self.shelf:
            # What a run that was killed had begun and not noted is taken out again.
            erase(self.labels, lambda plane: plane >= next_id, self.slices, axis=self.axis, t=self.t)
        for n, index in enumerate(wanted):
            if index not in note["done"]:
                if not (yield from self.searched(index, (n, len(wanted)))):
                    return None
                fresh = new_objects(self.records(index), self.labels.read_plane(self.axis, index, self.t))
                for grown in grow(
                    self.predictor,
                    self.volume,
                    self.labels,
                    index,
                    fresh,
                    next_id,
                    self.links,
                    start=self.slices.start,
                    stop=self.slices.stop,
                    **self.options,
                    embed=self.embed,
                ):
                    objects |= grown
                    if self.cancelled():
                        return None
                next_id = max(objects, default=0) + 1
                note["done"].append(index)
                self.shelf.note({"done": note["done"], "objects": {k: o.scores for k, o in objects.items()}})
            yield n + 1, len(wanted)
        return objects
