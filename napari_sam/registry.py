"""One interaction per viewer, made when the first widget asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QApplication

from napari_sam.interaction import Interaction

if TYPE_CHECKING:
    import napari

_interactions: dict[int, Interaction] = {}


def interaction_of(viewer: napari.Viewer) -> Interaction:
    """Return the interaction of a viewer."""
    found = _interactions.get(id(viewer))
    if found is None or found.viewer is not viewer:
        found = _interactions[id(viewer)] = Interaction(viewer)
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(found.close)
    return found


def release(viewer: napari.Viewer) -> None:
    """End the interaction of a viewer; a widget opened later starts a new one."""
    found = _interactions.pop(id(viewer), None)
    if found is not None:
        found.close()
