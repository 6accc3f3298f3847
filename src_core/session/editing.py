"""Edits: changes of objects that are entered in one order into the objects, the history and the journal."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from psygnal import Signal

from src_core.errors import SessionError
from src_core.history import Edit, History, Landing, Patch
from src_core.session.as_json import blank, to_json
from src_core.session.entries import counting_entry, edit_entry, end_entry, failed_entry, set_entry
from src_core.session.journal import Journal
from src_core.session.review import ReviewQueue
from src_core.session.state import Key, ObjectState, StateChange
from src_core.session.table import Table

Settings = Sequence[tuple[Key, Any]]
"""Keys and their new values as JSON."""


class Editing:
    """Objects, history and journal, and how they are changed.

    Attributes
    ----------
    journal
        Where everything is written down; None if nothing is.
    read_only
        Why nothing may be changed; empty if everything may.
    problem
        Why nothing is written down although it should be; None if all is well.
    """

    objects_changed = Signal()
    history_changed = Signal()
    troubled = Signal(SessionError)
    """What is done cannot be written down; told once, from any thread."""

    def __init__(self, largest_id: int) -> None:
        self.journal: Journal | None = None
        self.read_only = ""
        self.problem: SessionError | None = None
        self._largest_id = largest_id
        self._history = History()
        self._table = Table()
        self._count = 0
        self._clock = 0
        self._latest: Edit | None = None
        self._running: list[Edit] = []
        self._ended: list[Edit] = []
        self._landing: Landing | None = None
        # Writing may take as long as the disk does; what the window asks for must not wait for it.
        self._book = threading.RLock()
        # Held while a plane is written. Whoever needs both takes this one first.
        self._lock = threading.RLock()

    @property
    def objects(self) -> dict[int, ObjectState]:
        """The objects by id."""
        return self._table.objects

    @property
    def current(self) -> int:
        """The id of the object being worked on."""
        return self._table.current

    @property
    def review(self) -> ReviewQueue:
        """What propagation filled and nobody has looked at yet."""
        return self._table.review

    @contextmanager
    def edit(self, name: str, about: Mapping[str, Any] | None = None) -> Iterator[Edit]:
        """Collect the changes made inside as one entry of the history; kept also if the work fails half-way.

        Parameters
        ----------
        name
            What the user calls it.
        about
            What else the journal shall say of it, as JSON.
        """
        self.check_writable()
        with self._book:
            self._count += 1
            edit = Edit(name, number=self._count, about=dict(about or {}))
            self._running.append(edit)
        try:
            yield edit
        finally:
            with self._book:
                self._running.remove(edit)
                if edit.patches or edit.counted:
                    self._ended.append(edit)
                elif edit.entered:
                    self._log(end_entry(edit))
            self._catch_up()
            self.history_changed.emit()

    @property
    def undo_name(self) -> str | None:
        """What would be undone."""
        landing = self._landing
        return landing.edit.name if landing and not landing.forward else self._history.undo_name

    @property
    def redo_name(self) -> str | None:
        """What would be done again."""
        landing = self._landing
        return landing.edit.name if landing and landing.forward else self._history.redo_name

    def check_writable(self) -> None:
        """Raise `SessionError` if nothing may be changed here."""
        if self.read_only:
            raise SessionError(self.read_only)

    def flush(self) -> None:
        """Wait until all of the journal is in the file's hands: from then on, killing the process loses nothing."""
        if self.journal is not None:
            self.journal.flush()

    def _log(self, entry: dict[str, Any]) -> None:
        if self.journal is not None:
            self.journal.append(entry)

    def _set(self, name: str, settings: Settings, *, allowed: bool = False) -> None:
        """Change objects outside of the history; `allowed` changes are only not written down if read-only."""
        if not allowed:
            self.check_writable()
        with self._book:
            changes = [self._table.change(key, value) for key, value in settings]
            self._log(set_entry(name, changes))

    def _start(self, ids: Iterable[int]) -> None:
        fresh = [(("object", i), blank(i)) for i in ids if i not in self.objects]
        if fresh:
            self._set("new object", fresh)

    def enter(
        self, edit: Edit, patches: list[Patch], settings: Settings, started: Iterable[int] = ()
    ) -> None:
        """Make changes as part of an edit, which has `started` objects that are there already.

        The labels follow, or have been changed already. Where another edit has come in between, this one is parted:
        what it did before is undone after that one, and what it does from now on before.
        """
        with self._book:
            if not edit.since or self._latest is edit:
                self._enter_next(edit, patches, settings, started)
                return
        with self._lock, self._book:
            if edit.since and self._latest is not edit:
                self._part(edit)
                self._push_ended()
            self._enter_next(edit, patches, settings, started)

    def _enter_next(
        self, edit: Edit, patches: list[Patch], settings: Settings, started: Iterable[int] = ()
    ) -> None:
        self._clock += 1
        edit.since, self._latest = edit.since or self._clock, edit
        self._enter(edit, patches, settings, started)

    def _enter(
        self, edit: Edit, patches: list[Patch], settings: Settings, started: Iterable[int] = ()
    ) -> None:
        with self._book:
            # The user may have drawn something for one since.
            fresh = [o for i in started if (o := self.objects.get(i)) and o.bare]
            changes = [StateChange(("object", o.id), None, to_json(o)) for o in fresh]
            changes += [self._table.change(key, value) for key, value in settings]
            edit.patches += patches
            edit.changes += changes
            edit.counts |= edit.parted  # its beginning is in the history, so must the rest be
            self._log(edit_entry(edit, patches, changes))
            edit.entered, edit.counted = (len(patches), len(changes), edit.counted), edit.counts

    def _begun(self, ids: Collection[int]) -> bool:
        """Say whether an edit that goes on has started one of these objects."""
        changes = (c for e in self._running for c in e.changes if c.before is None)
        return any(c.key[0] == "object" and c.key[1] in ids for c in changes)

    def _part(self, edit: Edit) -> None:
        """End what an edit has done so far; it goes on as another one of the same name."""
        part = replace(edit, rest=edit)
        self._ended.append(part)
        self._log(counting_entry(part))
        self._count += 1
        edit.number, edit.patches, edit.changes = self._count, [], []
        edit.counts = edit.counted = False
        edit.entered, edit.since, edit.parted = None, 0, True

    def _catch_up(self) -> None:
        """Put what has ended into the history, unless a plane is being written: then whoever writes it does it."""
        with self._book:
            if not self._overtaken():
                self._push_ended()
                return
        if self._lock.acquire(blocking=False):
            try:
                with self._book:
                    self._push_ended()
            finally:
                self._lock.release()

    def _overtaken(self) -> list[Edit]:
        """Return the edits that go on and did something before the latest of those that have ended began."""
        last = max((e.since for e in self._ended), default=0)
        return [e for e in self._running if 0 < e.since < last]

    def _push_ended(self) -> None:
        """Put what has ended into the history, and before it what edits that go on did before; none is half written."""
        for edit in self._overtaken():
            self._part(edit)
        for edit in sorted(self._ended, key=lambda e: e.since):
            self._history.push(edit)
            self._log(end_entry(edit))
        self._ended.clear()

    def _part_all(self) -> None:
        """Put everything that has been done into the history, whatever goes on."""
        for edit in [e for e in self._running if e.since]:
            self._part(edit)
        self._push_ended()

    def _take_back(self, edit: Edit) -> None:
        """Undo the latest `enter` of an edit: the labels could not be written."""
        if edit.entered is None:
            return
        with self._book:
            patches, changes, counted = edit.entered
            self._put_back(edit.changes[len(edit.changes) - changes :])
            del edit.patches[len(edit.patches) - patches :], edit.changes[len(edit.changes) - changes :]
            edit.counts = edit.counted = counted
            self._log(failed_entry(edit))

    def _put_back(self, changes: Sequence[StateChange]) -> None:
        for change in reversed(changes):
            self._table.put(change.key, change.before)
