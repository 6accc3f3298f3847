"""The walk through the stack: up, then down, one plane at a time."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import replace

from src_core.continuity import Memory
from src_core.embedding import Embedding
from src_core.masks import Mask
from src_core.predictor import Predictor
from src_core.propagation.anchors import Anchors, checked_anchors
from src_core.propagation.between import UNSEEN, Placed, blend, interpolated
from src_core.propagation.held import Held, Settled
from src_core.propagation.motion import STILL, Shift, moved_picture
from src_core.propagation.pictures import Pictures
from src_core.propagation.reach import Reach, reaches, together, worth_it
from src_core.propagation.settings import (
    PropagationSettings,
    Step,
    absence,
    confidence,
    exclusive,
    verdict,
)
from src_core.propagation.tracks import Crop, PropagationState, Track, Waiting
from src_core.types import Candidates, PlaneRef
from src_core.volumes import Volume


def propagate(
    predictor: Predictor,
    volume: Volume,
    anchors: Anchors,
    *,
    axis: str = "z",
    start: int | None = None,
    stop: int | None = None,
    t: int = 0,
    c: int | None = None,
    settings: PropagationSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
    checkpoint: Callable[[PropagationState], None] | None = None,
    resume: PropagationState | None = None,
    overlapping: bool = False,
) -> Iterator[Step]:
    """Carry masks from their anchors through the stack, plane by plane.

    Parameters
    ----------
    predictor, volume
        The network and the image.
    anchors
        Plane index -> object id -> (H, W) bool mask. They are yielded as they are and never changed. Objects
        end before a plane with an empty one; each needs one that is not empty.
    axis
        The spatial axis to travel along.
    start, stop
        Half-open range of planes to fill; the whole stack by default.
    t, c
        Time point and channel.
    settings
        See `PropagationSettings`.
    embed
        Called with a plane's index instead of `Predictor.embed`, by callers that keep embeddings.
    checkpoint
        Called with the state after every plane, once the caller has come back for more: what it does with a
        step is then done. Planes between anchors, which yield nothing on the way up, count as well.
    resume
        A state that `checkpoint` got from a call with the same arguments: go on after its plane, with the
        same results as if there had been no interruption. The anchors are not yielded again.
    overlapping
        Leave every object all of its mask; by default a pixel that several claim goes to the surest.

    Yields
    ------
    Step
        As soon as a plane is done, also where it has no masks to show. The caller may save, show, or stop at
        any point.

    Raises
    ------
    PromptError
        An anchor or the range lies outside the stack; an anchor is no mask, does not fit the plane, or all of an
        object are empty.
    """
    run = _Run(
        predictor,
        volume,
        checked_anchors(volume, anchors, axis),
        axis,
        t,
        c,
        settings or PropagationSettings(),
    )
    run.embed, run.checkpoint, run.overlapping = embed or run.embed, checkpoint, overlapping
    planes = volume.planes(axis, start, stop)
    # Not a generator itself: bad arguments are refused at once.
    return run.steps(planes[0], planes[-1], resume)


class _Run:
    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        anchors: dict[int, dict[int, Mask]],
        axis: str,
        t: int,
        c: int | None,
        settings: PropagationSettings,
    ) -> None:
        self.predictor, self.volume, self.anchors, self.axis = predictor, volume, anchors, axis
        self.t, self.c, self.settings = t, c, settings
        self.embed: Callable[[int], Embedding] = self._embed
        self.checkpoint: Callable[[PropagationState], None] | None = None
        self.overlapping = False
        self.pictures = Pictures(volume, axis, t, c)
        native = predictor.model.native_tiles
        self.cues = settings.cues if settings.cues is not None else (() if native else ("box",))
        self.placed = Placed(anchors)
        self._sides = settings.sides and predictor.continuity is not None and worth_it(volume, axis)
        self._reach: dict[tuple[int, int], tuple[Reach, ...]] = {}

    def _embed(self, index: int) -> Embedding:
        plane = self.volume.plane_at(PlaneRef(self.axis, index, self.t), self.c)
        return self.predictor.embed(plane, lazily=True)

    def steps(self, first: int, last: int, resume: PropagationState | None) -> Iterator[Step]:
        if resume is None:
            for index, masks in self.anchors.items():
                yield Step(index, dict(masks), dict.fromkeys(masks, 1.0), anchor=True)
        upwards = range(min(self.anchors), last + 1)
        downwards = range(max(self.anchors), first - 1, -1)
        waiting = {} if resume is None else dict(resume.waiting)
        tracks = {} if resume is None else dict(resume.tracks)
        if resume is None or resume.direction > 0:
            rest = upwards if resume is None else range(resume.index + 1, last + 1)
            yield from (_within(s, first, last) for s in self._sweep(rest, 1, tracks, waiting))
            tracks = {}
        else:
            downwards = range(resume.index - 1, first - 1, -1)
        yield from (_within(s, first, last) for s in self._sweep(downwards, -1, tracks, waiting))

    def _sweep(
        self, order: range, direction: int, tracks: dict[int, Track], waiting: Waiting
    ) -> Iterator[Step]:
        """Walk `order`; upwards, what lies between two anchors waits for the way back."""
        held = Held(self.predictor, self.settings.waists and self.predictor.continuity is not None)
        for anchor, ids in self._behind(order, direction, tracks).items():
            yield from self._look(anchor, direction, ids)
        for index in order:
            stopped: dict[int, str] = {}
            for identity, mask in self.anchors.get(index, {}).items():
                if mask.any():
                    tracks[identity] = Track.start(mask, self._memory(index, mask))
                elif tracks.pop(identity, None) is not None:
                    stopped[identity] = "you have said that it is not here"
            if index != order[-1]:
                yield from self._look(index, direction, self.anchors.get(index, {}))
            here = {k: t for k, t in tracks.items() if not self.placed.has(k, index)}
            follow = here and self.settings.follow
            shift = self.pictures.motion(index - direction, index) if follow else STILL
            found = self._ask(index, here, shift)
            masks, scores, ends, past = {}, {}, {}, set()
            for k, candidates in found.items():
                between = self.placed.between(k, index)
                before = tracks[k].memory
                candidates, memory = self._judged(tracks[k], candidates, index, index - direction, shift)
                sides = self._vote(k, index, direction) if between is None else 0.0
                reason = verdict(tracks[k].expected(shift), candidates, self.settings, sides)
                other = waiting.get((k, index)) if direction < 0 else None
                if reason is not None:
                    del tracks[k]
                    if between is None and held.end(k, reason, absence(candidates)):
                        continue
                    # Between anchors the other direction may still reach this plane, and up comes first.
                    if between is None or (direction < 0 and other is None and not self._fills):
                        stopped[k], ends[k] = reason, absence(candidates)
                else:
                    tracks[k] = Track.after(candidates, memory)
                    if between is None and before is not None and before.is_past_waist(tracks[k].packed.area):
                        past.add(k)
                    if between is not None and direction > 0:
                        waiting[k, index] = Crop.of(candidates)
                        continue
                    if between is not None and other is not None:
                        del waiting[k, index]
                        weight = (index - between[0]) / (between[1] - between[0])
                        candidates = blend(self.predictor, weight, other, candidates)
                    masks[k], scores[k] = candidates.masks[0], confidence(candidates)
            if direction < 0:  # forward answers whose way back has ended
                for k in [k for k, i in waiting if i == index]:
                    masks[k], scores[k] = (crop := waiting.pop((k, index))).mask.unpack(), crop.score
                self._interpolate(index, masks, scores)
            if index == order[-1]:
                stopped |= {k: self._border(index) for k in masks if self.placed.between(k, index) is None}
            state = PropagationState(direction, index, dict(tracks), dict(waiting))
            step = Step(index, masks, scores, stopped, ends) if found or masks or stopped else None
            settled = list(held.add(step, state, past))
            yield from self._settle(settled)
            if not settled:  # the caller may stop here
                yield Step(held.first, {}, {})
            # One beyond the range counts: outlines are drawn up to it.
            if not tracks and not any((i - index) * direction > 0 for i in self.anchors):
                break
        yield from self._settle(held.rest())

    def _settle(self, planes: Iterable[Settled]) -> Iterator[Step]:
        """Yield the steps on planes to which nothing more will happen, and then tell their states."""
        for step, state in planes:
            if step is not None and self.overlapping:
                yield step
            elif step is not None:
                anchors = self.anchors.get(step.index, {}).values()
                yield replace(step, masks=exclusive(step.masks, step.scores, anchors))
            if self.checkpoint is not None:
                self.checkpoint(state)

    def _behind(self, order: range, direction: int, tracks: dict[int, Track]) -> dict[int, list[int]]:
        """Return the anchors, and of which objects, that a run which goes on with `order` does not come by."""
        found: dict[int, list[int]] = {}
        for k in tracks if order else ():
            anchor = self.placed.sides(k, order[0])[direction < 0]
            if anchor is not None:
                found.setdefault(anchor, []).append(k)
        return found

    def _look(self, index: int, direction: int, objects: Container[int]) -> Iterator[Step]:
        """Look from the side at those objects on an anchor that leave their last one, with empty steps in between."""
        if not self._sides:
            return
        leaving = {
            k: mask
            for k, mask in self.anchors.get(index, {}).items()
            if k in objects
            and mask.any()
            and self.placed.sides(k, index)[direction > 0] is None
            and (k, index) not in self._reach
        }
        if not leaving:
            return
        for found in reaches(self.predictor, self.volume, self.axis, index, leaving, t=self.t, c=self.c):
            if found is not None:
                self._reach[found[0], index] = found[1]
            yield Step(index, {}, {})

    def _vote(self, identity: int, index: int, direction: int) -> float:
        """Return what planes across the stack say about an object beyond its last anchor; see `verdict`."""
        anchor = self.placed.sides(identity, index)[direction < 0]
        return 0.0 if anchor is None else together(self._reach.get((identity, anchor), ()), index, direction)

    @property
    def _fills(self) -> bool:
        """Whether there is always something between two anchors."""
        return self.settings.interpolate_below > 0

    def _interpolate(self, index: int, masks: dict[int, Mask], scores: dict[int, float]) -> None:
        """Draw the outline from anchor to anchor where the network is unsure, or has not come at all."""
        for k in self.placed.objects if self._fills else ():
            sides = self.placed.between(k, index)
            if sides is None or self.placed.has(k, index):
                continue
            if scores.get(k, 0.0) < self.settings.interpolate_below:
                below, above = (self.anchors[i][k] for i in sides)
                drawn = interpolated(below, above, (index - sides[0]) / (sides[1] - sides[0]))
                if drawn.any():
                    masks[k], scores[k] = drawn, scores.get(k, UNSEEN)

    def _border(self, index: int) -> str:
        at_end = index in (0, self.volume.n_planes(self.axis) - 1)
        return f"the {'stack' if at_end else 'range'} ends here"

    def _ask(self, index: int, tracks: dict[int, Track], shift: Shift) -> dict[int, Candidates]:
        if not tracks:
            return {}
        prompts = [track.prompts(self.cues, shift) for track in tracks.values()]
        return dict(
            zip(tracks, self.predictor.predict_many(self.embed(index), prompts, multimask=False), strict=True)
        )

    def _memory(self, index: int, mask: Mask) -> Memory | None:
        judge = self.predictor.continuity
        return None if judge is None else Memory.of(self.pictures.at(index), mask)

    def _judged(
        self, track: Track, found: Candidates, index: int, before: int, shift: Shift
    ) -> tuple[Candidates, Memory | None]:
        """Let `Continuity`, where there is one, say whether the object is still there and how good its mask is."""
        judge = self.predictor.continuity
        if judge is None or track.memory is None:
            return found, None
        earlier = moved_picture(self.pictures.at(before), shift, self.volume.plane_shape(self.axis))
        return judge.revise(track.memory, track.expected(shift), found, self.pictures.at(index), earlier)


def _within(step: Step, first: int, last: int) -> Step:
    """Empty a step outside the range: it was only on the way."""
    return step if first <= step.index <= last else Step(step.index, {}, {})
