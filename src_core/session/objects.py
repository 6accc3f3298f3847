"""Objects of a session: found in the labels, started, forgotten, locked; and the candidates for the next mask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from src_core.errors import SessionError
from src_core.session.as_json import blank, to_json
from src_core.session.book import Book
from src_core.session.editing import Settings
from src_core.session.entries import IMPORT, IMPORTED, set_entry
from src_core.session.numbers import choose
from src_core.session.state import WAITING, Key, ObjectState, StateChange


class Objects(Book):
    """A book that knows what to do with many objects, and with candidates."""

    def adopt(self, ids: Iterable[int]) -> None:
        """Take over objects that are in the labels already; the latest becomes the current one."""
        with self._book:
            found = self._found(ids)
            latest = max([*self.objects, *(key[1] for key, _ in found)])
            self._set("adopt", [*found, (("current",), latest)], allowed=True)
        self.objects_changed.emit()

    def adopt_unknown(self, ids: Iterable[int]) -> None:
        """Take over objects in the labels that the journal does not know; the current one stays."""
        with self._book:
            if unknown := [i for i in ids if i not in self.objects]:
                self._set("adopt", self._found(unknown), allowed=True)

    def add_objects(
        self, numbers: Iterable[int | None], *, replace_current: bool = False
    ) -> list[ObjectState]:
        """Start many objects at once, each under its number if that is free, else under the next free one.

        Parameters
        ----------
        numbers
            A wish, or None, for each; see `choose`.
        replace_current
            Give the current object, which must be empty, to the new ones; the next object becomes the current
            one.

        Raises
        ------
        SessionError
            The label volume's dtype has no ids left, or the session is read-only; nothing has been started.
        """
        with self._book:
            known = set(self.objects) - ({self.current} if replace_current else set())
            ids, following = choose(list(numbers), known, self._largest_id, spare=int(replace_current))
            now: list[tuple[Key, Any]] = [(("current",), following)] if replace_current else []
            fresh = [*ids, following] if replace_current else ids
            gone: list[tuple[Key, Any]] = [(("object", k), None) for k in set(self.objects) - known]
            made: list[tuple[Key, Any]] = [(("object", k), blank(k)) for k in fresh]
            self._set(IMPORT, [*gone, *made, *now])
            states = [self.objects[k] for k in ids]
        self.objects_changed.emit()
        return states

    def withdraw(self, states: Iterable[ObjectState]) -> None:
        """Forget the objects for which nothing was done, outside of the history; this ends what `add_objects` began.

        Undo and redo may have replaced what the session has under their numbers.
        """
        with self._book:
            gone = {s.id for s in states if s.id in self.objects and self._unused(s.id)}
            self._set(IMPORTED, self.without(gone) if gone else [], allowed=True)
        self.objects_changed.emit()

    def unfinished(self) -> list[int]:
        """Return the ids of objects to propagate: not finished, and with a mask where any has one."""
        open_objects = [o for o in list(self.objects.values()) if not o.done]
        return [o.id for o in open_objects if not o.empty] or [o.id for o in open_objects]

    def unlocked(self, identity: int, what: str) -> ObjectState:
        """Return an object that may be changed; `what` says what the user is going to do with it.

        Raises
        ------
        SessionError
            It is unknown, or finished.
        """
        state = self._object(identity)
        if state.done:
            raise SessionError(f"object {identity} is finished; reopen it to {what}")
        return state

    @property
    def waiting(self) -> dict[str, Any] | None:
        """The candidates that wait to be accepted, from `waiting.pack`; None without any."""
        return self._table.waiting

    def wait_with(self, candidates: dict[str, Any] | None) -> None:
        """Take note of candidates that wait to be accepted, outside of the history; None when they have gone."""
        with self._book:
            if candidates != self.waiting and not self.read_only:
                self._table.put(WAITING, candidates)
                self._log(set_entry("candidates", [StateChange(WAITING, None, candidates)]))

    def without(self, identities: set[int]) -> Settings:
        """Return the changes that forget objects; there is always one to go on with."""
        gone: list[tuple[Key, Any]] = [(("object", k), None) for k in sorted(identities)]
        rest = set(self.objects) - identities
        if not rest:
            return [*gone, (("object", 1), blank(1)), (("current",), 1)]
        return [*gone, (("current",), max(rest))] if self.current in identities else gone

    def _unused(self, identity: int) -> bool:
        """Say whether the user would not miss an object."""
        return self._object(identity).bare and identity != self.current

    def _found(self, ids: Iterable[int]) -> list[tuple[Key, Any]]:
        return [
            (("found", i), True)
            if i in self.objects
            else (("object", i), to_json(ObjectState(i, found=True)))
            for i in ids
        ]
