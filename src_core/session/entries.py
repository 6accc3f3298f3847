"""The lines of a journal as dictionaries; docs/sessions.md describes them."""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from src_core.history import Edit, Patch
from src_core.session.state import StateChange
from src_core.types import PlaneRef

FORMAT, VERSION = "napari-sam session", 1
OPEN, CLOSE = "open", "close"
IMPORT, IMPORTED = "new objects", "forget"
"""Many objects are started; those that got no mask are forgotten."""


def stamped(entry: dict[str, Any]) -> dict[str, Any]:
    """Add the time in seconds since 1970."""
    return entry | {"at": round(time.time(), 3)}


def set_entry(name: str, changes: Sequence[StateChange]) -> dict[str, Any]:
    """Return the line of changes that are not undone: another current object, a name, a lock."""
    return stamped({"do": name, "set": _changes(changes)})


def edit_entry(edit: Edit, patches: Sequence[Patch], changes: Sequence[StateChange]) -> dict[str, Any]:
    """Return a line of an edit; the first one says what it is."""
    entry: dict[str, Any] = {"edit": edit.number}
    if edit.entered is None:
        entry |= {"do": edit.name} | ({"about": edit.about} if edit.about else {})
    if edit.counts:
        entry["counts"] = True
    if patches:
        entry["patches"] = [patch_json(p) for p in patches]
    if changes:
        entry["set"] = _changes(changes)
    return stamped(entry)


def end_entry(edit: Edit) -> dict[str, Any]:
    """Return the last line of an edit."""
    return {"edit": edit.number, "end": True}


def counting_entry(edit: Edit) -> dict[str, Any]:
    """Return the line that makes an edit worth undoing even if it changed no label."""
    return {"edit": edit.number, "counts": True}


def failed_entry(edit: Edit) -> dict[str, Any]:
    """Return the line that takes back the latest line of an edit."""
    return {"edit": edit.number, "failed": True}


def patch_json(patch: Patch) -> dict[str, Any]:
    """Return a patch as JSON; its ids are base64 of zlib of little-endian uint32, row by row."""
    before, after = (base64.b64encode(part).decode() for part in patch.packed)
    plane = patch.plane
    return {
        "plane": [plane.axis, plane.index, plane.t],
        "box": list(patch.box_yxyx),
        "before": before,
        "after": after,
    }


def patch_from(value: dict[str, Any]) -> Patch:
    """Return the patch that `patch_json` wrote."""
    y0, x0, y1, x1 = value["box"]
    packed = (base64.b64decode(value["before"]), base64.b64decode(value["after"]))
    return Patch(PlaneRef(*value["plane"]), (y0, x0, y1, x1), packed)


def changes_from(values: Sequence[Sequence[Any]]) -> list[StateChange]:
    """Return the changes in a line."""
    return [StateChange(tuple(key), before, after) for key, before, after in values]


def _changes(changes: Sequence[StateChange]) -> list[list[Any]]:
    return [[list(c.key), c.before, c.after] for c in changes]


def replay_entry(edit: Edit, *, forward: bool) -> dict[str, Any]:
    """Return the line of an undo, or of a redo."""
    return stamped({"redo" if forward else "undo": edit.number, "name": edit.name})


def replayed_entry(edit: Edit, *, forward: bool) -> dict[str, Any]:
    """Return the line that says that an undo, or a redo, has reached the labels."""
    return {"redo" if forward else "undo": edit.number, "end": True}


def open_entry(what: str) -> dict[str, Any]:
    """Return the line that a process writes when it opens a session, or closes it properly."""
    return stamped({"do": what, "pid": os.getpid(), "host": socket.gethostname(), "booted": booted()})


def booted() -> float:
    """Return about when this computer was started, in seconds since 1970."""
    return round(time.time() - time.monotonic())


def found_entry(patch: Patch) -> dict[str, Any]:
    """Return the line of labels that were there before the journal."""
    return {"do": "found", "patches": [patch_json(patch)]}
