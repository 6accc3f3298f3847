"""How a session changes labels: the journal has it before they have, and whoever looks hears of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from psygnal import Signal

from src_core.errors import SessionError, VolumeError
from src_core.history import Edit, Landing, Patch
from src_core.labels import Change, LabelVolume
from src_core.labels.census import Census
from src_core.masks import Mask
from src_core.session.book import largest_id
from src_core.session.editing import Settings
from src_core.session.entries import replay_entry, replayed_entry
from src_core.session.objects import Objects
from src_core.session.patching import apply_patch, replay_changes
from src_core.types import PlaneRef
from src_core.volumes import Volume


class Meanwhile(Exception):
    """The user has made an anchor of what was about to be written."""


class Writing(Objects):
    """Objects on one volume and the labels they are in; every change of these goes through `_commit`."""

    labels_changed = Signal(PlaneRef, object)
    """(plane, box_yxyx or None for the whole plane)"""

    def __init__(self, volume: Volume, labels: LabelVolume) -> None:
        super().__init__(largest_id(labels.dtype))
        self.volume, self.labels, self.census = volume, labels, Census(labels)
        self.allow_overwrite = False
        self._strokes = 0

    def protected(self, writing: set[int]) -> set[int]:
        """Return the ids that writing the objects `writing` must not touch.

        That is every other object, or only the finished ones where the user allows overwriting.
        """
        objects = list(self.objects.items())  # the window may start another one meanwhile
        return {i for i, o in objects if i not in writing and (o.done or not self.allow_overwrite)}

    def mask(self, plane: PlaneRef, identity: int) -> Mask:
        """Return the (H, W) bool mask of an object on a plane."""
        return np.asarray(self.labels.read_plane(plane.axis, plane.index, plane.t) == identity)

    def planes_with(self, identity: int) -> list[PlaneRef]:
        """Return the planes along the first spatial axis that hold an object, reading chunk by chunk."""
        box = self.labels.bounding_box(identity)
        if box is None:
            return []
        span = {a: range(lo, hi) for a, lo, hi in zip(self.labels.axes, *box, strict=True)}
        axis = "z" if "z" in span else None
        times = span.get("t", range(1))
        return [PlaneRef(axis, i, t) for t in times for i in (span["z"] if axis else range(1))]

    def _write(
        self,
        edit: Edit,
        plane: PlaneRef,
        masks: dict[int, Mask],
        settings: Settings = (),
        started: Iterable[int] = (),
        *,
        found: bool = False,
    ) -> None:
        """Write masks and make the changes that go with them; see `_commit`.

        What was `found` without the user gives way: it raises `Meanwhile` if one of the objects is not open any more.
        """

        def still() -> bool:
            return not found or all(self._open(k, plane) for k in masks)

        with self._lock:
            write = partial(
                self.labels.write_plane,
                plane.axis,
                plane.index,
                masks,
                t=plane.t,
                protect=self.protected(set(masks)),
            )
            self._commit(edit, plane, write, settings, started, still)

    def _commit(
        self,
        edit: Edit,
        plane: PlaneRef,
        write: Callable[..., Change],
        settings: Settings = (),
        started: Iterable[int] = (),
        still: Callable[[], bool] = lambda: True,
    ) -> None:
        """Call `write(announce=...)`, which changes a plane: the journal has it before the labels.

        Raises `Meanwhile` if it may not be written any more once it is known what changes: `still()` is false.
        """
        entered = False

        def enter(patches: list[Patch]) -> None:
            with self._book:
                if not still():
                    raise Meanwhile
                self.enter(edit, patches, settings, started)

        def first(change: Change) -> None:
            nonlocal entered
            if change.box_yxyx is not None and change.before is not None and change.after is not None:
                patch = Patch.of(plane, change.box_yxyx, change.before, change.after)
                enter([patch])
                entered = True
                self.flush()

        self.check_writable()  # a propagation may still run while the session is closed
        with self._lock:
            self._land()
            try:
                change = write(announce=first)
            except BaseException:
                if entered:
                    self._take_back(edit)
                raise
            if change.box_yxyx is None:
                if settings:
                    enter([])
                return
        self.census.changed(plane, change.box_yxyx)
        self.labels_changed.emit(plane, change.box_yxyx)

    def _land(self) -> Landing | None:
        """Write what the labels have not got yet of an undo or redo, and return it; None if there is nothing.

        Raises
        ------
        SessionError
            The disk refuses. What is left stays so: nothing else is written before it. If the journal does not
            know of it, so that nobody could end it later, it is taken back.
        VolumeError
            The labels are damaged. What is left is given up: it would fail again.
        """
        landing = self._landing
        if landing is None:
            return None
        landing.stopped = False
        try:
            while landing.left:
                self._put(landing.left[0], forward=landing.forward)
                del landing.left[0]
        except SessionError as error:
            landing.stopped = True
            if not landing.known and self._turn_back(landing):
                raise SessionError(
                    f"there was no {landing.what} of “{landing.edit.name}”: {error}"
                ) from error
            raise SessionError(
                f"the {landing.what} of “{landing.edit.name}” is only half done: {error}. Then {landing.what} "
                "once more: it goes on where it has stopped"
            ) from error
        except VolumeError:
            self._landed()
            raise
        self._landed()
        self._log(replayed_entry(landing.edit, forward=landing.forward))
        (landing.edit.redo if landing.forward else landing.edit.undo)()
        return landing

    def _landed(self) -> None:
        self._landing = None
        if self.journal is not None:
            self.journal.await_labels(False)

    def _turn_back(self, landing: Landing) -> bool:
        """Take back what the labels have got of an undo or redo, and then all of it; say whether that was possible."""
        edit, back = landing.edit, not landing.forward
        with self._book:  # or something could be done that the history then has after it
            if (self._history.last if landing.forward else self._history.next) is not edit:
                return False
            try:
                for patch in reversed(landing.begun):
                    self._put(patch, forward=back)
            except (SessionError, VolumeError):
                return False
            (self._history.step_forward if back else self._history.step_back)()
            self._log(replay_entry(edit, forward=back))
            replay_changes(self._table, edit, forward=back)
            self._log(replayed_entry(edit, forward=back))
            self._landed()
        return True

    def _put(self, patch: Patch, *, forward: bool) -> None:
        """Apply a patch, and say so even if it fails: some of it may have been written."""
        try:
            apply_patch(self.labels, patch, forward=forward)
        finally:
            self.census.changed(patch.plane, patch.box_yxyx)
            self.labels_changed.emit(patch.plane, patch.box_yxyx)

    def _clear(
        self,
        edit: Edit,
        plane: PlaneRef,
        identity: int,
        settings: Settings = (),
        *,
        found: bool = False,
    ) -> None:
        nothing = np.zeros(self.volume.plane_shape(plane.axis), np.bool_)
        self._write(edit, plane, {identity: nothing}, settings, found=found)

    def _open(self, identity: int, plane: PlaneRef) -> bool:
        """Say whether propagation may change an object on a plane."""
        state = self._object(identity)
        return not state.done and plane not in state.anchors
