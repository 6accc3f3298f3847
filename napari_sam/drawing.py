"""What is drawn for objects: every stroke can be undone, is remembered, and asks the network anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam import remembered
from napari_sam.layers import on_plane
from napari_sam.prompt_layers import DELETE_KEYS, Drawn, deselect_newest, remove_points
from napari_sam.scene import Scene
from src_core.errors import SessionError

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction


class Drawing:
    """The points and boxes in a scene's layers.

    Parameters
    ----------
    interaction, scene
        What the user works on.
    ask, drop
        Called when what is drawn has changed: put it to the network; show no candidate any more.

    Attributes
    ----------
    negative
        Whether the next points are outside the object.
    """

    def __init__(
        self, interaction: Interaction, scene: Scene, ask: Callable[[], None], drop: Callable[[], None]
    ) -> None:
        self.interaction, self.scene = interaction, scene
        self._ask, self._drop = ask, drop
        self.negative = False
        self._drawn: Drawn
        self._listen()

    def layers_renewed(self) -> None:
        """Listen to the layers for prompts, which are new ones."""
        self._listen()
        self._drop()

    def _listen(self) -> None:
        scene = self.scene
        for layer in (scene.points, scene.boxes):
            layer.events.data.disconnect(self._on_drawn)
            scene.listen(layer.events.data, self._on_drawn)
        for key in DELETE_KEYS:
            scene.points.bind_key(key, self._remove_points, overwrite=True)
        self._drawn = Drawn.of(scene.points, scene.boxes)
        scene.set_defaults(self.negative)

    def flip_sign(self) -> None:
        """Make the next points negative, or positive again."""
        self.negative = not self.negative
        self.scene.set_defaults(self.negative)
        words = (
            "Next points are outside the object." if self.negative else "Next points are inside the object."
        )
        self.interaction.said.emit(words)
        self.interaction.changed.emit()

    def _on_drawn(self, event: Any) -> None:
        # ADDING, REMOVING and CHANGING come before the layer has changed.
        if self.scene.quiet or str(event.action).split(".")[-1].lower() not in (
            "added",
            "removed",
            "changed",
        ):
            return
        scene, main = self.scene, self.interaction.main
        if scene.session.read_only:  # a script has drawn: the layers themselves are locked
            main(self._restore, self._drawn)
            self.interaction.failed(SessionError(scene.session.read_only))
            return
        scene.show_drawn()
        before, now = self._drawn, Drawn.of(scene.points, scene.boxes)
        self._drawn = now
        scene.session.note(
            "prompt",
            lambda: main(self._restore, before),
            lambda: main(self._restore, now),
            remembered.changed(scene.session, now),
        )
        scene.set_defaults(self.negative)
        self._ask()
        # napari selects a new point only after it has told of it.
        main(self._deselect)

    def _deselect(self) -> None:
        deselect_newest(self.scene.points)
        self.scene.set_defaults(self.negative)

    def _remove_points(self, layer: Any) -> None:
        scene, on_screen = self.scene, self.interaction.on_screen()
        if on_screen is not None and len(layer.data):
            here = on_plane(scene.image, on_screen, layer, layer.data)
            remove_points(layer, here & np.asarray(layer.shown))

    def forget_deleted(self) -> None:
        """Take note that prompts have gone with their layer, which no undo brings back."""
        self.scene.session.remember(remembered.changed(self.scene.session, self._drawn))

    def catch_up(self) -> None:
        """Draw the session's prompts where the layers show others: after a restart, or when objects have gone."""
        session, drawn = self.scene.session, Drawn.of(self.scene.points, self.scene.boxes)
        if remembered.differs(session, drawn):
            self._restore(remembered.redrawn(session, self.scene.image.ndim))

    def _restore(self, drawn: Drawn) -> None:
        scene = self.scene
        scene.quiet = True
        try:
            drawn.put_back(scene.points, scene.boxes)
        finally:
            scene.quiet = False
        if scene.session.read_only:
            scene.lock()
        # New features bring defaults of napari's own: the next shape would belong to no object.
        scene.set_defaults(self.negative)
        self._drawn = drawn
        scene.show_drawn()
        self._drop()
        self._ask()
