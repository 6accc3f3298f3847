"""How a walk goes through the stack: up, then down, one plane at a time."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace

from src_core.continuity import Memory
from src_core.embedding import Embedding
from src_core.masks import Mask, PackedMask
from src_core.predictor import Predictor
from src_core.propagation.between import UNSEEN, Placed, blend, interpolated
from src_core.propagation.held import Held, Settled
from src_core.propagation.motion import STILL, Shift, moved_picture
from src_core.propagation.pictures import Pictures
from src_core.propagation.reach import Reaches, second_look, worth_it
from src_core.propagation.settings import (
    PropagationSettings,
    Step,
    absence,
    confidence,
    exclusive,
    verdict,
)
from src_core.propagation.tracks import Crop, PropagationState, Slabs, Track, Waiting
from src_core.types import Candidates, PlaneRef
from src_core.volumes import Volume

DENIED = "you have said that it is not here"


@dataclass(eq=False)
class _Here:
    """What a walk in one direction comes to on one plane.

    Attributes
    ----------
    step
        What there is to tell about it so far.
    asked
        Whether the network was asked about any object.
    past
        The objects that are past a waist.
    """

    step: Step
    direction: int
    asked: bool = False
    past: set[int] = field(default_factory=set)

    @property
    def index(self) -> int:
        """The plane."""
        return self.step.index

    def told(self) -> Step | None:
        """Return the step, None if nothing happened."""
        return self.step if self.asked or self.step.masks or self.step.stopped else None


class Walk:
    """One call of `propagate`.

    Parameters
    ----------
    predictor, volume, axis, t, c, settings
        As there.
    anchors
        As `checked_anchors` returns them.

    Attributes
    ----------
    embed, checkpoint, overlapping
        As there; to be set before the first step.
    across, found, revised
        Along which axes a second look goes, what there is for it beside the anchors, and what it makes of that.
    """

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
        self.found: dict[int, Slabs] = {}
        self.revised: dict[int, Slabs] = {}
        self.pictures = Pictures(volume, axis, t, c)
        native = predictor.model.native_tiles
        self.cues = settings.cues if settings.cues is not None else (() if native else ("box",))
        self.placed = Placed(anchors)
        self.across = second_look(predictor, volume, axis, settings)
        looks = settings.sides and predictor.continuity is not None and worth_it(volume, axis)
        self.reaches = Reaches(predictor, volume, axis, t, c) if looks else None

    def _embed(self, index: int) -> Embedding:
        plane = self.volume.plane_at(PlaneRef(self.axis, index, self.t), self.c)
        return self.predictor.embed(plane, lazily=True)

    def steps(self, first: int, last: int, resume: PropagationState | None) -> Iterator[Step]:
        """Walk up and down between two planes, or what of that is left after `resume`."""
        if resume is None:
            for index, masks in self.anchors.items():
                yield Step(index, dict(masks), dict.fromkeys(masks, 1.0), anchor=True)
        upwards = range(min(self.anchors), last + 1)
        downwards = range(max(self.anchors), first - 1, -1)
        waiting = {} if resume is None else dict(resume.waiting)
        tracks = {} if resume is None else dict(resume.tracks)
        self.found = {} if resume is None else resume.found
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
            here = _Here(Step(index, {}, {}), direction)
            self._meet(here, tracks)
            if index != order[-1]:
                yield from self._look(index, direction, self.anchors.get(index, {}))
            self._carry(here, tracks, waiting, held)
            if direction < 0:
                self._fill(here, waiting)
            if index == order[-1]:
                leaving = [k for k in here.step.masks if self.placed.between(k, index) is None]
                here.step.stopped.update(dict.fromkeys(leaving, self.border(index)))
            state = PropagationState(direction, index, dict(tracks), dict(waiting))
            settled = list(held.add(here.told(), state, here.past))
            yield from self._settle(settled)
            if not settled:  # the caller may stop here
                yield Step(held.first, {}, {})
            # One beyond the range counts: outlines are drawn up to it.
            if not tracks and not any((i - index) * direction > 0 for i in self.anchors):
                break
        yield from self._settle(held.rest())

    def _meet(self, here: _Here, tracks: dict[int, Track]) -> None:
        """Begin anew with what the caller says about a plane: here is an object, or here it is not."""
        for identity, mask in self.anchors.get(here.index, {}).items():
            if mask.any():
                tracks[identity] = Track.start(mask, self._memory(here.index, mask))
            elif tracks.pop(identity, None) is not None:
                here.step.stopped[identity] = DENIED

    def _carry(self, here: _Here, tracks: dict[int, Track], waiting: Waiting, held: Held) -> None:
        """Look for the objects that are on their way, and let those go from `tracks` that have ended."""
        index, before = here.index, here.index - here.direction
        expected = {k: t for k, t in tracks.items() if not self.placed.has(k, index)}
        shift = self.pictures.motion(before, index) if expected and self.settings.follow else STILL
        for k, found in self._ask(index, expected, shift).items():
            here.asked = True
            candidates, memory = self._judged(tracks[k], found, index, before, shift)
            between = self.placed.between(k, index)
            sides = self._vote(k, index, here.direction) if between is None else 0.0
            reason = verdict(tracks[k].expected(shift), candidates, self.settings, sides)
            if reason is None:
                earlier, tracks[k] = tracks[k].memory, Track.after(candidates, memory)
                if between is None and earlier is not None and earlier.is_past_waist(tracks[k].packed.area):
                    here.past.add(k)
                self._keep(here, k, candidates, between, waiting)
                continue
            del tracks[k]
            if between is None:
                ended = not held.end(k, reason, absence(candidates))
            else:  # the other direction may still reach this plane, and up comes first
                ended = here.direction < 0 and (k, index) not in waiting and not self._fills
            if ended:
                here.step.stopped[k], here.step.ends[k] = reason, absence(candidates)

    def _keep(
        self, here: _Here, k: int, found: Candidates, between: tuple[int, int] | None, waiting: Waiting
    ) -> None:
        """Show an answer, or let it wait for that of the other direction, or blend it with what has waited."""
        if between is not None and here.direction > 0:
            waiting[k, here.index] = Crop.of(found)
            return
        other = waiting.pop((k, here.index), None) if between is not None else None
        if between is not None and other is not None:
            weight = (here.index - between[0]) / (between[1] - between[0])
            found = blend(self.predictor, weight, other, found)
        here.step.masks[k], here.step.scores[k] = found.masks[0], confidence(found)

    def _fill(self, here: _Here, waiting: Waiting) -> None:
        """Show on the way down what the way up has left where it ended, or an outline between the anchors."""
        for k in [k for k, i in waiting if i == here.index]:
            crop = waiting.pop((k, here.index))
            here.step.masks[k], here.step.scores[k] = crop.mask.unpack(), crop.score
        self._interpolate(here.index, here.step.masks, here.step.scores)

    def _settle(self, planes: Iterable[Settled]) -> Iterator[Step]:
        """Yield the steps on planes to which nothing more will happen, and then tell their states."""
        for step, state in planes:
            if step is not None:
                if not self.overlapping:
                    anchors = self.anchors.get(step.index, {}).values()
                    step = replace(step, masks=exclusive(step.masks, step.scores, anchors))
                self._note(step)
                yield step
            if self.checkpoint is not None:
                self.checkpoint(replace(state, found=self.found))

    def _note(self, step: Step) -> None:
        """Remember what was found, for the second look."""
        for k, mask in step.masks.items() if self.across else ():
            if mask.any():
                self.found.setdefault(k, {})[step.index] = PackedMask.of(mask), step.scores[k]

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
        if self.reaches is None:
            return
        leaving = {
            k: mask
            for k, mask in self.anchors.get(index, {}).items()
            if k in objects and self.placed.leaves(k, index, direction)
        }
        for _ in self.reaches.look(index, leaving):
            yield Step(index, {}, {})

    def _vote(self, identity: int, index: int, direction: int) -> float:
        """Return what planes across the stack say about an object beyond its last anchor; see `verdict`."""
        anchor = self.placed.sides(identity, index)[direction < 0]
        if self.reaches is None or anchor is None:
            return 0.0
        return self.reaches.vote(identity, anchor, index, direction)

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

    def border(self, index: int) -> str:
        """Say why objects end on the last plane of a walk."""
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
