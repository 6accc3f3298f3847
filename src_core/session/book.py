"""The book of a session: its objects, its history and its journal; nothing about pixels."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from src_core.errors import SessionError
from src_core.history import History
from src_core.session.as_json import blank, prompts_json, to_json
from src_core.session.editing import Editing, Settings
from src_core.session.entries import CLOSE, open_entry
from src_core.session.journal import Journal
from src_core.session.state import DrawnPrompts, Key, ObjectState
from src_core.session.table import Table


class Book(Editing):
    """Edits of objects, and the life of the journal."""

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
            self._set("new object", [(("object", identity), blank(identity)), (("current",), identity)])
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
            fresh: list[tuple[Key, Any]] = [] if known else [(("object", identity), blank(identity))]
            self._set("select", [*fresh, (("current",), identity)], allowed=known)
        self.objects_changed.emit()

    def set_done(self, identity: int, done: bool = True) -> None:
        """Lock a finished object, or open it again."""
        if self._object(identity).done != done:
            self._change(f"{'finish' if done else 'reopen'} object {identity}", ("done", identity), done)

    def rename(self, identity: int, name: str) -> None:
        """Give an object a name or class."""
        if self._object(identity).name != name:
            self._change(f"rename object {identity}", ("name", identity), name)

    def _change(self, what: str, key: Key, value: Any) -> None:
        with self.edit(what) as edit:
            edit.counts = True
            self.enter(edit, [], [(key, value)])
        self.objects_changed.emit()

    # ------------------------------------------------------------------ drawn

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
                # What is drawn parts no propagation, but an import: without it, the object would come back empty.
                (self._enter_next if self._begun(drawn) else self._enter)(edit, [], settings)

    def remember(self, prompts: Mapping[int, DrawnPrompts]) -> None:
        """Take note of what is drawn for objects, outside of the history."""
        if prompts and not self.read_only:
            self._set("prompts", [(("prompts", k), prompts_json(p)) for k, p in prompts.items()])

    # ---------------------------------------------------------------- journal

    def close(self) -> None:
        """Write the rest of the journal and let go of the session; another process may have it then."""
        journal, self.journal = self.journal, None
        if journal is not None:
            self.read_only = "this session has been closed; open it again to change it"
            if self._landing is None:  # else opening it again ends what has been cut short
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

    def _object(self, identity: int) -> ObjectState:
        if identity not in self.objects:
            raise SessionError(f"there is no object {identity}; known are {sorted(self.objects)}")
        return self.objects[identity]


def largest_id(dtype: np.dtype[Any]) -> int:
    """Return the largest id that labels of a type can hold."""
    return int(np.iinfo(dtype).max)
