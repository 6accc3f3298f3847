"""Planes of a walk that wait until it is sure that nothing on them is taken back.

Where an object ends between others, its mask is smallest; what the walk then finds is ever more of a neighbour, until
that is noticed. The planes beyond the waist were the neighbour's already, and are taken back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from src_core.masks import PackedMask
from src_core.propagation.settings import Step
from src_core.propagation.tracks import PropagationState

MOST = 4
"""So many planes are taken back at most; chosen on drawn stacks."""


Settled = tuple[Step | None, PropagationState]
"""A step to which nothing more will happen, if there is one on a plane, and the state after it."""


@dataclass(eq=False)
class _Plane:
    """A step whose masks are kept small, and who is past a waist on it."""

    step: Step | None
    state: PropagationState
    masks: dict[int, PackedMask]
    past: set[int]


class Held:
    """The last planes of a walk in one direction, in its order."""

    def __init__(self) -> None:
        self._planes: deque[_Plane] = deque()

    def add(self, step: Step | None, state: PropagationState, past: set[int]) -> Iterator[Settled]:
        """Take the next plane, on which the objects of `past` are past a waist; yield those that are settled.

        The step and the state are changed where something is taken back.
        """
        for plane in self._planes:
            plane.past &= past
        if not self._planes and not past:
            yield step, state
            return
        masks = {k: PackedMask.of(mask) for k, mask in step.masks.items() if mask.any()} if step else {}
        self._planes.append(_Plane(step and replace(step, masks={}), state, masks, past))
        while self._planes and (len(self._planes) > MOST or not self._planes[0].past):
            yield self._settled()

    @property
    def first(self) -> int:
        """The first plane that is held."""
        return self._planes[0].state.index

    def rest(self) -> Iterator[Settled]:
        """Yield what is left when the walk has ended."""
        while self._planes:
            yield self._settled()

    def take_back(self, identity: int, reason: str, absence: float) -> bool:
        """Remove an object that ends before the next plane from those past its waist; say whether there are any."""
        steps: list[Step] = []
        for plane in self._planes:
            if plane.step is not None and identity in plane.past:
                plane.masks.pop(identity, None)
                plane.step.scores.pop(identity, None)
                plane.state.tracks.pop(identity, None)
                steps.append(plane.step)
        if steps:
            count = "a plane" if len(steps) == 1 else f"{len(steps)} planes"
            steps[0].stopped[identity] = f"its mask grew again from here on, and {count} on: {reason}"
            steps[0].ends[identity] = absence
        return bool(steps)

    def _settled(self) -> Settled:
        plane = self._planes.popleft()
        masks = {k: m.unpack() for k, m in plane.masks.items()}
        return plane.step and replace(plane.step, masks=masks), plane.state
