"""From the inference thread to the window's thread, and from errors to notifications."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from src_core.errors import SamError
from src_core.worker import InferenceWorker

TURN_S = 0.004
"""How long calls that wait are made one after the other before the window gets to paint and listen."""


class _Turns:
    """Keeps what is called by timers apart: Qt lets all that are due go off before it paints."""

    ended = 0.0

    @classmethod
    def taken(cls) -> bool:
        """Say whether something has been called a moment ago, before the window has had its turn."""
        return time.monotonic() - cls.ended < 0.001

    @classmethod
    def end(cls) -> None:
        """Leave the next turn to the window."""
        cls.ended = time.monotonic()


class MainThread(QObject):
    """Calls functions on the thread it was made on, in order; does nothing any more once closed.

    Qt would make all calls that wait, and paint what they have changed, before it does anything else. Here the
    event loop gets its turn in between.
    """

    _called = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._open = True
        self._calls: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._turn = QTimer(self)
        self._turn.setSingleShot(True)
        self._turn.timeout.connect(self._call_some)
        self._called.connect(self._wake, Qt.ConnectionType.QueuedConnection)

    def __call__(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` soon, from any thread."""
        if not self._open:
            return
        self._calls.append((callback, args))
        try:
            self._called.emit()
        except RuntimeError:  # Qt has deleted the receiver, at the end of the program
            self._open = False

    def idle(self) -> bool:
        """Say whether no call waits."""
        return not self._calls

    def close(self) -> None:
        """Drop calls that have not been made yet."""
        self._open = False
        self._calls.clear()

    def _wake(self) -> None:
        if not self._turn.isActive():
            self._turn.start(0)

    def _call_some(self) -> None:
        if _Turns.taken():
            self._turn.start(1)
            return
        until = time.monotonic() + TURN_S
        while self._calls:
            callback, args = self._calls.popleft()
            try:
                callback(*args)
            except Exception as error:
                notify(error)
            if time.monotonic() > until:
                _Turns.end()
                break
        if self._calls:
            self._wake()


class Once:
    """Asks for a call on the window's thread once, however often it is wanted before it is made, from any thread."""

    def __init__(self, main: MainThread, call: Callable[[], None]) -> None:
        self._main, self._call = main, call
        self._waits = False

    def __call__(self) -> None:
        """Call soon."""
        if not self._waits:
            self._waits = True
            self._main(self._now)

    def _now(self) -> None:
        self._waits = False
        self._call()


class Throttle(QObject):
    """Calls a function at most every so often, as long as its parent lives; the last call is never lost.

    Never at once: what asks for it has cost time already, and the window is to be painted in between.
    """

    def __init__(self, call: Callable[[], None], every_ms: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._call, self._every_s, self._last = call, every_ms / 1000, 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._now)

    def __call__(self) -> None:
        """Call as soon as it is time."""
        if not self._timer.isActive():
            wait = self._last + self._every_s - time.monotonic()
            self._timer.start(max(0, math.ceil(1000 * wait)))

    def close(self) -> None:
        """Drop a call that waits."""
        self._timer.stop()

    def _now(self) -> None:
        if _Turns.taken():
            self._timer.start(1)
            return
        self._call()
        _Turns.end()
        # Counted from the end, so that calls that take long leave as much time to everything else.
        self._last = time.monotonic()


class Debounce(QObject):
    """Calls a function once it has not been asked for some time."""

    def __init__(self, call: Callable[[], None], quiet_ms: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(quiet_ms)
        self._timer.timeout.connect(call)

    def __call__(self) -> None:
        """Call later, counted anew from now."""
        self._timer.start()

    def close(self) -> None:
        """Drop a call that waits."""
        self._timer.stop()


def notify(error: BaseException) -> None:
    """Tell the user: what the library reports as a warning, anything else as an error with its traceback."""
    if isinstance(error, SamError):
        show_warning(str(error))
    elif isinstance(error, OSError):
        show_warning(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    else:
        show_error(f"{type(error).__name__}: {error}")


def make_worker(main: MainThread) -> InferenceWorker:
    """Return an inference thread whose results arrive on the window's thread."""
    return InferenceWorker(main)
