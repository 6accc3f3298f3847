"""One history for everything that changes labels: undo and redo, many levels, small in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_core.types import PlaneRef

if TYPE_CHECKING:
    from src_core.session.state import StateChange

BoxYX = tuple[int, int, int, int]


@dataclass(frozen=True)
class Patch:
    """The ids in a box of one plane, before and after; compressed, since most of it is one value."""

    plane: PlaneRef
    box_yxyx: BoxYX
    packed: tuple[bytes, bytes]

    @classmethod
    def of(
        cls, plane: PlaneRef, box_yxyx: BoxYX, before: NDArray[np.uint32], after: NDArray[np.uint32]
    ) -> Patch:
        """Pack two (h, w) arrays."""
        return cls(plane, box_yxyx, (_pack(before), _pack(after)))

    def ids(self, *, after: bool) -> NDArray[np.uint32]:
        """Return the (h, w) ids after the change or before it."""
        y0, x0, y1, x1 = self.box_yxyx
        data = zlib.decompress(self.packed[1 if after else 0])
        return np.frombuffer(data, "<u4").reshape(y1 - y0, x1 - x0)


def _pack(ids: NDArray[np.uint32]) -> bytes:
    return zlib.compress(np.ascontiguousarray(ids, "<u4").tobytes(), level=1)


@dataclass(eq=False)
class Edit:
    """One thing the user did, undone and redone as a whole.

    Attributes
    ----------
    name
        What it was, in the user's words: "accept object 3".
    patches
        Changes of labels in the order they were made.
    undo, redo
        What else has to happen as long as the program runs, for example in the window; called last.
    counts
        Whether the edit is worth undoing even if it changed no label.
    changes
        What became of the objects: anchors, scores and the like.
    number, about
        What a journal calls it and says of it.
    entered
        How many patches and changes its latest line has, and whether it counted before; None before the first.
    counted
        What the journal knows of `counts`.
    since
        When its first line was entered, in lines of all edits; 0 before.
    parted, rest
        Whether it goes on from a part that is in the history already; of such a part, what goes on.
    interrupted
        Whether such a part has been undone while it went on.
    """

    name: str
    patches: list[Patch] = field(default_factory=list)
    undo: Callable[[], None] = lambda: None
    redo: Callable[[], None] = lambda: None
    counts: bool = False
    changes: list[StateChange] = field(default_factory=list)
    number: int = 0
    about: dict[str, Any] = field(default_factory=dict)
    entered: tuple[int, int, bool] | None = None
    counted: bool = False
    since: int = 0
    parted: bool = False
    rest: Edit | None = None
    interrupted: bool = False


@dataclass
class Landing:
    """An edit that is being undone, or done again: what the labels have not got of it yet.

    Attributes
    ----------
    edit, forward
        Which one, and whether it is done again.
    left
        Its patches that are still to be written, in this order.
    known
        Whether the journal has it, so that opening the session again would end it.
    stopped
        Whether the disk has refused some of it.
    """

    edit: Edit
    forward: bool
    left: list[Patch]
    known: bool = True
    stopped: bool = False

    @classmethod
    def of(cls, edit: Edit, *, forward: bool) -> Landing:
        """Begin with all of an edit."""
        return cls(edit, forward, edit.patches[:] if forward else edit.patches[::-1])

    @property
    def begun(self) -> list[Patch]:
        """The patches that are written, in this order, and the next one: some of it may have been."""
        patches = self.edit.patches if self.forward else self.edit.patches[::-1]
        return patches[: len(patches) - len(self.left) + 1]

    @property
    def what(self) -> str:
        """What the user calls it."""
        return "redo" if self.forward else "undo"


class History:
    """Edits that can be undone and edits that can be done again."""

    def __init__(self) -> None:
        self._done: list[Edit] = []
        self._undone: list[Edit] = []

    def __len__(self) -> int:
        return len(self._done)

    def __iter__(self) -> Iterator[Edit]:
        """Go through the edits that stand, in the order in which they were made."""
        return iter(self._done)

    def push(self, edit: Edit) -> None:
        """Add a new edit; whatever had been undone is gone."""
        self._done.append(edit)
        self._undone.clear()

    def step_back(self) -> Edit | None:
        """Move the latest edit to the undone ones and return it; None if there is none."""
        if not self._done:
            return None
        self._undone.append(self._done.pop())
        return self._undone[-1]

    def step_forward(self) -> Edit | None:
        """Move the latest undone edit back and return it; None if there is none."""
        if not self._undone:
            return None
        self._done.append(self._undone.pop())
        return self._done[-1]

    @property
    def last(self) -> Edit | None:
        """What `step_back` would return."""
        return self._done[-1] if self._done else None

    @property
    def next(self) -> Edit | None:
        """What `step_forward` would return."""
        return self._undone[-1] if self._undone else None

    @property
    def undo_name(self) -> str | None:
        """What `step_back` would return, by name."""
        return self.last.name if self.last else None

    @property
    def redo_name(self) -> str | None:
        """What `step_forward` would return, by name."""
        return self.next.name if self.next else None
