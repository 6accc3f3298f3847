"""What follows when the image, the labels or the mouse change while an image is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from napari_sam import painting
from napari_sam.scene import Scene
from napari_sam.workers import Throttle
from src_core.types import PlaneRef

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction

REFRESH_MS = 80
"""Shortest time between two redraws of the labels while a propagation fills the slice on screen."""


class Reactions:
    """Listens to a scene's layers and session until the scene closes."""

    def __init__(self, interaction: Interaction, scene: Scene) -> None:
        self.interaction, self.scene = interaction, scene
        self._redraw = Throttle(scene.refresh_labels, REFRESH_MS)
        session = scene.session
        scene.listen(scene.image.events.contrast_limits, self._on_contrast)
        scene.listen(scene.labels.events.paint, self._on_paint)
        scene.listen(scene.labels.events.selected_label, self._on_selected_label)
        scene.listen(session.labels_changed, self._labels_changed)
        scene.listen(session.objects_changed, self._session_changed)
        scene.listen(session.history_changed, self._session_changed)
        scene.viewer.mouse_drag_callbacks.append(self._on_press)

    def close(self) -> None:
        """Stop what the scene does not stop by itself."""
        self._redraw.close()
        if self._on_press in self.scene.viewer.mouse_drag_callbacks:
            self.scene.viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Make a point negative while Shift is held; napari adds it on release, after this callback."""
        scene, prompting = self.scene, self.interaction.prompting
        if prompting is not None and viewer.layers.selection.active is scene.points:
            # The canvas says it with keys that compare to their names.
            scene.set_defaults(prompting.negative != ("Shift" in event.modifiers))
        yield

    def _on_contrast(self, event: Any = None) -> None:
        self.scene.renew_contrast()
        self.interaction.renew_embeddings()

    def _on_paint(self, event: Any) -> None:
        on_screen = self.interaction.on_screen()
        if on_screen is not None:
            self.scene.session.record(painting.patches(self.scene.labels.data, event.value, on_screen))

    def _on_selected_label(self, event: Any = None) -> None:
        if not self.scene.quiet and self.scene.labels.selected_label > 0:
            self.interaction.select(int(self.scene.labels.selected_label))

    # These come from the worker.

    def _labels_changed(self, plane: PlaneRef, _: Any) -> None:
        self.interaction.main(self._labels_changed_here, plane)

    def _labels_changed_here(self, plane: PlaneRef) -> None:
        on_screen = self.interaction.on_screen()
        shown = on_screen is not None and on_screen.plane == plane
        if shown or self.scene.viewer.dims.ndisplay == 3:
            self._redraw()

    def _session_changed(self) -> None:
        self.interaction.main(self.interaction.changed.emit)
