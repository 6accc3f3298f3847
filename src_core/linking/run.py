"""Every object of a stack, without a prompt, into a label volume: cancelled or killed, a run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from src_core.automatic import SearchSettings, Thresholds
from src_core.embedding import Embedding
from src_core.errors import VolumeError
from src_core.labels import check_target
from src_core.linking.report import StackReport, debris
from src_core.linking.seeds import drop
from src_core.linking.settings import LinkSettings
from src_core.linking.shelf import labels_of_run
from src_core.linking.stack import StackRun
from src_core.locks import sole_writer
from src_core.predictor import Predictor
from src_core.propagation.request import described
from src_core.stepping import Stepwise
from src_core.types import Cancelled, Progress
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
    before_end: Callable[[StackReport], None] = lambda report: None,
) -> StackReport:
    """Find the objects of a stack and write them to an OME-Zarr label image.

    Memory does not grow with the number of slices, but for a few numbers an object: masks wait on disk, in the
    folder of the labels, until the run is complete. A run that was killed or cancelled goes on when it is asked
    again for the same; thresholds and linking may then be others, as long as search and method are the same.

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
    before_end
        Called with what is found before the run counts as complete: if it fails, to export the labels say, the
        same call does that alone.

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
        before_end=before_end,
    )
    return Stepwise(steps).run(progress)


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
    before_end: Callable[[StackReport], None] = lambda report: None,
    known: Mapping[str, Any] | None = None,
) -> Steps:
    """Do what `segment_stack` does step by step, for callers who do something else in between.

    `known` is what `described` says of network and image: who goes through many stacks of one asks only once.

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
        **(known or described(predictor, volume, c)),
        "planes": [axis, first, end, t, c],
        "search": asdict(search or SearchSettings()),
        "method": links.method,
    }
    with sole_writer(out):
        labels, shelf, resumed = labels_of_run(volume, out, request, overwrite=overwrite)
        run = StackRun(predictor, volume, labels, shelf, axis, range(first, end), t, c)
        run.search, run.thresholds, run.links = search or SearchSettings(), thresholds or Thresholds(), links
        run.embed, run.cancelled = embed or run.embed, cancelled or run.cancelled
        objects = yield from (run.link() if links.method == "link" else run.seeds())
        report = StackReport(labels, objects or {}, run.calls, resumed, objects is not None)
        if objects is not None:
            least = min(links.min_slices, end - first)
            drop(labels, objects, debris(objects, links.min_size, least), axis=axis, t=t)
            before_end(report)
            shelf.finish()
        return report
