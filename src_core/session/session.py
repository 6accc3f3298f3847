"""What the user is doing: objects, their anchors and the label volume, with one history.

No Qt and no napari here. Every change of labels goes through a session, may come from any thread, and is
announced by signals (psygnal) on that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.errors import SessionError
from src_core.history import Edit, Landing, Patch
from src_core.labels import LabelVolume
from src_core.masks import Mask
from src_core.session.as_json import settled_json
from src_core.session.editing import Settings
from src_core.session.entries import replay_entry
from src_core.session.patching import Stroke, changed_ids, painted_ids, replay_changes, since_painted
from src_core.session.state import Settled, anchored_settings, ended_settings, found_settings, left_settings
from src_core.session.writing import Meanwhile, Writing
from src_core.types import PlaneRef
from src_core.volumes import Volume


class Session(Writing):
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

    def __init__(self, volume: Volume, labels: LabelVolume, ids: Iterable[int] | None = None) -> None:
        super().__init__(volume, labels)
        known = list(labels.object_ids() if ids is None else ids)
        if known:
            self.adopt(known)
        else:
            self.new_object()

    def delete(self, identity: int) -> None:
        """Erase an object from every plane and forget it; can be undone.

        Raises
        ------
        SessionError
            The object is finished, or the disk is full.
        """
        self.unlocked(identity, "delete it")

        def clear() -> None:
            for plane in self.planes_with(identity):
                self._clear(edit, plane, identity)

        with self.edit(f"delete object {identity}") as edit:
            self.remove(edit, clear, lambda: self.without({identity}))

    def remove(self, edit: Edit, work: Callable[[], None], settings: Callable[[], Settings]) -> None:
        """Take objects away as part of `edit`: their pixels with `work()`, then themselves with `settings()`.

        The brush does not wait: what it has painted of them meanwhile goes with them.
        """
        edit.counts = True
        while True:
            strokes = self._strokes
            work()
            with self._lock, self._book:
                if self._strokes == strokes:
                    self.enter(edit, [], settings())
                    break
        self.objects_changed.emit()

    # ----------------------------------------------------------------- labels

    def accept(
        self,
        plane: PlaneRef,
        mask: Mask,
        identity: int | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the user's mask of an object (the current one by default); the plane becomes an anchor.

        Parameters
        ----------
        plane, mask, identity
            (H, W) bool, the mask of the object on the plane.
        about
            What the mask was made of, for the journal, as JSON.

        Raises
        ------
        SessionError
            The object is finished, the session is read-only, or the disk is full.
        VolumeError
            The mask does not fit the plane.
        """
        state = self.unlocked(identity or self.current, "change it")
        # A propagation must not get in between the mask and its anchor.
        with self.edit(f"accept object {state.id}", about) as edit, self._lock:
            edit.counts = plane not in state.anchors  # confirming what propagation found changes no label
            self._write(edit, plane, {state.id: mask}, anchored_settings(state, plane))
        self.objects_changed.emit()

    def record(self, patches: Sequence[Stroke]) -> None:
        """Take note of labels that somebody else wrote, a brush stroke in the viewer: (plane, box, before, after).

        The planes become anchors of the objects that were painted or erased.

        Raises
        ------
        SessionError
            The session is read-only, or an undo only half done: the stroke must be taken back.
        """
        if self._landing is not None and self._landing.stopped:
            raise SessionError(
                f"nothing is painted as long as the {self._landing.what} of “{self._landing.edit.name}” is only half "
                f"done: {self._landing.what} once more"
            )
        for plane, box, *_ in patches:
            self.census.changed(plane, box)
        with self.edit("paint") as edit, self._book:
            self._strokes += 1
            if len(self._running) > 1 or not painted_ids(patches) <= {0, *self.objects}:
                patches = [
                    (p, box, old, since_painted(self.labels, p, box, old, new))
                    for p, box, old, new in patches
                ]
            touched = {(int(i), p) for p, _, old, new in patches for i in changed_ids(old, new) if i}
            self._start(sorted({i for i, _ in touched}))
            fresh = [(i, p) for i, p in touched if p not in self.objects[i].anchors]
            settings = [c for i, p in fresh for c in anchored_settings(self.objects[i], p)]
            self.enter(edit, [Patch.of(*patch) for patch in patches], settings)
        self.objects_changed.emit()

    def write_step(
        self,
        edit: Edit,
        plane: PlaneRef,
        masks: dict[int, Mask],
        scores: dict[int, float],
        ends: Mapping[int, float] | None = None,
    ) -> None:
        """Write what was found on a plane without the user, as part of `edit`; anchors are left alone.

        Undoing `edit` forgets objects that had no mask before it, unless the user has chosen, named or prompted them.

        Parameters
        ----------
        masks, scores
            Object id -> its (H, W) bool mask and the confidence in it, 0 to 1.
        ends
            Object id -> how sure it is that the object is not on this plane, next to one where it is.
        """
        nothing = np.zeros(self.volume.plane_shape(plane.axis), np.bool_)
        while True:
            with self._lock:  # or the user could make an anchor between the look and the writing
                found = {k: m for k, m in masks.items() if self._open(k, plane)}
                ended = {k: c for k, c in (ends or {}).items() if self._open(k, plane)}
                if not (found or ended):
                    return
                edit.counts |= bool(ended)  # an end changes no label
                settings = [
                    c for k in found for c in found_settings(self.objects[k], plane, float(scores[k]))
                ]
                settings += [
                    c for k in ended for c in ended_settings(self.objects[k], plane, float(ended[k]))
                ]
                started = [k for k in found if self._unused(k)]
                writing = found | dict.fromkeys(ended, nothing)
                with suppress(Meanwhile):  # a brush stroke does not wait: look again
                    return self._write(edit, plane, writing, settings, started, found=True)

    def write_drafts(self, edit: Edit, plane: PlaneRef, masks: dict[int, Mask]) -> None:
        """Write masks of new objects on a plane; it becomes an anchor; what is one already is left alone.

        Undoing is as in `write_step`.
        """
        while True:
            with self._lock, suppress(Meanwhile):
                found = {k: m for k, m in masks.items() if self._open(k, plane)}
                started = [k for k in found if self._unused(k)]
                anchored = [c for k in found for c in anchored_settings(self.objects[k], plane)]
                if found:
                    self._write(edit, plane, found, anchored, started, found=True)
                break
        self.objects_changed.emit()

    def change_plane(
        self, edit: Edit, plane: PlaneRef, make: Callable[[NDArray[np.uint32]], NDArray[np.uint32]]
    ) -> None:
        """Replace the (H, W) ids of a plane by `make(ids)`, as part of `edit`; nothing is protected."""
        self._commit(edit, plane, partial(self.labels.change_plane, plane.axis, plane.index, make, t=plane.t))

    def clear_step(self, edit: Edit, plane: PlaneRef, identity: int) -> None:
        """Remove what an earlier propagation left of an object on a plane, as part of `edit`."""
        with self._lock, suppress(Meanwhile):
            if self._open(identity, plane):
                settings = left_settings(self.objects[identity], plane)
                self._clear(edit, plane, identity, settings, found=True)

    def settle(self, edit: Edit, identity: int, axis: str, t: int, settled: Settled) -> None:
        """Note what a complete propagation of an object started from, as part of `edit`.

        It is not complete if some of it has been undone meanwhile, or the object finished.
        """
        if edit.interrupted or self._object(identity).done:
            return
        self.enter(edit, [], [(("settled", identity, axis, t), settled_json(settled))])

    def anchors(self, identities: list[int], axis: str | None, t: int = 0) -> dict[int, dict[int, Mask]]:
        """Return the anchors of objects along one axis, as `propagate` wants them.

        An empty mask is one, too: the user has erased the object there, or found right that it is not there.
        """
        found: dict[int, dict[int, Mask]] = {}
        for identity in identities:
            for plane in sorted(list(self._object(identity).anchors), key=lambda p: p.index):
                if plane.axis == axis and plane.t == t:
                    found.setdefault(plane.index, {})[identity] = self.mask(plane, identity)
        return found

    # ---------------------------------------------------------------- history

    def undo(self) -> str | None:
        """Undo the latest edit and return its name; None if there is nothing to undo.

        Raises
        ------
        SessionError
            The session is read-only; or the disk is full: the next undo then goes on where this one has stopped, or
            if the journal could not be written either, nothing is undone.
        """
        return self._replay(forward=False)

    def redo(self) -> str | None:
        """Do the latest undone edit again and return its name; None if there is none; errors are those of `undo`."""
        return self._replay(forward=True)

    def _replay(self, *, forward: bool) -> str | None:
        self.check_writable()
        try:
            with self._lock:
                landed = self._land()
                if landed is None or landed.forward != forward:
                    self._step(forward=forward)
                    landed = self._land()
        finally:
            self.objects_changed.emit()
            self.history_changed.emit()
        return None if landed is None else landed.edit.name

    def _step(self, *, forward: bool) -> None:
        """Undo or redo an edit in the objects, the history and the journal; the labels are still to follow."""
        with self._book:
            self._part_all()
            edit = self._history.step_forward() if forward else self._history.step_back()
            if edit is None:
                return
            if edit.rest is not None and not forward:
                edit.rest.interrupted = True
            self._log(replay_entry(edit, forward=forward))
            replay_changes(self._table, edit, forward=forward)
            self._landing = landing = Landing.of(edit, forward=forward)
        self.flush()
        landing.known = self.journal is None or self.journal.await_labels(True)
