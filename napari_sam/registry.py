"""One interaction per viewer, made when the first widget asks for it and ended when the last one has gone."""

from __future__ import annotations

import inspect
import itertools
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow, QWidget

from napari_sam.interaction import Interaction

if TYPE_CHECKING:
    import napari

_interactions: dict[int, Interaction] = {}
_users: dict[int, set[int]] = {}
_numbers = itertools.count()
_listening: list[QApplication] = []


def interaction_of(viewer: napari.Viewer) -> Interaction:
    """Return the interaction of a viewer."""
    viewer = unwrapped(viewer)
    found = _interactions.get(id(viewer))
    if found is None or found.viewer is not viewer:
        found = _interactions[id(viewer)] = Interaction(viewer)
        app = QApplication.instance()
        if isinstance(app, QApplication) and app not in _listening:
            _listening.append(app)
            app.aboutToQuit.connect(release_all)
    return found


def release(viewer: napari.Viewer) -> None:
    """End the interaction of a viewer, whose labels stay on view; a widget opened later starts a new one."""
    _end(id(unwrapped(viewer)), viewer_stays=True)


def unwrapped(viewer: napari.Viewer) -> napari.Viewer:
    """Return the viewer itself: napari gives every panel opened from its menu a proxy of its own.

    What a proxy returns are proxies again, which are identical to nothing.
    """
    found: napari.Viewer = inspect.unwrap(viewer)  # type: ignore[arg-type]
    return found


def release_all() -> None:
    """End all interactions: the program ends."""
    for key in list(_interactions):
        _end(key, viewer_stays=False, wait_s=10.0)


def attach(widget: QWidget, viewer: napari.Viewer, ended: Callable[[], None] | None = None) -> Interaction:
    """Return the viewer's interaction and keep it for as long as the widget is in an open window.

    napari takes a widget whose dock is closed out of its window, and deletes it together with a window that is
    closed; neither closes the widget itself. Qt's `destroyed` is no help: a widget that Python collects would
    call functions that have been collected with it.

    Parameters
    ----------
    widget, viewer
        A widget, and the viewer it is made for.
    ended
        A method called when the widget has been taken out of its window, or the window has been closed.
    """
    # Ids of objects are given out again; what is said late about a widget that has gone must reach nobody.
    interaction, user = interaction_of(viewer), next(_numbers)
    key = id(interaction.viewer)
    _users.setdefault(key, set()).add(user)
    end = weakref.WeakMethod(ended) if ended is not None else None
    weakref.finalize(widget, _left, key, user, None, False).atexit = False
    _Whereabouts(widget, partial(_left, key, user, end))
    return interaction


class _Whereabouts(QObject):
    """Notices that a widget is taken out of its window, or that the window is closed."""

    def __init__(self, widget: QWidget, left: Callable[[bool], None]) -> None:
        super().__init__(widget)
        self._left = left
        self._window: weakref.ref[QWidget] | None = None
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is None or watched is None:
            return False
        kind, widget = event.type(), self.parent()
        if watched is widget and isinstance(widget, QWidget):
            if kind in (QEvent.Type.ParentChange, QEvent.Type.Show, QEvent.Type.Polish):
                self._follow(widget.window())
            if kind == QEvent.Type.ParentChange:
                # A dock that moves its widget gives it a new parent at once, so look a little later.
                QTimer.singleShot(0, partial(_look, weakref.ref(widget), self._left, None))
        elif kind == QEvent.Type.Close and isinstance(widget, QWidget) and isinstance(watched, QMainWindow):
            # napari may ask first, and stay open.
            QTimer.singleShot(0, partial(_look, weakref.ref(widget), self._left, weakref.ref(watched)))
        elif kind == QEvent.Type.ParentChange and isinstance(widget, QWidget):
            self._follow(widget.window())  # a dock that has been put into the main window
        return False

    def _follow(self, window: QWidget | None) -> None:
        if window is not None and (self._window is None or self._window() is not window):
            self._window = weakref.ref(window)
            window.installEventFilter(self)


def _look(
    widget_ref: weakref.ref[QWidget], left: Callable[[bool], None], closed: weakref.ref[QWidget] | None
) -> None:
    """Find out what has become of a widget, and of its window if that has been closed."""
    widget = widget_ref()
    try:
        if widget is None:
            left(False)
        elif closed is None:
            if widget.parentWidget() is None:
                left(True)
        elif (window := closed()) is None or not window.isVisible():
            left(False)
    except RuntimeError:  # Qt has deleted one of them
        left(False)


def _left(
    key: int, user: int, ended: weakref.WeakMethod[Callable[[], None]] | None, viewer_stays: bool
) -> None:
    users = _users.get(key, set())
    if user not in users:
        return
    users.discard(user)
    call = ended() if ended is not None else None
    if call is not None:
        try:
            call()
        except RuntimeError:
            pass  # Qt has deleted the widget already
    if not users:
        _end(key, viewer_stays=viewer_stays)


def _end(key: int, *, viewer_stays: bool, wait_s: float = 2.0) -> None:
    found = _interactions.pop(key, None)
    _users.pop(key, None)
    if found is not None:
        found.close(viewer_stays=viewer_stays, wait_s=wait_s)
