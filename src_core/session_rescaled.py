"""A session replayed on a larger version of its image: the user's prompts and masks, rescaled, asked again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.embeddings import EmbeddingCache
from src_core.errors import SessionError
from src_core.frames import resize_mask
from src_core.history import History
from src_core.labels import LabelVolume
from src_core.labels.target import create_labels
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.propagation import PropagationSettings
from src_core.session import Session
from src_core.session.loading import Reader
from src_core.session.replaying import Replayed, canvas, open_journal, read_all
from src_core.session.state import ObjectState
from src_core.session_propagation import propagate_session
from src_core.types import PlaneRef, Progress
from src_core.volumes import Volume

AGREE = 0.7
"""IoU with the user's mask, made larger, below which the network's answer is left for that mask."""

About = dict[str, Any]
"""What a journal says an edit was made of."""
Stretch = tuple[int, str | None, int]
"""Object, axis and time point of a propagation."""


def replay_larger(
    session: str | Path,
    volume: Volume,
    out: str | Path,
    *,
    load: Callable[[str], Predictor] = Predictor.load,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Replayed:
    """Make a session's labels on a larger version of its image.

    Every mask that the user made is made larger and refined by the network that the user worked with, with the
    user's points and box; then the objects are propagated as they were. Masks of the brush, and objects that
    were in the labels before, are only made larger.

    Parameters
    ----------
    session, out, overwrite, progress
        As for `src_core.session.replay`; progress is in planes.
    volume
        The larger image: the same axes and time points, no spatial axis shorter.
    load
        Loads a network by its name.

    Raises
    ------
    SessionError
        There is no journal, it cannot be read, the image is no larger version, or `out` cannot be written.
    """
    path, lines = open_journal(session)
    small = canvas(path, lines.header)
    size = Sizes.of(small, volume)
    out = Path(out)
    labels = create_labels(volume, out, overwrite=overwrite)
    with tempfile.TemporaryDirectory(prefix=".replay-", dir=out.absolute().parent) as folder:
        was = LabelVolume.create(Path(folder) / "labels", small)
        known = read_all(lines, was)
        rescaled = _Rescaled(known, was, Session(volume, labels, ids=()), size, load)
        for done, total in rescaled.steps():
            if progress is not None:
                progress(done, total)
    return Replayed(labels, len(known.table.objects), len(known.history))


@dataclass(frozen=True)
class Sizes:
    """How positions in the small image become positions in the large one.

    Attributes
    ----------
    small, large
        Length of every spatial axis.
    """

    small: dict[str, int]
    large: dict[str, int]

    @classmethod
    def of(cls, small: Volume, large: Volume) -> Sizes:
        """Compare two images; raises `SessionError` if the second is no larger version of the first."""
        axes = small.spatial_axes
        same = axes == large.spatial_axes and small.sizes.get("t", 1) == large.sizes.get("t", 1)
        if not same or any(large.sizes[a] < small.sizes[a] for a in axes):
            raise SessionError(
                f"the session belongs to an image of {small.sizes} pixels; {large.name} with {large.sizes} is no "
                "larger version of it"
            )
        return cls({a: small.sizes[a] for a in axes}, {a: large.sizes[a] for a in axes})

    def source(self, axis: str, index: int) -> int:
        """Return the small image's plane in which the middle of a plane of the large one lies."""
        return int((index + 0.5) * self.small[axis] / self.large[axis])

    def planes(self, plane: PlaneRef) -> list[PlaneRef]:
        """Return the planes of the large image that lie in one of the small image."""
        if plane.axis is None:
            return [plane]
        axis = plane.axis
        return [
            PlaneRef(axis, i, plane.t) for i in range(self.large[axis]) if self.source(axis, i) == plane.index
        ]

    def shape(self, axis: str | None) -> tuple[int, int]:
        """Return (H, W) of the large image's planes."""
        rows, columns = (n for a, n in self.large.items() if a != axis)
        return rows, columns

    def prompts(self, axis: str | None, about: About, mask: Mask) -> Prompts:
        """Return what the user asked, in pixels of the large plane, with a mask of that plane."""
        ratio = np.array([self.large[a] / self.small[a] for a in self.large if a != axis])
        points = np.array(about["points"], float).reshape(-1, 2)
        box = about["box"]
        return Prompts(
            (points + 0.5) * ratio - 0.5,
            about["labels"],
            None if box is None else tuple(np.array(box, float) * np.tile(ratio, 2)),
            mask,
        )


