"""Propagation straight into a label volume: every plane saved at once, and a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src_core.embedding import Embedding
from src_core.labels import LabelVolume, check_target, create_own_labels
from src_core.locks import sole_writer
from src_core.predictor import Predictor
from src_core.propagation.anchors import PromptsByPlane, anchor_masks, unanswered
from src_core.propagation.reach import second_look
from src_core.propagation.request import checked_prompts, may_write, plain_prompts, request_of
from src_core.propagation.run import check_axes, propagate
from src_core.propagation.settings import PropagationSettings, Step
from src_core.propagation.store import RunStore
from src_core.propagation.tracks import PropagationState
from src_core.types import Cancelled, Progress
from src_core.volumes import Volume


@dataclass
class ObjectReport:
    """What became of one object.

    Attributes
    ----------
    first, last
        The outermost planes with its mask.
    scores
        Plane -> confidence, 0 to 1; anchors are left out.
    stops
        (plane, why): where it ended, and why it ends there.
    """

    first: int
    last: int
    scores: dict[int, float] = field(default_factory=dict)
    stops: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What a run did: the labels, each object's fate, and whether it went on from an unfinished run.

    `unanswered` has (plane, object) of the prompts at which the network saw nothing; an object without any other
    prompt is not in `objects`.
    """

    labels: LabelVolume
    objects: dict[int, ObjectReport]
    resumed: bool
    complete: bool
    unanswered: list[tuple[int, int]] = field(default_factory=list)


def propagate_to_labels(
    predictor: Predictor,
    volume: Volume,
    prompts: PromptsByPlane,
    out: str | Path,
    *,
    axis: str = "z",
    start: int | None = None,
    stop: int | None = None,
    t: int = 0,
    c: int | None = None,
    settings: PropagationSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
    overwrite: bool = False,
    pyramid: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Report:
    """Answer the prompts, propagate the masks and write each plane to an OME-Zarr label image at once.

    A run that was killed or cancelled goes on where it was when it is asked again for the same thing, and the
    labels are then those of an uninterrupted run. Where objects meet on a plane, the one reached later wins,
    but never over another's anchor.

    Parameters
    ----------
    predictor, volume, axis, start, stop, t, c, settings, embed
        As in `propagate`.
    prompts
        Plane index -> object id -> prompts; prompts of one object on several planes make several anchors.
    out
        The label image to write. Inside the image's own labels folder it is listed there.
    overwrite
        Replace labels that are there, unless they are this very run's, unfinished.
    pyramid
        Write coarser levels, too, for viewers.
    progress
        Called as progress(done, total) in planes; objects that end early make it jump.
    cancelled
        Asked after every plane.

    Raises
    ------
    PromptError
        A prompt lies outside its plane, the answers to all are empty, or the range is not within the stack.
    SessionError
        `out` is there already, or cannot be written.
    VolumeError
        The image cannot be read, has no planes along `axis`, or no contrast.
    """
    settings = settings or PropagationSettings()
    out = Path(out)
    check_target(volume, out)
    prompts = plain_prompts(prompts)
    count = checked_prompts(volume, prompts, axis, start, stop)
    check_axes(volume, axis, settings.across or ())
    request = request_of(predictor, volume, prompts, axis, start, stop, t, c, settings)
    # Embeddings from disk are rounded: a run that begins with them ends with them.
    request["embeddings"] = "as computed" if embed is None else "stored"
    store = RunStore(out)
    options: dict[str, Any] = {"axis": axis, "t": t, "c": c, "embed": embed}
    with sole_writer(out):
        resumed = may_write(out, store, request, overwrite)
        if not resumed:
            # Whatever can be wrong with the request is found before labels that are there are replaced.
            anchors = anchor_masks(predictor, volume, prompts, **options)
            create_own_labels(
                volume,
                out,
                overwrite=overwrite,
                pyramid=pyramid,
                prepare=lambda folder: RunStore.begin(folder, request, anchors),
            )
        run = _Run(predictor, volume, LabelVolume.open(out), store, progress)
        complete = run.go_on((start or 0, count if stop is None else stop), settings, cancelled, **options)
    return Report(
        run.labels,
        dict(sorted(run.objects.items())),
        resumed,
        complete,
        unanswered(prompts, run.anchors),
    )


class _Run:
    """A run whose request and anchors are stored; it begins where it was left."""

    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        labels: LabelVolume,
        store: RunStore,
        progress: Progress | None,
    ) -> None:
        self.predictor, self.volume, self.labels, self.store = predictor, volume, labels, store
        self.progress, self.anchors = progress, store.anchors()
        self.state: PropagationState | None = None
        notes: dict[str, Any] = {}
        if (saved := store.load()) is not None:
            self.state, notes = saved
        self.objects = {int(k): ObjectReport(**_with_int_keys(o)) for k, o in notes.items()}

    def go_on(
        self,
        planes: tuple[int, int],
        settings: PropagationSettings,
        cancelled: Cancelled | None,
        *,
        axis: str,
        t: int,
        **options: Any,
    ) -> bool:
        """Write what is left of the planes from the first to before the second; say whether that is all of them."""
        start, stop = planes
        low, high = min(self.anchors), max(self.anchors)
        up, visits = stop - low, stop - low + high - start + 1
        # A second look takes about as long as the first.
        total = visits * (2 if second_look(self.predictor, self.volume, axis, settings) else 1)

        def checkpoint(state: PropagationState) -> None:
            self.store.save(state, {str(k): asdict(o) for k, o in self.objects.items()})
            if state.direction:
                done = state.index - low + 1 if state.direction > 0 else up + high - state.index + 1
                self._tell(done, total)

        steps = propagate(
            self.predictor,
            self.volume,
            self.anchors,
            axis=axis,
            start=start,
            stop=stop,
            t=t,
            settings=settings,
            checkpoint=checkpoint,
            resume=self.state,
            **options,
        )
        for step in _until(steps, cancelled):
            if step is None:
                self.store.finish()
                self._tell(total, total)
                return True
            if step.masks:
                self.labels.write_plane(axis, step.index, step.masks, t=t)
            note_step(self.objects, step)
            if step.again is not None:
                self._tell(visits + int(step.again * visits), total)
        return False

    def _tell(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)


def _until(steps: Iterator[Step], cancelled: Cancelled | None) -> Iterator[Step | None]:
    """Yield the steps, and None after the last unless cancelled before."""
    for step in steps:
        yield step
        if cancelled is not None and cancelled():
            return
    yield None


def note_step(objects: dict[int, ObjectReport], step: Step) -> None:
    """Take note of what a step says of each object."""
    for k in (k for k, mask in step.masks.items() if mask.any()):
        report = objects.setdefault(k, ObjectReport(step.index, step.index))
        report.first, report.last = min(report.first, step.index), max(report.last, step.index)
        report.stops = [stop for stop in report.stops if stop[0] != step.index]  # it goes on after all
        if not step.anchor:
            report.scores[step.index] = round(step.scores[k], 4)
    for k, reason in step.stopped.items():
        others = [stop for stop in objects[k].stops if stop[0] != step.index]
        objects[k].stops = [*others, (step.index, reason)]


def _with_int_keys(report: dict[str, Any]) -> dict[str, Any]:
    scores = {int(z): score for z, score in report["scores"].items()}
    return report | {"scores": scores, "stops": [(z, reason) for z, reason in report["stops"]]}
