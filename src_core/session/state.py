"""What is known of objects, and every change of it as data: what was there before, and what is there now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from src_core.session.review import ReviewQueue
from src_core.types import PlaneRef

Key = tuple[Any, ...]
"""What changes: ("current",), ("waiting",), ("object", id), ("name", id), ("done", id), ("found", id), ("prompts", id),
("settled", id, axis, t),
or ("anchor", id, axis, index, t), ("score", id, axis, index, t) and ("end", id, axis, index, t)."""

WAITING: Key = ("waiting",)


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


class Table:
    """All objects, the current one, the candidates that wait to be accepted, and what remains to be looked at."""

    def __init__(self) -> None:
        self.objects: dict[int, ObjectState] = {}
        self.current = 0
        self.waiting: dict[str, Any] | None = None
        self.review = ReviewQueue()

    def change(self, key: Key, value: Any) -> StateChange:
        """Set a value and return what that changed."""
        before = self.get(key)
        self.put(key, value)
        return StateChange(key, before, value)

    def get(self, key: Key) -> Any:
        """Return a value as JSON, None where there is none."""
        if key == ("current",):
            return self.current
        if key == WAITING:
            return self.waiting
        kind, identity, *where = key
        state = self.objects.get(identity)
        if state is None:
            return None
        match kind:
            case "object":
                return to_json(state)
            case "name" | "done" | "found":
                return getattr(state, kind)
            case "anchor":
                return PlaneRef(*where) in state.anchors or None
            case "score":
                return state.scores.get(PlaneRef(*where))
            case "end":
                return state.ends.get(PlaneRef(*where))
            case "settled":
                return _settled_json(state.settled.get((where[0], where[1])))
            case "prompts":
                return prompts_json(state.prompts)
        raise KeyError(f"a session knows nothing of {kind!r}")

    def put(self, key: Key, value: Any) -> None:
        """Set a value given as JSON; of an object that has been deleted meanwhile, nothing is kept."""
        if key == ("current",):
            self.current = value
            return
        if key == WAITING:
            self.waiting = value
            return
        kind, identity, *where = key
        if kind == "object":
            if value is None:
                self.objects.pop(identity, None)
            else:
                self.objects[identity] = from_json(identity, value)
            self._queue(identity)
            return
        state = self.objects.get(identity)
        if state is None:
            return
        _put(state, kind, where, value)
        if kind == "done":
            self._queue(identity)
        elif kind in ("score", "end") and not state.done:
            plane = PlaneRef(*where)
            self.review.put(identity, plane, state.unsure.get(plane))

    def _queue(self, identity: int) -> None:
        """Review what an object has now; nothing of one that is finished or gone."""
        state = self.objects.get(identity)
        self.review.replace(identity, {} if state is None or state.done else state.unsure)


def _put(state: ObjectState, kind: str, where: list[Any], value: Any) -> None:
    match kind:
        case "name" | "done" | "found":
            setattr(state, kind, value)
        case "anchor":
            (state.anchors.add if value else state.anchors.discard)(PlaneRef(*where))
        case "score":
            _put_or_drop(state.scores, PlaneRef(*where), value)
        case "end":
            _put_or_drop(state.ends, PlaneRef(*where), value)
        case "settled":
            _put_or_drop(state.settled, (where[0], where[1]), _settled(value))
        case "prompts":
            state.prompts = _prompts(value)
        case _:
            raise KeyError(f"a session knows nothing of {kind!r}")


def _put_or_drop(values: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value


def to_json(state: ObjectState) -> dict[str, Any]:
    """Return an object as JSON; anchors, scores and ends are sorted."""
    return {
        "name": state.name,
        "done": state.done,
        "anchors": sorted(_plane_json(p) for p in state.anchors),
        "scores": _planes_json(state.scores),
        "ends": _planes_json(state.ends),
        "settled": [[axis, t, _settled_json(s)] for (axis, t), s in sorted(state.settled.items())],
        "prompts": prompts_json(state.prompts),
        "found": state.found,
    }


def from_json(identity: int, value: dict[str, Any]) -> ObjectState:
    """Return the object that `to_json` wrote."""
    return ObjectState(
        identity,
        value["name"],
        value["done"],
        {_plane(*p) for p in value["anchors"]},
        {_plane(*p): s for *p, s in value["scores"]},
        {_plane(*p): s for *p, s in value.get("ends", ())},
        {(axis, t): s for axis, t, v in value["settled"] if (s := _settled(v)) is not None},
        _prompts(value["prompts"]),
        value.get("found", False),
    )


def _planes_json(values: dict[PlaneRef, float]) -> list[list[Any]]:
    return sorted([*_plane_json(plane), value] for plane, value in values.items())


def _plane_json(plane: PlaneRef) -> list[Any]:
    return [plane.axis or "", plane.index, plane.t]


def _plane(axis: str, index: int, t: int) -> PlaneRef:
    return PlaneRef(axis or None, index, t)


def settled_json(settled: Settled) -> dict[str, Any]:
    """Return what a propagation started from as JSON."""
    return {"span": list(settled.span), "anchors": [[i, d] for i, d in sorted(settled.anchors.items())]}


def _settled_json(settled: Settled | None) -> dict[str, Any] | None:
    return None if settled is None else settled_json(settled)


def _settled(value: dict[str, Any] | None) -> Settled | None:
    if value is None:
        return None
    low, high = value["span"]
    return Settled((low, high), {int(i): int(d) for i, d in value["anchors"]})


def prompts_json(prompts: DrawnPrompts) -> dict[str, Any] | None:
    """Return what was drawn as JSON, None for nothing."""
    if not prompts:
        return None
    return {
        "points": [list(p) for p in prompts.points],
        "labels": list(prompts.labels),
        "shapes": [[kind, [list(v) for v in corners]] for kind, corners in prompts.shapes],
    }


def _prompts(value: dict[str, Any] | None) -> DrawnPrompts:
    if value is None:
        return DrawnPrompts()
    shapes = tuple((kind, tuple(tuple(v) for v in corners)) for kind, corners in value["shapes"])
    return DrawnPrompts(tuple(tuple(p) for p in value["points"]), tuple(value["labels"]), shapes)
