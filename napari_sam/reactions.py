"""What follows when the image, the labels or the mouse change while an image is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from napari_sam import painting
from napari_sam.scene import Scene
from napari_sam.workers import Debounce, Once, Throttle, notify
from src_core.errors import SessionError
from src_core.types import PlaneRef

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction

REFRESH_MS = 80
"""Shortest time between two redraws of the labels while a propagation fills the slice on screen."""

QUIET_MS = 300
"""How long the contrast limits must have been at rest before slices are embedded anew."""


class Reactions:
    """Listens to a scene's layers and session until the scene closes."""

    def __init__(self, interaction: Interaction, scene: Scene) -> None:
        self.interaction, self.scene = interaction, scene
        self._redraw = Throttle(scene.refresh_labels, REFRESH_MS)
        self._contrast = Debounce(self._renew_contrast, QUIET_MS)
        self._written: set[PlaneRef] = set()
        self._look = Once(interaction.main, self._labels_changed_here)
        self._told = False
        session = scene.session
        scene.listen(scene.image.events.contrast_limits, self._on_contrast)
        scene.listen(scene.labels.events.paint, self._on_paint)
        scene.listen(scene.labels.events.selected_label, self._on_selected_label)
        scene.listen(session.labels_changed, self._labels_changed)
        self._tell = Once(interaction.main, interaction.changed.emit)
        scene.listen(session.objects_changed, self._session_changed)
        scene.listen(session.history_changed, self._session_changed)
        scene.listen(session.troubled, self._troubled)
        scene.viewer.mouse_drag_callbacks.append(self._on_press)

    def close(self) -> None:
        """Stop what the scene does not stop by itself."""
        self._redraw.close()
        self._contrast.close()
        if self._on_press in self.scene.viewer.mouse_drag_callbacks:
            self.scene.viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Make a point negative while Shift is held; napari adds it on release, after this callback."""
        scene, prompting = self.scene, self.interaction.prompting
        if prompting is not None and viewer.layers.selection.active is scene.points:
            # The canvas says it with keys that compare to their names.
            scene.set_defaults(prompting.drawing.negative != ("Shift" in event.modifiers))
        yield

    def _on_contrast(self, event: Any = None) -> None:
        self._contrast()

    def _renew_contrast(self) -> None:
        self.scene.renew_contrast()
        self.interaction.renew_embeddings()

    def _on_paint(self, event: Any) -> None:
        on_screen = self.interaction.on_screen()
        if on_screen is None:
            return
        changes = painting.patches(self.scene.labels.data, event.value, on_screen)
        allowed, refused = painting.sort_out(changes, self._protected)
        # napari may write the stroke after it tells of it
        try:
            if allowed:
                self.scene.session.record(allowed)
        except SessionError as error:
            self.interaction.main(self.scene.put_back, [painting.Refused.whole(change) for change in changes])
            self.interaction.main(notify, error)
            return
        if refused:
            self.interaction.main(self._put_back, refused)

    def _protected(self, painted: int) -> set[int]:
        """Return what painting with an id must leave alone; erasing is aimed at what it erases."""
        session = self.scene.session
        writing = {painted} if painted else set(session.objects)
        finished = {i for i, o in list(session.objects.items()) if o.done}
        return session.protected(writing) | finished

    def _put_back(self, refused: list[painting.Refused]) -> None:
        self.scene.put_back(refused)
        words = (
            "Other objects are not painted over: finished ones stay as they are, and others change only "
            "with “Overwrite other objects” on."
        )
        self.interaction.said.emit(words)
        if not self._told:
            self._told = True
            notify(SessionError(words))

    def _on_selected_label(self, event: Any = None) -> None:
        if not self.scene.quiet and self.scene.labels.selected_label > 0:
            self.interaction.select(int(self.scene.labels.selected_label))

    # These come from the worker.

    def _labels_changed(self, plane: PlaneRef, _: Any) -> None:
        self._written.add(plane)
        self._look()

    def _labels_changed_here(self) -> None:
        on_screen, shown = self.interaction.on_screen(), False
        while self._written:
            plane = self._written.pop()
            shown |= on_screen is not None and on_screen.plane == plane
        if shown or self.scene.viewer.dims.ndisplay == 3:
            self._redraw()

    def _troubled(self, problem: SessionError) -> None:
        self.interaction.main(notify, problem)

    def _session_changed(self) -> None:
        self._tell()
