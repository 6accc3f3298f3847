"""Planes of a walk that wait until it is known whether their objects go on.

Where an object ends between others, its mask is smallest; what the walk then finds is ever more of a neighbour, until
that is noticed. The planes beyond the waist were the neighbour's already, and are taken back. On its last plane an
object closes: the mask there owes more to the planes before than is left of it, and only what is surer stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from src_core.masks import PackedMask
from src_core.predictor import Predictor
from src_core.propagation.settings import Step
from src_core.propagation.tracks import PropagationState

MOST = 4
"""So many planes are taken back at most; chosen on drawn stacks, as is the next."""
SURER = 0.5
"""Logits on an object's last plane that count."""

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
    """The last planes of a walk in one direction, in its order.

    Parameters
    ----------
    predictor
        Who walks.
    waits
        Whether anything is taken back or closes; else every plane is settled at once.
    """

    def __init__(self, predictor: Predictor, waits: bool) -> None:
        self._predictor, self._waits = predictor, waits
        self._planes: deque[_Plane] = deque()

    def add(self, step: Step | None, state: PropagationState, past: set[int]) -> Iterator[Settled]:
        """Take the next plane, on which the objects of `past` are past a waist; yield those that are settled.

        The step and the state are changed where an object ends after it.
        """
        if not self._waits:
            yield step, state
            return
        for plane in self._planes:
            plane.past &= past
        masks = {k: PackedMask.of(mask) for k, mask in step.masks.items() if mask.any()} if step else {}
        self._planes.append(_Plane(step and replace(step, masks={}), state, masks, past))
        while self._is_settled():
            yield self._settled()

    @property
    def first(self) -> int:
        """The first plane that is held."""
        return self._planes[0].state.index

    def rest(self) -> Iterator[Settled]:
        """Yield what is left when the walk has ended."""
        while self._planes:
            yield self._settled()

    def end(self, identity: int, reason: str, absence: float) -> bool:
        """Let an object end before the next plane, or before a waist, and close; say whether anything is taken back."""
        taken: list[Step] = []
        for plane in reversed(self._planes):
            if plane.step is None or identity not in plane.past or len(taken) == MOST:
                self._close(plane, identity)
                break
            plane.masks.pop(identity, None)
            plane.step.scores.pop(identity, None)
            plane.state.tracks.pop(identity, None)
            taken.append(plane.step)
        if taken:
            count = "a plane" if len(taken) == 1 else f"{len(taken)} planes"
            taken[-1].stopped[identity] = f"its mask grew again from here on; {count} later, {reason}"
            taken[-1].ends[identity] = absence
        return bool(taken)

    def _close(self, plane: _Plane, identity: int) -> None:
        """Leave of an object's mask on its last plane what is surer, if anything is."""
        track = plane.state.tracks.get(identity)
        if track is None or track.dense is None or track.window is None or identity not in plane.masks:
            return
        mask = self._predictor.mask_of(track.dense - np.float32(SURER), track.window, track.packed.shape)
        mask &= plane.masks[identity].unpack()
        if mask.any():
            plane.masks[identity] = PackedMask.of(mask)

    def _is_settled(self) -> bool:
        """Say whether there is a first plane on which no object may end or be taken back."""
        if not self._planes or len(self._planes) > MOST + 1:
            return bool(self._planes)
        first, *others = self._planes
        last = first.step is not None and (not others or others[0].past)
        return not (first.past or last)

    def _settled(self) -> Settled:
        plane = self._planes.popleft()
        masks = {k: m.unpack() for k, m in plane.masks.items()}
        return plane.step and replace(plane.step, masks=masks), plane.state
