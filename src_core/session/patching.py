"""Patches put into labels, and changes of objects done again or taken back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src_core.history import BoxYX, Edit, Patch
from src_core.labels import LabelVolume
from src_core.session.state import WHOLE, ObjectState
from src_core.session.table import Table
from src_core.types import PlaneRef

Stroke = tuple[PlaneRef, BoxYX, NDArray[np.uint32], NDArray[np.uint32]]
"""The (h, w) ids in a box of a plane before and after."""


def apply_patch(labels: LabelVolume, patch: Patch, *, forward: bool) -> None:
    """Put a patch's pixels into labels, but only those that nobody has changed since.

    Done twice, it does what it does once: a patch of which nobody knows whether it has reached the disk may
    be applied again.
    """
    plane, box = patch.plane, patch.box_yxyx
    old, new = patch.ids(after=not forward), patch.ids(after=forward)
    now = labels.read_box(plane.axis, plane.index, box, t=plane.t)
    ids = np.where((old != new) & (now == old), new, now)
    if not np.array_equal(ids, now):
        labels.write_box(plane.axis, plane.index, box, ids, t=plane.t)


def replay_changes(table: Table, edit: Edit, *, forward: bool) -> None:
    """Do what an edit changed of the objects again, or take it back.

    An object that was started outside of the history, and has gone with another one of its number, is started again.
    """
    for change in edit.changes if forward else reversed(edit.changes):
        value = change.after if forward else change.before
        if change.key[0] not in WHOLE and value is not None:
            table.objects.setdefault(change.key[1], ObjectState(change.key[1]))
        table.put(change.key, value)
    if table.current not in table.objects:  # there is always one to go on with
        table.current = max(table.objects, default=1)
        table.objects.setdefault(table.current, ObjectState(table.current))


def changed_ids(before: NDArray[np.uint32], after: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the ids that a change of labels took pixels from or gave pixels to, 0 included."""
    changed = before != after
    return np.union1d(before[changed], after[changed])


def painted_ids(strokes: Sequence[Stroke]) -> set[int]:
    """Return the ids that strokes took pixels from or gave pixels to, 0 included."""
    return {int(i) for _, _, before, after in strokes for i in changed_ids(before, after)}


def since_painted(
    labels: LabelVolume,
    plane: PlaneRef,
    box: BoxYX,
    before: NDArray[np.uint32],
    after: NDArray[np.uint32],
) -> NDArray[np.uint32]:
    """Return the (h, w) ids after a stroke, where another edit has changed them already, those of that edit.

    A stroke is painted from the press of the mouse button on, and told of when it is let go: meanwhile its object
    may have been merged with another one.
    """
    now = labels.read_box(plane.axis, plane.index, box, t=plane.t)
    return np.where((before != after) & (now != before), now, after)
