"""From the inference thread to the window's thread, and from errors to notifications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QObject, Qt, Signal

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
        if self._open:
            self._called.emit(callback, args)

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
