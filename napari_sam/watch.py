"""What follows when the viewer shows another slice, or loses a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam import undoing
from napari_sam.opengl import forget_arrays
from napari_sam.scene import Scene
from napari_sam.workers import Debounce, Once

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction


REST_MS = 200
"""How long the mouse and the camera must have been at rest before the tiles in view are embedded."""


class Watch:
    """Listens to a viewer until it is closed."""

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction
        viewer = interaction.viewer
        dims = viewer.dims.events
        # napari shows the slice first; while the slider is dragged, slices that have gone already are left out.
        self._moved = Once(interaction.main, self._another_slice)
        self._connected = [(e, self._on_dims) for e in (dims.current_step, dims.order, dims.ndisplay)]
        self._connected.append((viewer.layers.events.removing, self._on_removing))
        self._connected.append((viewer.layers.events.removed, self._on_removed))
        self._at_rest = Debounce(interaction.look, REST_MS)
        camera = getattr(viewer, "scene", viewer).camera.events  # napari 0.9 has moved it
        for moves in (camera.center, camera.zoom, viewer.cursor.events.position):
            self._connected.append((moves, self._on_move))
        for emitter, callback in self._connected:
            emitter.connect(callback)

    def close(self) -> None:
        """Stop listening."""
        for emitter, callback in self._connected:
            emitter.disconnect(callback)
        self._connected.clear()
        self._at_rest.close()

    def _on_dims(self, event: Any = None) -> None:
        self._moved()

    def _another_slice(self) -> None:
        interaction = self.interaction
        if interaction.prompting is None:
            return
        on_screen, cache = interaction.on_screen(), interaction.cache
        if on_screen is not None and cache is not None and cache.channel != on_screen.channel:
            interaction.renew_embeddings()
        else:
            interaction.look()
        interaction.prompting.moved(on_screen)

    def _on_move(self, event: Any = None) -> None:
        if self.interaction.scene is not None:
            self._at_rest()

    def _on_removing(self, event: Any = None) -> None:
        forget_arrays()

    def _on_removed(self, event: Any) -> None:
        interaction, scene = self.interaction, self.interaction.scene
        if scene is None or scene.quiet:
            return
        if event.value is scene.image or event.value is scene.labels:
            interaction.leave()
            interaction.said.emit("The layer was removed; choose an image to go on. Labels on disk are kept.")
            interaction.changed.emit()
        elif event.value in scene.layers:
            interaction.main(self._renew, scene, event.value)

    def _renew(self, scene: Scene, layer: Any) -> None:
        """Make a layer again that the user has deleted: work cannot go on without it."""
        interaction = self.interaction
        if interaction.scene is not scene or interaction.prompting is None or layer not in scene.layers:
            return
        scene.renew(layer)
        for fresh in (scene.points, scene.boxes):
            undoing.bind(interaction, fresh)
        interaction.prompting.drawing.layers_renewed()
        interaction.prompting.drawing.forget_deleted()
        interaction.said.emit(f"{layer.name} is needed here and has been made anew; what was in it is gone.")
