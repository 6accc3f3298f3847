"""Journals read back: which lines count, and what they add up to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src_core.errors import SessionError
from src_core.history import Edit, History, Patch
from src_core.labels import LabelVolume
from src_core.session.entries import (
    FORMAT,
    IMPORT,
    IMPORTED,
    OPEN,
    VERSION,
    changes_from,
    patch_from,
)
from src_core.session.patching import apply_patch, replay_changes
from src_core.session.state import StateChange
from src_core.session.table import Table


@dataclass(frozen=True)
class Lines:
    """The lines of a journal that count.

    Attributes
    ----------
    header
        The first line.
    entries
        The others.
    size
        Bytes they take; what comes after was never finished.
    """

    header: dict[str, Any]
    entries: list[dict[str, Any]]
    size: int


def read_lines(path: Path) -> Lines | None:
    """Read a journal; None if it is absent, or was killed before its first line was whole.

    Raises
    ------
    SessionError
        It is no journal, one of another version, damaged before its last line, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SessionError(
            f"the session in {path} cannot be read: {error.strerror or error}. Check the permissions of the "
            "folder, or move the file away to start anew; the labels stay"
        ) from error
    entries: list[dict[str, Any]] = []
    size = 0
    while (end := data.find(b"\n", size)) >= 0:
        entry = _parsed(data[size:end])
        if entry is None:
            _check_last(path, data[end + 1 :], len(entries) + 1)
            break
        entries.append(entry)
        if len(entries) == 1:
            check_header(path, entry)
        size = end + 1
    if not entries:
        if data.strip(b"\0") and not b'{"journal":'.startswith(data[:11]):
            raise SessionError(f"{path} is not a session's journal; move it away to start anew")
        return None
    return Lines(entries[0], entries[1:], size)


def check_header(path: Path, header: dict[str, Any]) -> None:
    """Raise `SessionError` unless the first line is that of a journal this version can read."""
    if header.get("journal") != FORMAT:
        raise SessionError(f"{path} is not a session's journal; move it away to start anew")
    if header.get("version") != VERSION:
        raise SessionError(
            f"{path} has version {header.get('version')} of the format, this program reads {VERSION}: update "
            "napari-sam-stacks, or move the file away to start anew; the labels stay"
        )


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _check_last(path: Path, rest: bytes, number: int) -> None:
    """Raise `SessionError` if whole lines follow one that cannot be read: that is no crash but damage."""
    if any(_parsed(line) is not None for line in rest.split(b"\n")):
        raise SessionError(
            f"line {number} of {path} is damaged, and others follow: restore the file from a backup, or move it "
            "away to start anew; the labels stay"
        )


