"""One interaction per viewer, made when the first widget asks for it and ended when the last one has gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakMethod

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam.interaction import Interaction

if TYPE_CHECKING:
    import napari

_interactions: dict[int, Interaction] = {}
_users: dict[int, set[int]] = {}
_listening: list[QApplication] = []


def interaction_of(viewer: napari.Viewer) -> Interaction:
    """Return the interaction of a viewer."""
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
    _end(id(viewer), viewer_stays=True)


def release_all() -> None:
    """End all interactions: the program ends."""
    for key in list(_interactions):
        _end(key, viewer_stays=False, wait_s=10.0)


def attach(widget: QWidget, viewer: napari.Viewer, ended: Callable[[], None] | None = None) -> Interaction:
    """Return the viewer's interaction and keep it for as long as the widget is in a window.

    napari takes a widget whose dock is closed out of its window, and deletes it together with a window that is
    closed; neither closes the widget itself.

    Parameters
    ----------
    widget, viewer
        A widget, and the viewer it is made for.
    ended
        A method called when the widget has been taken out of a window that stays.
    """
    interaction, key, user = interaction_of(viewer), id(viewer), id(widget)
    end = WeakMethod(ended) if ended is not None else lambda: None
    users = _users.setdefault(key, set())
    users.add(user)

    def left(*, viewer_stays: bool) -> None:
        if user in users:
            users.discard(user)
            call = end()
            if viewer_stays and call is not None:
                call()
            if not users and _interactions.get(key) is interaction:
                _end(key, viewer_stays=viewer_stays)

    _Docked(widget, lambda: left(viewer_stays=True))
    widget.destroyed.connect(lambda: left(viewer_stays=False))
    return interaction


class _Docked(QObject):
    """Notices that a widget has been taken out of its window."""

    def __init__(self, widget: QWidget, taken_out: Callable[[], None]) -> None:
        super().__init__(widget)
        self._taken_out = taken_out
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._look)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if event is not None and event.type() == QEvent.Type.ParentChange:
            self._soon.start(0)  # a dock that moves its widget gives it a new parent at once
        return False

    def _look(self) -> None:
        widget = self.parent()
        if isinstance(widget, QWidget) and widget.parentWidget() is None:
            self._taken_out()


def _end(key: int, *, viewer_stays: bool, wait_s: float = 2.0) -> None:
    found = _interactions.pop(key, None)
    _users.pop(key, None)
    if found is not None:
        found.close(viewer_stays=viewer_stays, wait_s=wait_s)
