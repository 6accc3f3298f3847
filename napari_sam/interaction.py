"""What happens between the user's clicks and the labels: one interaction per viewer, shared by all widgets.

Everything in the plugin runs on the window's thread and returns at once; the network and the writing of labels
run on the inference worker.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image
from psygnal import Signal

from napari_sam import painting
from napari_sam.layers import OnScreen
from napari_sam.prompting import Prompting
from napari_sam.running import Running
from napari_sam.scene import Scene
from napari_sam.workers import MainThread, make_worker, notify
from src_core import zoo
from src_core.embeddings import EmbeddingCache
from src_core.errors import VolumeError
from src_core.predictor import Predictor
from src_core.session import Session
from src_core.types import PlaneRef
from src_core.worker import Job, Priority

if TYPE_CHECKING:
    import napari

NEIGHBOURS = 4
"""Slices embedded ahead on either side of the one on screen."""


class Interaction:
    """The state behind the panels.

    Attributes
    ----------
    scene, prompting, running
        The image being worked on, its prompts and candidates, its propagation; None until an image is chosen.
    cache
        Embeddings of the image with its present contrast, by the present network.
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
        self.model_name = "nano"
        self.predictor: Predictor | None = None
        self.scene: Scene | None = None
        self.prompting: Prompting | None = None
        self.running: Running | None = None
        self.cache: EmbeddingCache | None = None
        self._ahead: list[Job] = []
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
        scene = Scene(self.viewer, image, folder)
        self._leave()
        self.scene = scene
        self.prompting, self.running = Prompting(self, scene), Running(self, scene)
        scene.listen(image.events.contrast_limits, self._on_contrast)
        scene.listen(scene.labels.events.paint, self._on_paint)
        scene.listen(scene.labels.events.selected_label, self._on_selected_label)
        scene.listen(scene.session.labels_changed, self._labels_changed)
        scene.listen(scene.session.objects_changed, self._session_changed)
        scene.listen(scene.session.history_changed, self._session_changed)
        for layer in (scene.points, scene.boxes, scene.labels):
            layer.bind_key("Control-Z", lambda _: self.undo(), overwrite=True)
            layer.bind_key("Control-Shift-Z", lambda _: self.redo(), overwrite=True)
        self.renew_embeddings()
        self.show_current()
        self.said.emit("Click on an object.")

    def _leave(self) -> None:
        """Put the present image away, if there is one."""
        self.stop()
        scene, self.scene = self.scene, None
        self.prompting = self.running = self.cache = None
        if scene is not None:
            scene.close()

    def close(self) -> None:
        """End all work; what has been accepted is on disk already."""
        if self._closed:
            return
        self._closed = True
        self.main.close()
        self.stop()
        for job in self._ahead:
            job.cancel()
        self.worker.close()
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

    @property
    def session(self) -> Session | None:
        """Objects and labels of the image being worked on."""
        return self.scene.session if self.scene is not None else None

    @property
    def image(self) -> Image | None:
        """The image being worked on."""
        return self.scene.image if self.scene is not None else None

    # ------------------------------------------------------------- embeddings

    def set_model(self, name: str) -> None:
        """Use another network from the next click on; its file is read by the worker."""
        self.model_name = name
        self.renew_embeddings()

    def _load(self) -> Predictor:
        """Return the network, loading it if need be; on the worker."""
        if self.predictor is None or self.predictor.name != self.model_name:
            self.predictor = Predictor(zoo.load(self.model_name), self.model_name)
        return self.predictor

    def renew_embeddings(self) -> None:
        """Forget embeddings: the network, the channel or the contrast is another one."""
        on_screen, session = self.on_screen(), self.session
        if session is not None:
            self.cache = EmbeddingCache(
                self._load, session.volume, on_screen.channel if on_screen is not None else None
            )
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
        on_screen, cache, session = self.on_screen(), self.cache, self.session
        for job in self._ahead:
            job.cancel()
        self._ahead.clear()
        if on_screen is None or session is None or cache is None:
            return
        here = on_screen.plane
        count = session.volume.n_planes(here.axis) if here.axis else 1
        around = [here.index + s * k for k in range(1, NEIGHBOURS + 1) for s in (1, -1)]
        for index in (here.index, *(i for i in around if 0 <= i < count)):
            plane = PlaneRef(here.axis, index, here.t)
            if plane not in cache:
                priority = Priority.ON_SCREEN if index == here.index else Priority.NEIGHBOUR
                job = self.worker.submit(
                    lambda plane=plane: cache.get(plane), priority, self._embedded, self.failed
                )
                self._ahead.append(job)
        self.ready_changed.emit()

    def _embedded(self, _: Any) -> None:
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
        if self.scene is None or self.prompting is None:
            return
        if self.prompting.candidates is not None:
            self.accept()
        state = self.scene.session.new_object()
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
        if self.scene is None or self.prompting is None or self.running is None:
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
        if self.scene is not None and (shown or self.viewer.dims.ndisplay == 3):
            self.scene.refresh_labels()

    def _session_changed(self) -> None:
        self.main(self.changed.emit)

    def _on_removed(self, event: Any) -> None:
        scene = self.scene
        if scene is None or scene.quiet:
            return
        if event.value is scene.image or event.value in scene.layers:
            self._leave()
            self.said.emit("The layer was removed; choose an image to go on. Labels on disk are kept.")
            self.changed.emit()
