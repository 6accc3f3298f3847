"""From an image to its session: a new one, the one the user left, or labels from an earlier day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_sam import storage
from napari_sam.layers import volume_of
from src_core.session import Session
from src_core.worker import Priority

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.interaction import Interaction
    from napari_sam.scene import Scene


class Sessions:
    """Remembers anchors and history of the images of a viewer, for when the user comes back to one."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Image, Session] = WeakKeyDictionary()

    def of(self, image: Image, folder: Path | None) -> tuple[Session, bool]:
        """Return the session of an image, and whether its labels have to be searched for objects.

        Raises
        ------
        VolumeError, SessionError
            The image cannot be used, or its labels cannot be opened.
        """
        volume = volume_of(image)
        known = self._known.get(image)
        if known is not None and folder is None and known.volume.sizes == volume.sizes:
            known.volume = volume
            return known, False
        labels, existed = storage.open_labels(image, volume, folder)
        session = self._known[image] = Session(volume, labels, ids=())
        return session, existed

    def forget(self) -> None:
        """Let go of all sessions."""
        self._known.clear()


def adopt(interaction: Interaction, scene: Scene) -> None:
    """Look for the objects in labels from an earlier day; until then, clicks would not know their object."""
    interaction.loading = True
    scene.points.mode = "pan_zoom"
    interaction.said.emit("Reading the labels on disk…")

    def ready() -> None:
        interaction.loading = False
        scene.points.mode = "add"
        interaction.show_current()

    def adopted(ids: list[int]) -> None:
        if interaction.scene is scene:
            if ids:
                scene.session.adopt(ids)
            ready()
            again = f"{len(ids)} objects from before. N starts the next; or click to change one."
            interaction.said.emit(again if ids else "Click on an object.")

    def failed(error: BaseException) -> None:
        if interaction.scene is scene:
            ready()
        interaction.failed(error)

    interaction.worker.submit(scene.session.labels.object_ids, Priority.CLICK, adopted, failed)
