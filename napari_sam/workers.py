"""From the inference thread to the window's thread, and from errors to notifications."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from src_core.errors import SamError
from src_core.worker import InferenceWorker


class MainThread(QObject):
    """Calls functions on the thread it was made on, in order; does nothing any more once closed."""

    _called = Signal(object, tuple)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._open = True
        self._called.connect(self._call, Qt.ConnectionType.QueuedConnection)

    def __call__(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call `callback(*args)` soon, from any thread."""
        if not self._open:
            return
        try:
            self._called.emit(callback, args)
        except RuntimeError:  # Qt has deleted the receiver, at the end of the program
            self._open = False

    def close(self) -> None:
        """Drop calls that have not been made yet."""
        self._open = False

    def _call(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        if not self._open:
            return
        try:
            callback(*args)
        except Exception as error:
            notify(error)


class Throttle(QObject):
    """Calls a function at most every so often, as long as its parent lives; the last call is never lost."""

    def __init__(self, call: Callable[[], None], every_ms: int, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._call, self._every_s, self._last = call, every_ms / 1000, 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._now)

    def __call__(self) -> None:
        """Call now, or as soon as it is time again."""
        if self._timer.isActive():
            return
        wait = self._last + self._every_s - time.monotonic()
        if wait > 0:
            self._timer.start(int(1000 * wait) + 1)
        else:
            self._now()

    def close(self) -> None:
        """Drop a call that waits."""
        self._timer.stop()

    def _now(self) -> None:
        self._call()
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
