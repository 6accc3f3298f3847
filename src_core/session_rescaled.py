"""A session replayed on a larger version of its image: prompts and masks rescaled, and the network asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src_core.embeddings import EmbeddingCache
from src_core.errors import SessionError
from src_core.frames import resize_mask
from src_core.history import History
from src_core.labels import LabelVolume, create_own_labels
from src_core.labels.files import aside, check_new
from src_core.locks import sole_writer
from src_core.masks import Mask, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.session import Session
from src_core.session.loading import Reader
from src_core.session.replaying import Replayed, canvas, open_journal, read_all
from src_core.session.state import ObjectState
from src_core.types import PlaneRef, Progress
from src_core.volumes import Volume

AGREE = 0.7
"""IoU with the user's mask, made larger, below which the network's answer is left for that mask."""

About = dict[str, Any]
"""What a journal says an edit was made of."""


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

    Every mask is made larger and refined by the network that it came from: one that the user made with the
    user's points and box, one from a propagation as a dense prompt alone. An object thus begins and ends where
    the user has seen it end. Masks of the brush, and objects that were in the labels before, are only made larger.

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
    with sole_writer(out):
        check_new(out, overwrite=overwrite)
        with aside(out) as folder:
            was = LabelVolume.create(folder, small)
            known = read_all(lines, was)
            rescaled = _Rescaled(known, was, size, load)  # nothing is replaced if a network is missing

            def fill(large: Path) -> None:
                for done, total in rescaled.steps(Session(volume, LabelVolume.open(large), ids=())):
                    if progress is not None:
                        progress(done, total)

            labels = create_own_labels(volume, out, overwrite=overwrite, prepare=fill)
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
        self, known: Reader, was: LabelVolume, size: Sizes, load: Callable[[str], Predictor]
    ) -> None:
        first = "z" if "z" in size.small else None
        self.was, self.size = was, size
        self._axes = {k: _main_axis(state, first) for k, state in known.table.objects.items()}
        self._objects = known.table.objects
        self._asked, self._found = _asked(known.history), _found(known.history)
        models = {about["model"] for about in (*self._asked.values(), *self._found.values())}
        self._predictors = {model: load(model) for model in sorted(models)}
        self._caches: dict[tuple[str, int | None], EmbeddingCache] = {}

    def steps(self, session: Session) -> Iterator[tuple[int, int]]:
        """Go through the small image's planes, every object along the axis that it was made on."""
        times = range(session.volume.sizes.get("t", 1))
        planes = [
            PlaneRef(axis, index, t)
            for axis in dict.fromkeys(self._axes.values())
            for t in times
            for index in range(self.size.small[axis] if axis else 1)
        ]
        for done, plane in enumerate(planes, start=1):
            ids = np.unique(self.was.read_plane(plane.axis, plane.index, plane.t)).tolist()
            mine = [k for k in ids if k and self._axes.get(k) == plane.axis]
            for large in self.size.planes(plane) if mine else ():
                self._make(session, plane, large, mine)
            yield done, len(planes)

    def _make(self, session: Session, plane: PlaneRef, large: PlaneRef, ids: list[int]) -> None:
        shape = self.size.shape(plane.axis)
        before = self.was.read_plane(plane.axis, plane.index, plane.t)
        nearest = before[np.ix_(*(np.arange(n) * m // n for n, m in zip(shape, before.shape, strict=True)))]
        for k in ids:
            mask = resize_mask(before == k, shape)
            if mask.any():
                mask = self._refined(session.volume, plane, large, k, mask) & (
                    (nearest == k) | (nearest == 0)
                )
                session.select(k)
                session.accept(large, mask, k)

    def _refined(self, volume: Volume, plane: PlaneRef, large: PlaneRef, k: int, mask: Mask) -> Mask:
        """Return the network's answer to a mask and what the user asked, if it is much like that mask."""
        about = self._about(plane, k)
        if about is None:
            return mask
        cache = self._cache(volume, about["model"], about.get("channel"))
        prompts = self.size.prompts(plane.axis, about, mask)
        found = cache.predictor.predict(cache.get(large), prompts, multimask=bool(about["points"]))
        alike = [iou(mask, candidate) for candidate in found.masks]
        best = int(np.argmax(alike))
        return np.asarray(found.masks[best]) if alike[best] >= AGREE else mask

    def _about(self, plane: PlaneRef, k: int) -> About | None:
        """Return what a mask came from; None if it was no network."""
        state = self._objects[k]
        if plane in state.anchors:
            return self._asked.get((k, plane))
        return self._found.get((k, plane.axis, plane.t)) if plane in state.scores else None

    def _cache(self, volume: Volume, model: str, channel: int | None) -> EmbeddingCache:
        if (model, channel) not in self._caches:
            self._caches[model, channel] = EmbeddingCache(self._predictors[model], volume, channel)
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


def _found(history: History) -> dict[tuple[int, str | None, int], About]:
    """Return for every object, axis and time point the latest propagation that stands."""
    return {
        (k, edit.about["axis"], edit.about["t"]): {**edit.about, "points": [], "labels": [], "box": None}
        for edit in history
        if "range" in edit.about
        for k in edit.about["objects"]
    }


def _main_axis(state: ObjectState, first: str | None) -> str | None:
    """Return the axis across most of the slices on which an object was made."""
    count = Counter(p.axis for p in state.anchors | set(state.scores))
    return max(count, key=lambda axis: (count[axis], axis == first), default=first)
