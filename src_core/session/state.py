"""What is known of objects, and every change of it as data: what was there before, and what is there now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from src_core.types import PlaneRef

Key = tuple[Any, ...]
"""What changes: ("current",), ("waiting",), ("object", id), ("name", id), ("done", id), ("found", id), ("prompts", id),
("settled", id, axis, t),
or ("anchor", id, axis, index, t), ("score", id, axis, index, t) and ("end", id, axis, index, t)."""

WAITING: Key = ("waiting",)
WHOLE = ("current", "waiting", "object")
"""What the keys begin with that are of no part of an object."""


@dataclass(frozen=True)
class Settled:
    """What the latest propagation of an object started from: its range and a digest of every anchor."""

    span: tuple[int, int]
    anchors: dict[int, int]


@dataclass(frozen=True)
class DrawnPrompts:
    """What the user drew for one object, in pixels of the volume.

    Attributes
    ----------
    points
        (N, D) positions; D is the number of dimensions the user sees.
    labels
        (N,) 1 for inside, 0 for outside.
    shapes
        Kind ("rectangle", "polygon", "path" ...) and (M, D) corners of each.
    """

    points: tuple[tuple[float, ...], ...] = ()
    labels: tuple[int, ...] = ()
    shapes: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.points or self.shapes)


@dataclass
class ObjectState:
    """One instance.

    Attributes
    ----------
    id
        Its value in the label volume.
    name
        What the user calls it.
    done
        A finished object is locked: nothing writes over it.
    anchors
        Planes whose mask the user made or confirmed; propagation never overwrites them.
    scores
        Confidence, 0 to 1, of every plane that propagation filled.
    ends
        How sure it is, 0 to 1, that the object is not on the planes on which propagation ended.
    settled
        By (axis, t), what the latest complete propagation started from.
    prompts
        What the user drew.
    found
        Whether it was in the labels before the session began.
    """

    id: int
    name: str = ""
    done: bool = False
    anchors: set[PlaneRef] = field(default_factory=set)
    scores: dict[PlaneRef, float] = field(default_factory=dict)
    ends: dict[PlaneRef, float] = field(default_factory=dict)
    settled: dict[tuple[str, int], Settled] = field(default_factory=dict)
    prompts: DrawnPrompts = field(default_factory=DrawnPrompts)
    found: bool = False

    @property
    def empty(self) -> bool:
        """Whether it has no mask anywhere yet."""
        return not (self.anchors or self.scores or self.found)

    @property
    def unsure(self) -> dict[PlaneRef, float]:
        """What propagation says of planes, filled or ended, for a human to look at."""
        return self.scores | self.ends

    @property
    def bare(self) -> bool:
        """Whether the user has done nothing for it yet."""
        return self.empty and not (self.name or self.done or self.prompts)


@dataclass(frozen=True)
class StateChange:
    """One value as JSON, before and after; None where there is none."""

    key: Key
    before: Any
    after: Any


def plane_key(kind: str, identity: int, plane: PlaneRef) -> Key:
    """Return the key of an anchor, a score or an end."""
    return (kind, identity, plane.axis, plane.index, plane.t)


def anchored_settings(state: ObjectState, plane: PlaneRef) -> list[tuple[Key, Any]]:
    """Return the changes that make a plane an anchor of an object, which needs no score."""
    return [
        (plane_key("anchor", state.id, plane), True),
        (plane_key("score", state.id, plane), None),
        *_without(state.ends, "end", state, plane),
    ]


def found_settings(state: ObjectState, plane: PlaneRef, score: float) -> list[tuple[Key, Any]]:
    """Return the changes that go with a mask that propagation found on a plane."""
    return [(plane_key("score", state.id, plane), score), *_without(state.ends, "end", state, plane)]


def ended_settings(state: ObjectState, plane: PlaneRef, score: float) -> list[tuple[Key, Any]]:
    """Return the changes that go with a plane on which an object ended."""
    return [(plane_key("end", state.id, plane), score), *_without(state.scores, "score", state, plane)]


def left_settings(state: ObjectState, plane: PlaneRef) -> list[tuple[Key, Any]]:
    """Return the changes that go with a plane that propagation no longer says anything about."""
    return [
        *_without(state.scores, "score", state, plane),
        *_without(state.ends, "end", state, plane),
    ]


def _without(
    values: dict[PlaneRef, float], kind: str, state: ObjectState, plane: PlaneRef
) -> list[tuple[Key, Any]]:
    return [(plane_key(kind, state.id, plane), None)] if plane in values else []