@dataclass
class Reader:
    """Adds up the lines of a journal.

    Attributes
    ----------
    table, history
        What the lines so far come to.
    last_edit
        The highest number of an edit.
    running
        Edits that have not ended.
    in_flight
        By number of the edit, the patches of the last line of those, and of an undo or redo that has not ended:
        they may have reached the labels or not. Each is as (patches, forward).
    promised
        Objects of an import that has not ended: those without a mask are forgotten with it.
    """

    table: Table = field(default_factory=Table)
    history: History = field(default_factory=History)
    last_edit: int = 0
    running: dict[int, Edit] = field(default_factory=dict)
    in_flight: dict[int, tuple[list[Patch], bool]] = field(default_factory=dict)
    promised: set[int] = field(default_factory=set)

    def read(self, entry: dict[str, Any], labels: LabelVolume | None = None) -> None:
        """Take one line; with `labels`, do to them what it says.

        Raises
        ------
        SessionError
            The line is none of this version.
        """
        try:
            self._read(entry, labels)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, SessionError):
                raise
            raise SessionError(
                f"the session has a line that makes no sense ({error!r}): {str(entry)[:200]}; move the journal "
                "away to start anew; the labels stay"
            ) from error

    def land(self, labels: LabelVolume) -> None:
        """Do to the labels what was in flight."""
        for patches, forward in self.in_flight.values():
            _apply(labels, patches, forward=forward)

    def finish(self) -> None:
        """End the edits that the end of their process has cut off; what was in flight has landed."""
        for edit in list(self.running.values()):
            if not (edit.patches or edit.counts):  # it has only been announced
                for change in reversed(edit.changes):
                    self.table.put(change.key, change.before)
            self._end(edit)
        self.in_flight.clear()
        self._forget_promised()

    def _read(self, entry: dict[str, Any], labels: LabelVolume | None) -> None:
        if "edit" in entry:
            self._edit(entry, labels)
        elif "undo" in entry or "redo" in entry:
            self._replay(entry, labels)
        elif entry.get("do") == OPEN:
            self.finish()  # whoever opens a session puts its labels right first
        else:
            changes = changes_from(entry.get("set", ()))
            for change in changes:
                self.table.put(change.key, change.after)
            self._promise(entry.get("do"), changes)
            _apply(labels, [patch_from(p) for p in entry.get("patches", ())], forward=True)

    def _promise(self, what: str | None, changes: Sequence[StateChange]) -> None:
        if what == IMPORT:
            self.promised = {int(c.key[1]) for c in changes if c.key[0] == "object" and c.after is not None}
        elif what == IMPORTED:
            self.promised = set()

    def _forget_promised(self) -> None:
        for identity in self.promised - {self.table.current}:
            state = self.table.objects.get(identity)
            if state is not None and state.bare:
                del self.table.objects[identity]
        self.promised = set()

    def _edit(self, entry: dict[str, Any], labels: LabelVolume | None) -> None:
        number = int(entry["edit"])
        if number not in self.running:
            self.running[number] = Edit(str(entry["do"]), number=number, about=entry.get("about", {}))
            self.last_edit = max(self.last_edit, number)
        edit = self.running[number]
        self.in_flight.pop(number, None)
        if entry.get("failed"):
            self._take_back(edit, labels)
        elif entry.get("end"):
            self._end(edit)
        else:
            patches = [patch_from(p) for p in entry.get("patches", ())]
            changes = changes_from(entry.get("set", ()))
            counted = edit.counts
            edit.counts |= bool(entry.get("counts"))
            edit.patches += patches
            edit.changes += changes
            edit.entered = (len(patches), len(changes), counted)
            if patches:
                self.in_flight[number] = (patches, True)
            _apply(labels, patches, forward=True)
            for change in changes:
                self.table.put(change.key, change.after)

    def _take_back(self, edit: Edit, labels: LabelVolume | None) -> None:
        patches, changes, edit.counts = edit.entered or (0, 0, False)
        kept, n = len(edit.patches) - patches, len(edit.changes) - changes
        _apply(labels, edit.patches[kept:][::-1], forward=False)
        for change in reversed(edit.changes[n:]):
            self.table.put(change.key, change.before)
        del edit.patches[kept:], edit.changes[n:]

    def _end(self, edit: Edit) -> None:
        del self.running[edit.number]
        if edit.patches or edit.counts:
            self.history.push(edit)

    def _replay(self, entry: dict[str, Any], labels: LabelVolume | None) -> None:
        forward = "redo" in entry
        number = int(entry["redo" if forward else "undo"])
        if entry.get("end"):
            self.in_flight.pop(number, None)
            return
        edit = self.history.step_forward() if forward else self.history.step_back()
        if edit is None or edit.number != number:
            raise KeyError(f"edit {number} is not the one to {'redo' if forward else 'undo'}")
        patches = edit.patches if forward else edit.patches[::-1]
        self.in_flight[number] = (patches, forward)
        _apply(labels, patches, forward=forward)
        replay_changes(self.table, edit, forward=forward)


def _apply(labels: LabelVolume | None, patches: Sequence[Patch], *, forward: bool) -> None:
    if labels is not None:
        for patch in patches:
            apply_patch(labels, patch, forward=forward)
