"""What happens between the user's clicks and the labels: one interaction per viewer, shared by all widgets.

Everything in the plugin runs on the window's thread and returns at once; the network and the writing of labels
run on the inference worker.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from napari.layers import Image
from psygnal import Signal

from napari_sam import painting, storage
from napari_sam.ahead import Ahead
from napari_sam.layers import OnScreen, volume_of
from napari_sam.prompting import Prompting
from napari_sam.running import Running
from napari_sam.scene import Scene
from napari_sam.workers import MainThread, Throttle, make_worker, notify
from src_core.embeddings import EmbeddingCache
from src_core.errors import SessionError, VolumeError
from src_core.session import Session
from src_core.types import PlaneRef
from src_core.worker import Priority

if TYPE_CHECKING:
    import napari

REFRESH_MS = 80
"""Shortest time between two redraws of the labels while a propagation fills the slice on screen."""


class Interaction:
    """The state behind the panels.

    Attributes
    ----------
    scene, prompting, running
        The image being worked on, its prompts and candidates, its propagation; None until an image is chosen.
    ahead
        The network and its embeddings.
    loading
        Whether the objects in labels from an earlier day are still being looked for.
    """

    changed = Signal()
    """Anything a panel shows: image, object, candidates, history."""
    ready_changed = Signal()
    """Another slice's embedding is there, or another slice is on screen."""
    progress_changed = Signal(object, object)
    """(PropagationProgress or None at the end, seconds left or None)"""
    said = Signal(str)
    """A sentence for the status line."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.main = MainThread()
        self.worker = make_worker(self.main)
        self.ahead = Ahead(self)
        self.scene: Scene | None = None
        self.prompting: Prompting | None = None
        self.running: Running | None = None
        self.loading = False
        # Anchors and history of images the user may come back to.
        self._sessions: WeakKeyDictionary[Image, Session] = WeakKeyDictionary()
        self._redraw = Throttle(self._redraw_labels, REFRESH_MS)
        self._closed = False
        for emitter in (
            viewer.dims.events.current_step,
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
        ):
            emitter.connect(self._on_dims)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.mouse_drag_callbacks.append(self._on_press)

    # ------------------------------------------------------------ start and end

    def start(self, image: Image, folder: Path | None = None) -> None:
        """Begin on an image: make the layers to click in, and open the labels, or go on with those on disk.

        Raises
        ------
        VolumeError, SessionError
            The image cannot be used, or its labels cannot be opened.
        """
        if self.scene is not None and image is self.scene.image:
            return
        session, found = self._session_of(image, folder)
        self._leave()
        scene = self.scene = Scene(self.viewer, image, session)
        self.prompting, self.running = Prompting(self, scene), Running(self, scene)
        scene.listen(image.events.contrast_limits, self._on_contrast)
        scene.listen(scene.labels.events.paint, self._on_paint)
        scene.listen(scene.labels.events.selected_label, self._on_selected_label)
        scene.listen(session.labels_changed, self._labels_changed)
        scene.listen(session.objects_changed, self._session_changed)
        scene.listen(session.history_changed, self._session_changed)
        for layer in (scene.points, scene.boxes, scene.labels):
            self._bind_undo(layer)
        self.renew_embeddings()
        self.show_current()
        self.said.emit("Click on an object.")
        if found:
            self._adopt(scene)

    def _session_of(self, image: Image, folder: Path | None) -> tuple[Session, bool]:
        """Return what is known of an image, and whether its labels have to be searched for objects."""
        known = self._sessions.get(image)
        if known is not None and folder is None:
            known.volume = volume_of(image)
            return known, False
        volume = volume_of(image)
        labels, existed = storage.open_labels(image, volume, folder)
        session = self._sessions[image] = Session(volume, labels, ids=())
        return session, existed

    def _adopt(self, scene: Scene) -> None:
        """Look for objects in labels from an earlier day; until then, clicks would not know their object."""
        self.loading = True
        scene.points.mode = "pan_zoom"
        self.said.emit("Reading the labels on disk…")

        def adopted(ids: list[int]) -> None:
            if self.scene is not scene:
                return
            self.loading = False
            if ids:
                scene.session.adopt(ids)
            scene.points.mode = "add"
            self.show_current()
            self.said.emit(f"{len(ids)} objects from before. N starts the next; or click to change one.")

        def failed(error: BaseException) -> None:
            self.loading = False
            self.failed(error)

        self.worker.submit(scene.session.labels.object_ids, Priority.CLICK, adopted, failed)

    def _bind_undo(self, layer: Any) -> None:
        layer.bind_key("Control-Z", lambda _: self.undo(), overwrite=True)
        layer.bind_key("Control-Shift-Z", lambda _: self.redo(), overwrite=True)

    def _leave(self, *, remove: bool = True, keep_labels: bool = False) -> None:
        """Put the present image away, if there is one."""
        self.stop()
        self._redraw.close()
        scene, self.scene = self.scene, None
        self.prompting = self.running = None
        self.loading = False
        self.ahead.renew(None, None)
        if scene is not None:
            for key in ("Control-Z", "Control-Shift-Z"):
                scene.labels.bind_key(key, None, overwrite=True)
            scene.close(remove=remove, keep_labels=keep_labels)

    def close(self, *, viewer_stays: bool = False, wait_s: float = 2.0) -> None:
        """End all work; what has been accepted is on disk already.

        The labels stay on view in a viewer that stays; the worker gets `wait_s` for the step under way.
        """
        if self._closed:
            return
        self._closed = True
        dims = self.viewer.dims.events
        for emitter, callback in (
            (dims.current_step, self._on_dims),
            (dims.order, self._on_dims),
            (dims.ndisplay, self._on_dims),
            (self.viewer.layers.events.removed, self._on_removed),
        ):
            emitter.disconnect(callback)
        if self._on_press in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_press)
        self._leave(remove=viewer_stays, keep_labels=True)
        self._sessions.clear()
        self.main.close()
        self.worker.close(wait_s)

    @property
    def session(self) -> Session | None:
        """Objects and labels of the image being worked on."""
        return self.scene.session if self.scene is not None else None

    @property
    def image(self) -> Image | None:
        """The image being worked on."""
        return self.scene.image if self.scene is not None else None

    # ------------------------------------------------------------- embeddings

    @property
    def cache(self) -> EmbeddingCache | None:
        """Embeddings of the image being worked on."""
        return self.ahead.cache

    def set_model(self, name: str) -> None:
        """Use another network from the next click on; its file is read by the worker."""
        self.ahead.model_name = name
        self.renew_embeddings()

    def renew_embeddings(self) -> None:
        """Forget embeddings: the network, the channel or the contrast is another one."""
        self.ahead.renew(self.session, self.on_screen())
        self.look()

    def on_screen(self) -> OnScreen | None:
        """Return the plane the viewer shows; None, with a word why, where it is no plane of the image."""
        if self.scene is None:
            return None
        try:
            return self.scene.on_screen()
        except VolumeError as error:
            self.said.emit(str(error))
            return None

    def look(self) -> None:
        """Embed the slice on screen, then its neighbours, in the background."""
        self.ahead.look(self.on_screen())
        self.ready_changed.emit()

    # ------------------------------------------------------- what keys and buttons do

    def accept(self) -> bool:
        """Keep the candidate: it is written to the labels and its slice becomes an anchor."""
        return self.prompting.accept() if self.prompting is not None else False

    def cycle(self) -> None:
        """Show the next candidate."""
        if self.prompting is not None:
            self.prompting.choose(self.prompting.chosen + 1)

    def flip_sign(self) -> None:
        """Make the next points negative, or positive again."""
        if self.prompting is not None:
            self.prompting.flip_sign()

    def next_object(self) -> None:
        """Keep a waiting candidate and start the next object."""
        if self.scene is None or self.prompting is None or self._busy_loading():
            return
        if self.prompting.candidates is not None:
            self.accept()
        try:
            state = self.scene.session.new_object()
        except SessionError as error:
            self.failed(error)
            return
        self.show_current()
        self.said.emit(f"Object {state.id}: click on it.")

    def select(self, identity: int) -> None:
        """Make another object the current one."""
        if self.scene is not None and identity != self.scene.session.current:
            self.scene.session.select(identity)
            self.show_current()

    def show_current(self) -> None:
        """Show the current object's prompts and candidate, and its labels as they are now."""
        if self.scene is None or self.prompting is None:
            return
        self.scene.set_defaults(self.prompting.negative)
        self.scene.show_current()
        self.scene.refresh_labels()
        self.prompting.drop()
        self.prompting.moved(self.on_screen())

    def propagate(
        self, identities: list[int] | None = None, start: int | None = None, stop: int | None = None
    ) -> None:
        """Keep a waiting candidate and carry objects (the current one by default) through the stack."""
        if self.scene is None or self.prompting is None or self.running is None or self._busy_loading():
            return
        if self.prompting.candidates is not None:
            self.accept()
        self.running.start(identities or [self.scene.session.current], start, stop)

    def stop(self) -> None:
        """Stop the propagation under way; what is done stays."""
        if self.running is not None:
            self.running.stop()

    @property
    def propagating(self) -> bool:
        """Whether a propagation is under way."""
        return self.running is not None and self.running.active

    def undo(self) -> None:
        """Undo the latest thing: a point, an accepted mask, a stroke, a propagation."""
        self._replay("undo")

    def redo(self) -> None:
        """Do again what was undone last."""
        self._replay("redo")

    def _replay(self, what: str) -> None:
        session = self.session
        if session is None:
            return
        if self.propagating:
            self.said.emit("Stop the propagation first.")
            return

        def replayed(name: str | None) -> None:
            self.said.emit(f"{what.capitalize()}: {name}." if name else f"Nothing to {what}.")

        work = session.undo if what == "undo" else session.redo
        self.worker.submit(work, Priority.CLICK, replayed, self.failed)

    def _busy_loading(self) -> bool:
        if self.loading:
            self.said.emit("Still reading the labels on disk…")
        return self.loading

    # ------------------------------------------------------------------ events

    def failed(self, error: BaseException) -> None:
        """Tell the user what went wrong."""
        self.said.emit(str(error))
        notify(error)
        self.changed.emit()

    def _on_press(self, viewer: Any, event: Any) -> Any:
        """Make a point negative while Shift is held; napari adds it on release, after this callback."""
        scene, prompting = self.scene, self.prompting
        if scene is not None and prompting is not None and viewer.layers.selection.active is scene.points:
            shifted = any(str(m).split(".")[-1] == "Shift" for m in event.modifiers)
            scene.set_defaults(prompting.negative != shifted)
        yield

    def _on_dims(self, event: Any = None) -> None:
        if self.prompting is None:
            return
        on_screen = self.on_screen()
        if on_screen is not None and self.cache is not None and self.cache.channel != on_screen.channel:
            self.renew_embeddings()
        else:
            self.look()
        self.prompting.moved(on_screen)

    def _on_contrast(self, event: Any = None) -> None:
        if self.scene is not None:
            self.scene.renew_contrast()
            self.renew_embeddings()

    def _on_paint(self, event: Any) -> None:
        on_screen = self.on_screen()
        if self.scene is not None and on_screen is not None:
            self.scene.session.record(painting.patches(self.scene.labels.data, event.value, on_screen))

    def _on_selected_label(self, event: Any = None) -> None:
        if self.scene is not None and not self.scene.quiet and self.scene.labels.selected_label > 0:
            self.select(int(self.scene.labels.selected_label))

    def _labels_changed(self, plane: PlaneRef, _: Any) -> None:
        self.main(self._labels_changed_here, plane)

    def _labels_changed_here(self, plane: PlaneRef) -> None:
        on_screen = self.on_screen()
        shown = on_screen is not None and on_screen.plane == plane
        if shown or self.viewer.dims.ndisplay == 3:
            self._redraw()

    def _redraw_labels(self) -> None:
        if self.scene is not None:
            self.scene.refresh_labels()

    def _session_changed(self) -> None:
        self.main(self.changed.emit)

    def _on_removed(self, event: Any) -> None:
        scene = self.scene
        if scene is None or scene.quiet:
            return
        if event.value is scene.image or event.value is scene.labels:
            self._leave()
            self.said.emit("The layer was removed; choose an image to go on. Labels on disk are kept.")
            self.changed.emit()
        elif event.value in scene.layers:
            self.main(self._renew, scene, event.value)

    def _renew(self, scene: Scene, layer: Any) -> None:
        """Make a layer again that the user has deleted: work cannot go on without it."""
        if self.scene is not scene or self.prompting is None or layer not in scene.layers:
            return
        scene.renew(layer)
        for fresh in (scene.points, scene.boxes):
            self._bind_undo(fresh)
        self.prompting.layers_renewed()
        self.said.emit(f"{layer.name} is needed here and has been made anew; what was in it is gone.")
