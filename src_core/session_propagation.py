"""Propagation as part of a session: which stretches have to be computed, and where the results go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import xxhash

from src_core.embeddings import EmbeddingCache
from src_core.errors import PromptError
from src_core.history import Edit
from src_core.masks import Mask
from src_core.propagation import PropagationSettings, Step, propagate
from src_core.propagation.between import Placed
from src_core.session import Session, Settled
from src_core.types import PlaneRef

FROM_THE_SIDE = "seen from the side:"
Stretch = tuple[int, int]
"""First and last plane, both included."""
Anchored = dict[int, dict[int, Mask]]
"""Plane index -> object id -> mask."""


@dataclass(frozen=True)
class PropagationProgress:
    """Where a run is.

    Attributes
    ----------
    done, total
        Planes visited and planes that may have to be; a run that stops by itself ends before `total`. In the second
        look at a stretch, the part of it that is done, in hundredths.
    unit
        What they count.
    plane
        The plane just written, None at the start.
    stopped
        Object id -> plane and reason, for every end found so far.
    left_out
        Objects without a mask to start from.
    """

    done: int
    total: int
    plane: PlaneRef | None = None
    stopped: dict[int, list[str]] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()
    unit: str = "slice"


def propagate_session(
    session: Session,
    embeddings: EmbeddingCache,
    identities: Sequence[int],
    *,
    axis: str,
    t: int = 0,
    start: int | None = None,
    stop: int | None = None,
    settings: PropagationSettings | None = None,
) -> Iterator[PropagationProgress]:
    """Propagate objects from their anchors, writing plane by plane; one entry in the history.

    An object that was propagated before is computed again only between the anchors next to a change.

    Parameters
    ----------
    session, embeddings
        The objects, and the planes of the same volume.
    identities
        Which objects; finished ones are skipped.
    axis, t
        Along which axis, at which time point.
    start, stop
        Half-open range of planes; the whole stack by default.

    Yields
    ------
    PropagationProgress
        After every plane; closing the generator keeps what is done.

    Raises
    ------
    PromptError
        None of the objects has an anchor along this axis, or the range is not within the stack.
    """
    planes = session.volume.planes(axis, start, stop)
    first, last = planes[0], planes[-1]
    groups, settled, left_out = _groups(session, identities, axis, t, (first, last))
    total = sum(_length(stretch, anchors) for stretch, anchors in groups)
    done = 0
    ended: dict[int, dict[int, str]] = {}
    yield PropagationProgress(0, total, left_out=left_out)
    about = {
        "model": embeddings.predictor.name,
        "channel": embeddings.channel,
        "objects": sorted(settled),
        "axis": axis,
        "t": t,
        "range": [first, last + 1],
        "settings": asdict(settings or PropagationSettings()),
    }
    with session.edit(f"propagate object {', '.join(str(k) for k in sorted(settled))}", about) as edit:
        for (low, high), anchors in groups:
            left = _Leftovers(session, edit, axis, t, (low, high), anchors)
            doubt = Doubt(anchors)
            for step in _steps(session, embeddings, anchors, (low, high), axis, t, settings):
                plane = PlaneRef(axis, step.index, t)
                undone = (
                    step.again is not None and edit.interrupted
                )  # it would add to what is no longer there
                if not (step.anchor or undone):
                    session.write_step(edit, plane, step.masks, doubt.scores(step), step.ends)
                    left.seen(step)
                    _note_ends(ended, step)
                stopped = _in_words(ended, axis)
                if step.again is None:
                    done += bool(step.masks or step.ends or step.stopped) and not step.anchor  # not: a look
                    yield PropagationProgress(min(done, total), total, plane, stopped, left_out)
                else:
                    share, shown = round(100 * step.again), plane if step.masks else None
                    yield PropagationProgress(share, 100, shown, stopped, left_out, FROM_THE_SIDE)
            left.clear()
            for k in _ids(anchors):
                session.settle(edit, k, axis, t, settled[k])
    session.objects_changed.emit()
    yield PropagationProgress(total, total, None, _in_words(ended, axis), left_out)


def _note_ends(ended: dict[int, dict[int, str]], step: Step) -> None:
    """Note why objects end where; they do not where a mask comes later."""
    for k in step.masks:
        ended.get(k, {}).pop(step.index, None)
    for k, reason in step.stopped.items():
        ended.setdefault(k, {})[step.index] = reason


def _in_words(ended: dict[int, dict[int, str]], axis: str) -> dict[int, list[str]]:
    return {
        k: [f"{axis}={i}: {reason}" for i, reason in found.items()] for k, found in ended.items() if found
    }


class Doubt:
    """Carries doubt on: beyond its outermost anchors, an object is nowhere surer than on the slice before.

    A mask is made from the one before it, errors and all, and the network sees only that the two go together.

    Parameters
    ----------
    anchors
        Plane index -> object id -> mask, as for `propagate`.
    """

    def __init__(self, anchors: Anchored) -> None:
        self._placed = Placed(anchors)
        self._lowest: dict[tuple[int, int, bool], float] = {}
        self._said: dict[tuple[int, int], float] = {}

    def scores(self, step: Step) -> dict[int, float]:
        """Return object id -> confidence, 0 to 1; steps come in the order in which `propagate` yields them.

        A second look changes masks, and not how sure they are.
        """
        for k in step.masks:
            if step.again is None or (k, step.index) not in self._said:
                self._said[k, step.index] = self._score(k, step.index, step.scores[k])
        return {k: self._said[k, step.index] for k in step.masks}

    def _score(self, identity: int, index: int, score: float) -> float:
        below, above = self._placed.sides(identity, index)
        source = below if above is None else above
        if source is None or (below is not None and above is not None):
            return score  # an anchor on either side keeps it right
        walk = (identity, source, above is None)
        self._lowest[walk] = min(score, self._lowest.get(walk, 1.0))
        return self._lowest[walk]


def _groups(
    session: Session, identities: Sequence[int], axis: str, t: int, span: Stretch
) -> tuple[list[tuple[Stretch, Anchored]], dict[int, Settled], tuple[int, ...]]:
    """Return stretches to compute with the anchors that bound them, and what each of their objects starts from.

    Last come the objects without an anchor. Objects of one stretch go together. An anchor that is added later
    has not been used: it is a change.
    """
    groups: dict[Stretch, Anchored] = {}
    settled: dict[int, Settled] = {}
    left_out, known = [], False
    for k in identities:
        state = session.objects[k]
        if state.done:
            continue
        anchors = {i: masks[k] for i, masks in session.anchors([k], axis, t).items()}
        walked = any(m.any() for m in anchors.values())
        known |= walked
        if not walked:
            left_out.append(k)
            continue
        now = Settled(span, {i: _digest(m) for i, m in anchors.items() if span[0] <= i <= span[1]})
        for stretch in _stretches(state.settled.get((axis, t)), now):
            settled[k] = now
            for index, mask in anchors.items():
                if stretch[0] <= index <= stretch[1]:
                    groups.setdefault(stretch, {}).setdefault(index, {})[k] = mask
    if not known:
        raise PromptError("nothing to propagate: accept a mask of an object that is not finished first")
    return list(groups.items()), settled, tuple(left_out)


def _stretches(before: Settled | None, now: Settled) -> list[Stretch]:
    """Return what has to be computed: everything at first, then only up to the anchors next to a change."""
    if not now.anchors:
        return []
    if before is None or before.span != now.span:
        return [now.span]
    either = now.anchors.keys() | before.anchors.keys()
    changed = {i for i in either if now.anchors.get(i) != before.anchors.get(i)}
    kept = sorted(set(now.anchors) - changed)
    stretches = set()
    for i in changed:
        below = max((k for k in kept if k < i), default=now.span[0])
        above = min((k for k in kept if k > i), default=now.span[1])
        stretches.add((below, above))
    return sorted(stretches)


def _steps(
    session: Session,
    embeddings: EmbeddingCache,
    anchors: Anchored,
    stretch: Stretch,
    axis: str,
    t: int,
    settings: PropagationSettings | None,
) -> Iterator[Step]:
    """Propagate within a stretch the objects that have a mask in it; others are nowhere there."""
    somewhere = {k for masks in anchors.values() for k, mask in masks.items() if mask.any()}
    walking = {i: {k: m for k, m in masks.items() if k in somewhere} for i, masks in anchors.items()}
    if somewhere:
        yield from propagate(
            embeddings.predictor,
            session.volume,
            walking,
            axis=axis,
            start=stretch[0],
            stop=stretch[1] + 1,
            t=t,
            c=embeddings.channel,
            settings=settings,
            embed=lambda index: embeddings.get(PlaneRef(axis, index, t)),
        )


def _ids(anchors: Anchored) -> set[int]:
    return {k for masks in anchors.values() for k in masks}


def _digest(mask: Mask) -> int:
    return xxhash.xxh64(np.packbits(mask).tobytes()).intdigest()


def _length(stretch: Stretch, anchors: Anchored) -> int:
    """Return how many planes a run visits at most: up from the lowest anchor and down from the highest."""
    return max(1, (stretch[1] - min(anchors)) + (max(anchors) - stretch[0]))


class _Leftovers:
    """Planes an earlier run filled and this one did not: they are cleared at the end, not before."""

    def __init__(
        self,
        session: Session,
        edit: Edit,
        axis: str,
        t: int,
        stretch: Stretch,
        anchors: Anchored,
    ) -> None:
        self.session, self.edit = session, edit
        self.planes = {
            (k, plane)
            for k in _ids(anchors)
            for plane in list(session.objects[k].unsure)
            if plane.axis == axis and plane.t == t and stretch[0] <= plane.index <= stretch[1]
        }
        self.axis, self.t = axis, t

    def seen(self, step: Step) -> None:
        for k in step.masks.keys() | step.ends.keys():
            self.planes.discard((k, PlaneRef(self.axis, step.index, self.t)))

    def clear(self) -> None:
        for k, plane in sorted(self.planes, key=lambda item: item[1].index):
            self.session.clear_step(self.edit, plane, k)
