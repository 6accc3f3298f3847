"""All that is known of a session's objects, read and changed by key."""

from __future__ import annotations

from typing import Any

from src_core.session.as_json import (
    from_json,
    prompts_from,
    prompts_json,
    settled_from,
    settled_or_none,
    to_json,
)
from src_core.session.review import ReviewQueue
from src_core.session.state import WAITING, Key, ObjectState, StateChange
from src_core.types import PlaneRef


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
                return settled_or_none(state.settled.get((where[0], where[1])))
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
            _put_or_drop(state.settled, (where[0], where[1]), settled_from(value))
        case "prompts":
            state.prompts = prompts_from(value)
        case _:
            raise KeyError(f"a session knows nothing of {kind!r}")


def _put_or_drop(values: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
