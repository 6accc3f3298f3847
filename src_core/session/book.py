"""The book of a session: its objects, its history and its journal; nothing about pixels."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from psygnal import Signal

from src_core.errors import SessionError
from src_core.history import Edit, History, Patch
from src_core.session.as_json import prompts_json, to_json
from src_core.session.entries import CLOSE, edit_entry, end_entry, failed_entry, open_entry, set_entry
from src_core.session.journal import Journal
from src_core.session.review import ReviewQueue
from src_core.session.state import DrawnPrompts, Key, ObjectState, StateChange
from src_core.session.table import Table

Settings = Sequence[tuple[Key, Any]]
"""Keys and their new values as JSON."""


class Book:
    """Objects, history and journal.

    Every change is entered: it happens to the objects and is queued for the journal, in one order.

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
        # Writing may take as long as the disk does; what the window asks for must not wait for it.
        self._book = threading.RLock()

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

    # ---------------------------------------------------------------- objects

    def new_object(self) -> ObjectState:
        """Start the next object and make it the current one.

        Raises
        ------
        SessionError
            The label volume's dtype has no id left, or the session is read-only.
        """
        with self._book:
            identity = max(self.objects, default=0) + 1
            self.check_id(identity)
            self._set("new object", [(("object", identity), _fresh(identity)), (("current",), identity)])
        self.objects_changed.emit()
        return self.objects[identity]

    def check_id(self, identity: int) -> None:
        """Raise `SessionError` if the labels cannot hold such an id."""
        if not 1 <= identity <= self._largest_id:
            raise SessionError(f"labels with ids from 1 to {self._largest_id} cannot hold object {identity}")

    def select(self, identity: int) -> None:
        """Make an object the current one; one that is not known yet is started."""
        self.check_id(identity)
        with self._book:
            known = identity in self.objects
            fresh: list[tuple[Key, Any]] = [] if known else [(("object", identity), _fresh(identity))]
            self._set("select", [*fresh, (("current",), identity)], allowed=known)
        self.objects_changed.emit()

    def set_done(self, identity: int, done: bool = True) -> None:
        """Lock a finished object, or open it again."""
        self._object(identity)
        self._set("finish" if done else "reopen", [(("done", identity), done)])
        self.objects_changed.emit()

    def rename(self, identity: int, name: str) -> None:
        """Give an object a name or class."""
        self._object(identity)
        self._set("rename", [(("name", identity), name)])
        self.objects_changed.emit()

    # ---------------------------------------------------------------- history

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
        try:
            yield edit
        finally:
            with self._book:
                if edit.patches or edit.counts:
                    self._history.push(edit)
                if edit.entered:
                    self._log(end_entry(edit))
            self.history_changed.emit()

    def note(
        self,
        name: str,
        undo: Callable[[], None] = lambda: None,
        redo: Callable[[], None] = lambda: None,
        prompts: Mapping[int, DrawnPrompts] | None = None,
    ) -> None:
        """Put something that changes no labels into the history: what was drawn, above all.

        Parameters
        ----------
        name
            What the user calls it.
        undo, redo
            What has to happen besides, as long as this session stays open.
        prompts
            Object id -> all that is drawn for it now; unknown objects are started.
        """
        drawn = prompts or {}
        with self.edit(name) as edit:
            edit.counts, edit.undo, edit.redo = True, undo, redo
            with self._book:
                settings = [(("prompts", k), prompts_json(p)) for k, p in drawn.items()]
                self._start([k for k in drawn])
                self.enter(edit, [], settings)

    def remember(self, prompts: Mapping[int, DrawnPrompts]) -> None:
        """Take note of what is drawn for objects, outside of the history."""
        if prompts and not self.read_only:
            self._set("prompts", [(("prompts", k), prompts_json(p)) for k, p in prompts.items()])

    @property
    def undo_name(self) -> str | None:
        """What would be undone."""
        return self._history.undo_name

    @property
    def redo_name(self) -> str | None:
        """What would be done again."""
        return self._history.redo_name

    # ---------------------------------------------------------------- journal

    def check_writable(self) -> None:
        """Raise `SessionError` if nothing may be changed here."""
        if self.read_only:
            raise SessionError(self.read_only)

    def flush(self) -> None:
        """Wait until all of the journal is in the file's hands: from then on, killing the process loses nothing."""
        if self.journal is not None:
            self.journal.flush()

    def close(self) -> None:
        """Write the rest of the journal and let go of the session; another process may have it then."""
        journal, self.journal = self.journal, None
        if journal is not None:
            self.read_only = "this session has been closed; open it again to change it"
            journal.append(open_entry(CLOSE))
            journal.close()

    def snapshot(self) -> Settings:
        """Return all there is as changes to nothing: how a journal begins."""
        with self._book:
            known = [(("object", i), to_json(state)) for i, state in sorted(self.objects.items())]
            return [*known, (("current",), self.current)]

    def take_over(self, table: Table, history: History, last_edit: int) -> None:
        """Go on with what was read from a journal."""
        with self._book:
            self._table, self._history, self._count = table, history, last_edit
        self.objects_changed.emit()
        self.history_changed.emit()

    def forget_history(self) -> None:
        """Begin a new history."""
        self.take_over(self._table, History(), 0)

    def keep(self, journal: Journal) -> None:
        """Write everything down from now on; the journal is closed when nobody has the session any more."""
        self.journal = journal
        journal.troubled.connect(self._troubled)
        weakref.finalize(self, journal.close)

    def _troubled(self, problem: SessionError) -> None:
        self.problem = problem
        self.troubled.emit(problem)

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
        fresh = [(("object", i), _fresh(i)) for i in ids if i not in self.objects]
        if fresh:
            self._set("new object", fresh)

    def enter(
        self, edit: Edit, patches: list[Patch], settings: Settings, started: Iterable[int] = ()
    ) -> None:
        """Make changes as part of an edit, which has `started` objects that are there already.

        The labels follow, or have been changed already.
        """
        with self._book:
            changes = [StateChange(("object", i), None, to_json(self.objects[i])) for i in started]
            changes += [self._table.change(key, value) for key, value in settings]
            edit.patches += patches
            edit.changes += changes
            self._log(edit_entry(edit, patches, changes))
            edit.entered = (len(patches), len(changes))

    def _take_back(self, edit: Edit) -> None:
        """Undo the latest `enter` of an edit: the labels could not be written."""
        if edit.entered is None:
            return
        with self._book:
            patches, changes = edit.entered
            self._put_back(edit.changes[len(edit.changes) - changes :])
            del edit.patches[len(edit.patches) - patches :], edit.changes[len(edit.changes) - changes :]
            edit.counts = False
            self._log(failed_entry(edit))

    def _put_back(self, changes: Sequence[StateChange]) -> None:
        for change in reversed(changes):
            self._table.put(change.key, change.before)

    def _object(self, identity: int) -> ObjectState:
        if identity not in self.objects:
            raise SessionError(f"there is no object {identity}; known are {sorted(self.objects)}")
        return self.objects[identity]


def largest_id(dtype: np.dtype[Any]) -> int:
    """Return the largest id that labels of a type can hold."""
    return int(np.iinfo(dtype).max)


def _fresh(identity: int) -> dict[str, Any]:
    return to_json(ObjectState(identity))
