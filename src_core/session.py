"""What the user is doing: objects, their anchors and the label volume, with one history.

No Qt and no napari here. Every change of labels goes through a session, may come from any thread, and is
announced by signals (psygnal) on that thread.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from src_core.errors import SessionError
from src_core.history import BoxYX, Edit, History, Patch
from src_core.labels import LabelVolume
from src_core.masks import Mask
from src_core.types import PlaneRef
from src_core.volumes import Volume


@dataclass(frozen=True)
class Settled:
    """What the latest propagation of an object started from: its range and a digest of every anchor."""

    span: tuple[int, int]
    anchors: dict[int, int]


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
    settled
        By (axis, t), what the latest complete propagation started from.
    found
        Whether it was in the labels before the session began.
    """

    id: int
    name: str = ""
    done: bool = False
    anchors: set[PlaneRef] = field(default_factory=set)
    scores: dict[PlaneRef, float] = field(default_factory=dict)
    settled: dict[tuple[str, int], Settled] = field(default_factory=dict)
    found: bool = False

    @property
    def empty(self) -> bool:
        """Whether it has no mask anywhere yet."""
        return not (self.anchors or self.scores or self.found)


class Session:
    """Objects on one volume and the labels they are written to.

    Parameters
    ----------
    volume
        The image.
    labels
        Where the masks go.
    ids
        The objects already in `labels`. By default they are looked for, which reads every chunk; pass () to
        begin at once and `adopt` them later.
    """

    labels_changed = Signal(PlaneRef, object)
    """(plane, box_yxyx or None for the whole plane)"""
    objects_changed = Signal()
    history_changed = Signal()

    def __init__(self, volume: Volume, labels: LabelVolume, ids: Iterable[int] | None = None) -> None:
        self.volume, self.labels = volume, labels
        self.allow_overwrite = False
        self._history = History()
        # Writing may take as long as the disk does; what the window asks for must not wait for it.
        self._lock, self._book = threading.RLock(), threading.RLock()
        known = labels.object_ids() if ids is None else ids
        self.objects: dict[int, ObjectState] = {i: ObjectState(i, found=True) for i in known}
        self.current = max(self.objects, default=0)
        if not self.objects:
            self.new_object()

    # ---------------------------------------------------------------- objects

    def new_object(self) -> ObjectState:
        """Start the next object and make it the current one.

        Raises
        ------
        SessionError
            The label volume's dtype has no id left.
        """
        with self._book:
            identity = max(self.objects, default=0) + 1
            if identity > np.iinfo(self.labels.dtype).max:
                raise SessionError(f"labels of type {self.labels.dtype} cannot hold object {identity}")
            self.objects[identity] = ObjectState(identity)
            self.current = identity
        self.objects_changed.emit()
        return self.objects[identity]

    def add_objects(
        self, numbers: Iterable[int | None], *, replace_current: bool = False
    ) -> list[ObjectState]:
        """Start many objects at once, each under its number if that is free, else under the next free one.

        Parameters
        ----------
        numbers
            A wish, or None. Wishes in the upper half of what the labels can hold are not granted, or no number
            would be left above them.
        replace_current
            Give the current object, which must be empty, to the new ones; the next object becomes the current
            one.

        Raises
        ------
        SessionError
            The label volume's dtype has no ids left; nothing has been started.
        """
        wishes, limit = list(numbers), int(np.iinfo(self.labels.dtype).max)
        with self._book:
            known = {k: o for k, o in self.objects.items() if not (replace_current and k == self.current)}
            taken: set[int] = set(known)
            granted: list[int | None] = []
            for wish in wishes:
                if wish is None or not 1 <= wish <= limit // 2 or wish in taken:
                    granted.append(None)
                else:
                    granted.append(wish)
                    taken.add(wish)
            above = itertools.count(max(taken, default=0) + 1)
            ids = [next(above) if k is None else k for k in granted]
            following = next(above)
            if following + replace_current - 1 > limit:
                raise SessionError(
                    f"labels of type {self.labels.dtype} cannot hold {len(wishes)} more objects; {len(known)} "
                    "are there already"
                )
            made = [ObjectState(k) for k in ids]
            self.objects = known | {state.id: state for state in made}
            if replace_current:
                self.current = following
                self.objects[following] = ObjectState(following)
        self.objects_changed.emit()
        return made

    def adopt(self, ids: Iterable[int]) -> None:
        """Take over objects that are in the labels already; the latest becomes the current one."""
        with self._book:
            for identity in ids:
                self.objects.setdefault(identity, ObjectState(identity)).found = True
            self.current = max(self.objects)
        self.objects_changed.emit()

    def select(self, identity: int) -> None:
        """Make an object the current one; one that is not known yet is started."""
        if identity < 1 or identity > np.iinfo(self.labels.dtype).max:
            raise SessionError(f"object {identity} does not fit labels of type {self.labels.dtype}")
        with self._book:
            self.objects.setdefault(identity, ObjectState(identity))
            self.current = identity
        self.objects_changed.emit()

    def set_done(self, identity: int, done: bool = True) -> None:
        """Lock a finished object, or open it again."""
        self._object(identity).done = done
        self.objects_changed.emit()

    def rename(self, identity: int, name: str) -> None:
        """Give an object a name or class."""
        self._object(identity).name = name
        self.objects_changed.emit()

    def delete(self, identity: int) -> None:
        """Erase an object from every plane and forget it; can be undone.

        Raises
        ------
        SessionError
            The object is finished, or the disk is full.
        """
        state = self._object(identity)
        if state.done:
            raise SessionError(f"object {identity} is finished; reopen it to delete it")
        with self.edit(f"delete object {identity}") as edit:
            for plane in self._planes_with(identity):
                self._clear(edit, plane, identity)
            self.withdraw([state], [])
            edit.counts = True
            edit.undo, edit.redo = lambda: self._remember(state), lambda: self.withdraw([state], [])

    def unfinished(self) -> list[int]:
        """Return the ids of objects to propagate: not finished, and with a mask where any has one."""
        open_objects = [o for o in list(self.objects.values()) if not o.done]
        return [o.id for o in open_objects if not o.empty] or [o.id for o in open_objects]

    def protected(self, writing: set[int]) -> set[int]:
        """Return the ids that writing the objects `writing` must not touch.

        That is every other object, or only the finished ones where the user allows overwriting.
        """
        objects = list(self.objects.items())  # the window may start another one meanwhile
        return {i for i, o in objects if i not in writing and (o.done or not self.allow_overwrite)}

    # ----------------------------------------------------------------- labels

    def accept(self, plane: PlaneRef, mask: Mask, identity: int | None = None) -> None:
        """Write the user's mask of an object (the current one by default); the plane becomes an anchor.

        Raises
        ------
        SessionError
            The object is finished, or the disk is full.
        VolumeError
            The mask does not fit the plane.
        """
        state = self._object(identity or self.current)
        if state.done:
            raise SessionError(f"object {state.id} is finished; reopen it to change it")
        # A propagation must not get in between the mask and its anchor.
        with self.edit(f"accept object {state.id}") as edit, self._lock:
            self._write(edit, plane, {state.id: mask})
            before = (plane in state.anchors, state.scores.get(plane))
            self._set_anchor(state, plane, True)
            edit.counts = not before[0]  # confirming what propagation found changes no label
            edit.undo = lambda: self._set_anchor(state, plane, *before)
            edit.redo = lambda: self._set_anchor(state, plane, True)

    def record(self, patches: list[tuple[PlaneRef, BoxYX, NDArray[np.uint32], NDArray[np.uint32]]]) -> None:
        """Take note of labels that somebody else wrote, a brush stroke in the viewer: (plane, box, before, after).

        The planes become anchors of the objects that were painted or erased.
        """
        packed = [Patch.of(*patch) for patch in patches]
        touched = {
            (int(i), plane) for plane, _, before, after in patches for i in _changed_ids(before, after) if i
        }
        for identity, _ in touched:
            self.objects.setdefault(identity, ObjectState(identity))
        states = {i: self.objects[i] for i, _ in touched}
        fresh = [(states[i], p, states[i].scores.get(p)) for i, p in touched if p not in states[i].anchors]

        def mark(value: bool) -> None:
            for state, plane, score in fresh:
                self._set_anchor(state, plane, value, score)

        with self.edit("paint") as edit:
            edit.patches += packed
            edit.undo, edit.redo = lambda: mark(False), lambda: mark(True)
            mark(True)

    def write_step(
        self, edit: Edit, plane: PlaneRef, masks: dict[int, Mask], scores: dict[int, float]
    ) -> None:
        """Write what propagation found on a plane, as part of `edit`; anchors are left alone."""
        with self._lock:  # or the user could make an anchor between the look and the writing
            open_masks = {k: m for k, m in masks.items() if self._open(k, plane)}
            if open_masks:
                self._write(edit, plane, open_masks)
                for k in open_masks:
                    self.objects[k].scores[plane] = scores[k]

    def write_drafts(self, edit: Edit, plane: PlaneRef, masks: dict[int, Mask]) -> None:
        """Write the first masks of new objects on a plane, as part of `edit`; it becomes an anchor of each."""
        with self._lock:
            self._write(edit, plane, masks)
            for k in masks:
                self.objects[k].anchors.add(plane)
        self.objects_changed.emit()

    def withdraw(self, states: list[ObjectState], anchored: list[tuple[ObjectState, PlaneRef]]) -> None:
        """Forget objects and their anchors; the labels are left to the history."""
        with self._book:
            for state, plane in anchored:
                state.anchors.discard(plane)
            for state in states:
                self.objects.pop(state.id, None)
            if self.current not in self.objects:
                self.current = max(self.objects, default=0)
        if not self.objects:
            self.new_object()
        self.objects_changed.emit()

    def reinstate(self, states: list[ObjectState], anchored: list[tuple[ObjectState, PlaneRef]]) -> None:
        """Take `withdraw` back."""
        with self._book:
            self.objects.update({state.id: state for state in states})
            for state, plane in anchored:
                state.anchors.add(plane)
        self.objects_changed.emit()

    def clear_step(self, edit: Edit, plane: PlaneRef, identity: int) -> None:
        """Remove what an earlier propagation left of an object on a plane, as part of `edit`."""
        with self._lock:
            if self._open(identity, plane):
                self._clear(edit, plane, identity)

    def mask(self, plane: PlaneRef, identity: int) -> Mask:
        """Return the (H, W) bool mask of an object on a plane."""
        return np.asarray(self.labels.read_plane(plane.axis, plane.index, plane.t) == identity)

    def anchors(self, identities: list[int], axis: str | None, t: int = 0) -> dict[int, dict[int, Mask]]:
        """Return the anchors of objects along one axis, as `propagate` wants them; empty masks are left out."""
        found: dict[int, dict[int, Mask]] = {}
        for identity in identities:
            for plane in sorted(list(self._object(identity).anchors), key=lambda p: p.index):
                if plane.axis == axis and plane.t == t and (mask := self.mask(plane, identity)).any():
                    found.setdefault(plane.index, {})[identity] = mask
        return found

    # ---------------------------------------------------------------- history

    @contextmanager
    def edit(self, name: str) -> Iterator[Edit]:
        """Collect the changes made inside as one entry of the history; kept also if the work fails half-way."""
        edit = Edit(name)
        try:
            yield edit
        finally:
            if edit.patches or edit.counts:
                with self._book:
                    self._history.push(edit)
            self.history_changed.emit()

    def note(self, name: str, undo: Callable[[], None], redo: Callable[[], None]) -> None:
        """Put something that changes no labels into the history, a drawn prompt for example."""
        with self._book:
            self._history.push(Edit(name, [], undo, redo))
        self.history_changed.emit()

    def undo(self) -> str | None:
        """Undo the latest edit and return its name; None if there is nothing to undo."""
        return self._replay(forward=False)

    def redo(self) -> str | None:
        """Do the latest undone edit again and return its name; None if there is none."""
        return self._replay(forward=True)

    @property
    def undo_name(self) -> str | None:
        """What would be undone."""
        return self._history.undo_name

    @property
    def redo_name(self) -> str | None:
        """What would be done again."""
        return self._history.redo_name

    def _replay(self, *, forward: bool) -> str | None:
        with self._lock:
            with self._book:
                edit = self._history.step_forward() if forward else self._history.step_back()
            if edit is None:
                return None
            for patch in edit.patches if forward else reversed(edit.patches):
                self._apply(patch, forward=forward)
            (edit.redo if forward else edit.undo)()
        for patch in edit.patches:
            self.labels_changed.emit(patch.plane, patch.box_yxyx)
        self.objects_changed.emit()
        self.history_changed.emit()
        return edit.name

    def _apply(self, patch: Patch, *, forward: bool) -> None:
        """Put a patch's pixels back, but only those that nobody has changed since."""
        plane, box = patch.plane, patch.box_yxyx
        old, new = patch.ids(after=not forward), patch.ids(after=forward)
        now = self.labels.read_box(plane.axis, plane.index, box, t=plane.t)
        ids = np.where((old != new) & (now == old), new, now)
        self.labels.write_box(plane.axis, plane.index, box, ids, t=plane.t)

    # ---------------------------------------------------------------- helpers

    def _object(self, identity: int) -> ObjectState:
        if identity not in self.objects:
            raise SessionError(f"there is no object {identity}; known are {sorted(self.objects)}")
        return self.objects[identity]

    def _open(self, identity: int, plane: PlaneRef) -> bool:
        """Say whether propagation may change an object on a plane."""
        state = self._object(identity)
        return not state.done and plane not in state.anchors

    def _write(self, edit: Edit, plane: PlaneRef, masks: dict[int, Mask]) -> None:
        with self._lock:
            change = self.labels.write_plane(
                plane.axis, plane.index, masks, t=plane.t, protect=self.protected(set(masks))
            )
            if change.box_yxyx is None or change.before is None or change.after is None:
                return
            edit.patches.append(Patch.of(plane, change.box_yxyx, change.before, change.after))
        self.labels_changed.emit(plane, change.box_yxyx)

    def _clear(self, edit: Edit, plane: PlaneRef, identity: int) -> None:
        shape = self.volume.plane_shape(plane.axis)
        self._write(edit, plane, {identity: np.zeros(shape, np.bool_)})

    def _set_anchor(
        self, state: ObjectState, plane: PlaneRef, value: bool, score: float | None = None
    ) -> None:
        if value:
            state.anchors.add(plane)
            state.scores.pop(plane, None)
        else:
            state.anchors.discard(plane)
            if score is not None:
                state.scores[plane] = score
        self.objects_changed.emit()

    def _remember(self, state: ObjectState) -> None:
        self.objects[state.id] = state
        self.current = state.id

    def _planes_with(self, identity: int) -> list[PlaneRef]:
        """Return the planes along the first spatial axis that hold an object, reading chunk by chunk."""
        box = self.labels.bounding_box(identity)
        if box is None:
            return []
        span = {a: range(lo, hi) for a, lo, hi in zip(self.labels.axes, *box, strict=True)}
        axis = "z" if "z" in span else None
        times = span.get("t", range(1))
        return [PlaneRef(axis, i, t) for t in times for i in (span["z"] if axis else range(1))]


def _changed_ids(before: NDArray[np.uint32], after: NDArray[np.uint32]) -> NDArray[np.uint32]:
    changed = before != after
    return np.union1d(before[changed], after[changed])
