"""Objects, and parts of them, as JSON and back."""

from __future__ import annotations

from typing import Any

from src_core.session.state import DrawnPrompts, ObjectState, Settled
from src_core.types import PlaneRef


def to_json(state: ObjectState) -> dict[str, Any]:
    """Return an object as JSON; anchors, scores and ends are sorted."""
    return {
        "name": state.name,
        "done": state.done,
        "anchors": sorted(_plane_json(p) for p in state.anchors),
        "scores": _planes_json(state.scores),
        "ends": _planes_json(state.ends),
        "settled": [[axis, t, settled_or_none(s)] for (axis, t), s in sorted(state.settled.items())],
        "prompts": prompts_json(state.prompts),
        "found": state.found,
    }


def blank(identity: int) -> dict[str, Any]:
    """Return an object that has just been started as JSON."""
    return to_json(ObjectState(identity))


def from_json(identity: int, value: dict[str, Any]) -> ObjectState:
    """Return the object that `to_json` wrote."""
    return ObjectState(
        identity,
        value["name"],
        value["done"],
        {_plane(*p) for p in value["anchors"]},
        {_plane(*p): s for *p, s in value["scores"]},
        {_plane(*p): s for *p, s in value.get("ends", ())},
        {(axis, t): s for axis, t, v in value["settled"] if (s := settled_from(v)) is not None},
        prompts_from(value["prompts"]),
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


def settled_or_none(settled: Settled | None) -> dict[str, Any] | None:
    """Return `settled_json`, None for nothing."""
    return None if settled is None else settled_json(settled)


def settled_from(value: dict[str, Any] | None) -> Settled | None:
    """Undo `settled_or_none`."""
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


def prompts_from(value: dict[str, Any] | None) -> DrawnPrompts:
    """Undo `prompts_json`."""
    if value is None:
        return DrawnPrompts()
    shapes = tuple((kind, tuple(tuple(v) for v in corners)) for kind, corners in value["shapes"])
    return DrawnPrompts(tuple(tuple(p) for p in value["points"]), tuple(value["labels"]), shapes)
