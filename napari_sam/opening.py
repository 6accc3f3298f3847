"""From an image to its session: a new one, the one the user left, or labels from an earlier day."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_sam import storage
from napari_sam.layers import volume_of
from napari_sam.workers import notify
from src_core.errors import SessionError
from src_core.session import Session, begin_anew, go_on
from src_core.session.waiting import unpack
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
        same = known is not None and folder is None and known.volume.sizes == volume.sizes
        if known is not None and same and not known.read_only:
            known.volume = volume
            return known, False
        path = storage.labels_path(image, folder)
        # The same file opened once more: only one of its layers can go on.
        for other, session in [*self._known.items()]:
            if other is image or session.labels.path == path:
                session.close()
                del self._known[other]
        labels, existed = storage.open_labels(image, volume, folder)
        session = self._known[image] = Session(volume, labels, ids=())
        if not existed:
            begin_anew(session)
        return session, existed

    def forget(self) -> None:
        """Close all sessions and let go of them."""
        for session in self._known.values():
            session.close()
        self._known.clear()


def adopt(interaction: Interaction, scene: Scene) -> None:
    """Go on with labels from an earlier day; until then, clicks would not know their object."""
    interaction.loading = True
    scene.points.mode = "pan_zoom"
    interaction.said.emit("Reading the labels on disk…")
    session = scene.session

    def ready() -> None:
        if interaction.scene is not scene or interaction.prompting is None:
            return
        interaction.loading = False
        scene.points.mode = "add"
        if session.read_only:
            scene.look_only()
        waiting = session.waiting
        interaction.prompting.drawing.catch_up()
        interaction.show_current()
        if waiting is not None:
            interaction.prompting.show_waiting(unpack(waiting))
        tell(session)

    def adopted(_: bool) -> None:
        ready()
        if interaction.scene is scene:
            interaction.said.emit(_welcome(session))

    def failed(error: BaseException) -> None:
        ready()
        interaction.failed(error)

    interaction.worker.submit(lambda: go_on(session), Priority.CLICK, adopted, failed)


def _welcome(session: Session) -> str:
    """Say what is there and what can be done with it."""
    count = len(session.objects)
    there = f"{count} object{'' if count == 1 else 's'} from before."
    if session.read_only:
        return f"{there} Another window works on this image: here it can only be looked at."
    return f"{there} N starts the next; or click to change one." if count else "Click on an object."


def tell(session: Session) -> None:
    """Tell the user, once, if nothing can be changed, or nothing can be written down."""
    if session.read_only:
        notify(SessionError(session.read_only))
    elif session.problem is not None:
        notify(session.problem)