class _Rescaled:
    def __init__(
        self, known: Reader, was: LabelVolume, session: Session, size: Sizes, load: Callable[[str], Predictor]
    ) -> None:
        self.objects = known.table.objects
        self.was, self.session, self.size, self._load = was, session, size, load
        self._asked = _asked(known.history)
        self._runs = _runs(known.history, self.objects)
        self._caches: dict[tuple[str, int | None], EmbeddingCache] = {}

    def steps(self) -> Iterator[tuple[int, int]]:
        """Do it plane by plane: what the user made, then what was propagated."""
        made = self._made()
        total, done = len(made) + len(self._runs), 0
        for plane, ids in made:
            for large in self.size.planes(plane):
                self._make(plane, large, ids)
            done += 1
            yield done, total
        for about in self._runs:
            self._propagate(about)
            done += 1
            yield done, total

    def _made(self) -> list[tuple[PlaneRef, list[int]]]:
        """Return the small planes to enlarge, with their objects; propagated planes are not among them."""
        found: dict[PlaneRef, set[int]] = {}
        for k, state in self.objects.items():
            for plane in state.anchors:
                found.setdefault(plane, set()).add(k)
        covered = {(k, run["axis"], run["t"]) for run in self._runs for k in run["objects"]}
        axis = "z" if "z" in self.size.small else None
        for t in range(self.session.volume.sizes.get("t", 1)):
            for index in range(self.size.small.get("z", 1)):
                plane = PlaneRef(axis, index, t)
                for k in np.unique(self.was.read_plane(axis, index, t)).tolist():
                    if k in self.objects and _unexplained(k, self.objects[k], plane, covered):
                        found.setdefault(plane, set()).add(k)
        order = sorted(found, key=lambda p: (p.t, p.axis or "", p.index))
        return [(plane, sorted(found[plane])) for plane in order]

    def _make(self, plane: PlaneRef, large: PlaneRef, ids: list[int]) -> None:
        shape = self.size.shape(plane.axis)
        before = self.was.read_plane(plane.axis, plane.index, plane.t)
        nearest = before[np.ix_(*(np.arange(n) * m // n for n, m in zip(shape, before.shape, strict=True)))]
        for k in ids:
            mask = resize_mask(before == k, shape)
            if mask.any():
                mask = self._refined(plane, large, k, mask) & ((nearest == k) | (nearest == 0))
                self.session.select(k)
                self.session.accept(large, mask, k)

    def _refined(self, plane: PlaneRef, large: PlaneRef, k: int, mask: Mask) -> Mask:
        """Return the network's answer to the user's prompts with a mask, if it is much like that mask."""
        about = self._asked.get((k, plane))
        if about is None:
            return mask
        cache = self._cache(about["model"], about.get("channel"))
        prompts = self.size.prompts(plane.axis, about, mask)
        found = cache.predictor.predict(cache.get(large), prompts, multimask=True)
        alike = [_iou(mask, candidate) for candidate in found.masks]
        best = int(np.argmax(alike))
        return np.asarray(found.masks[best]) if alike[best] >= AGREE else mask

    def _propagate(self, about: About) -> None:
        session, axis = self.session, about["axis"]
        ids = [k for k in about["objects"] if k in session.objects and session.anchors([k], axis, about["t"])]
        if not ids:
            return
        inside = [
            i
            for i in range(self.size.large[axis])
            if about["range"][0] <= self.size.source(axis, i) < about["range"][1]
        ]
        settings = dict(about["settings"])
        settings["cues"] = None if settings["cues"] is None else tuple(settings["cues"])
        for _ in propagate_session(
            session,
            self._cache(about["model"], about["channel"]),
            ids,
            axis=axis,
            t=about["t"],
            start=inside[0],
            stop=inside[-1] + 1,
            settings=PropagationSettings(**settings),
        ):
            pass

    def _cache(self, model: str, channel: int | None) -> EmbeddingCache:
        if (model, channel) not in self._caches:
            self._caches[model, channel] = EmbeddingCache(self._load(model), self.session.volume, channel)
        return self._caches[model, channel]


def _asked(history: History) -> dict[tuple[int, PlaneRef], About]:
    """Return what the user asked for the masks that stand; of those changed since with the brush, nothing."""
    found: dict[tuple[int, PlaneRef], About] = {}
    for edit in history:
        for patch in edit.patches:
            before, after = patch.ids(after=False), patch.ids(after=True)
            for k in np.union1d(before[before != after], after[before != after]).tolist():
                found.pop((k, patch.plane), None)
        if "points" in edit.about:
            for change in edit.changes:
                if change.key[0] == "anchor":
                    _, k, axis, index, t = change.key
                    found[k, PlaneRef(axis, index, t)] = edit.about
    return found


def _runs(history: History, objects: dict[int, ObjectState]) -> list[About]:
    """Return the propagations that stand, each with the objects that no later one along its axis repeats."""
    found: list[About] = []
    taken: set[Stretch] = set()
    for edit in reversed([e for e in history if "range" in e.about]):
        about = edit.about
        fresh = [
            k
            for k in about["objects"]
            if k in objects and objects[k].scores and (k, about["axis"], about["t"]) not in taken
        ]
        taken |= {(k, about["axis"], about["t"]) for k in fresh}
        if fresh:
            found.append({**about, "objects": fresh})
    return found[::-1]


def _unexplained(k: int, state: ObjectState, plane: PlaneRef, covered: set[Stretch]) -> bool:
    """Say whether an object's pixels on a plane are neither the user's nor found by a propagation that is repeated."""
    found = any((k, p.axis, p.t) in covered for p in state.scores if p == plane or p.axis != plane.axis)
    return plane not in state.anchors and not found


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    either = int((a | b).sum())
    return int((a & b).sum()) / either if either else 1.0
