"""What happens between the user's clicks and the labels: one interaction per viewer, shared by all widgets.

Everything in the plugin runs on the window's thread and returns at once; the network and the writing of labels
run on the inference worker.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image, Layer
from psygnal import Signal

from napari_sam import undoing
from napari_sam.ahead import Ahead
from napari_sam.layer_import import LayerImport
from napari_sam.layers import OnScreen, view_on_screen
from napari_sam.opening import Sessions, adopt, tell
from napari_sam.prompting import Prompting
from napari_sam.reactions import Reactions
from napari_sam.reviewing import Reviewing
from napari_sam.running import Running
from napari_sam.scene import Scene
from napari_sam.watch import Watch
from napari_sam.workers import MainThread, make_worker, notify
from src_core.embeddings import EmbeddingCache
from src_core.errors import SamError, SessionError, VolumeError
from src_core.session import Session
from src_core.tiles import View

if TYPE_CHECKING:
    import napari


class Interaction:
    """The state behind the panels.

    Attributes
    ----------
    scene, prompting, running
        The image being worked on, its prompts and candidates, its propagation; None until an image is chosen.
    ahead, review
        The network with its embeddings; the way from one unsure slice to the next.
    loading
        Whether the objects in labels from an earlier day are still being looked for.
    follow
        Whether the view goes along with a propagation, a few slices a second.
    """

    changed = Signal()
    """Anything a panel shows: image, object, candidates, history."""
    ready_changed = Signal()
    """Another slice's embedding is there, or another slice is on screen."""
    progress_changed = Signal(object, object)
    """(progress of the long work under way or None at the end, seconds left or None)"""
    said = Signal(str)
    """A sentence for the status line."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self.viewer = viewer
        self.main = MainThread()
        self.worker = make_worker(self.main)
        self.ahead = Ahead(self)
        self.review = Reviewing(self)
        self.scene: Scene | None = None
        self.prompting: Prompting | None = None
        self.running: Running | None = None
        self.loading = False
        self.follow = False
        self._sessions = Sessions()
        self._reactions: Reactions | None = None
        self._closed = False
        self._watch = Watch(self)

    # ------------------------------------------------------------ start and end

    def start(self, image: Image, folder: Path | None = None) -> None:
        """Begin on an image: make the layers to click in, and open the labels, or go on with those on disk.

        Raises
        ------
        VolumeError, SessionError
            The image cannot be used, or its labels cannot be opened.
        """
        if self.scene is not None and image is self.scene.image and not self.scene.session.read_only:
            return
        session, search = self._sessions.of(image, folder)
        self.leave()
        scene = self.scene = Scene(self.viewer, image, session)
        self.prompting, self.running = Prompting(self, scene), Running(self, scene)
        self._reactions = Reactions(self, scene)
        for layer in (scene.points, scene.boxes, scene.labels):
            undoing.bind(self, layer)
        self.renew_embeddings()
        self.show_current()
        self.said.emit("Click on an object.")
        if search:
            adopt(self, scene)
        else:
            tell(session)

    def leave(self, *, remove: bool = True, keep_labels: bool = False) -> None:
        """Put the present image away, if there is one."""
        if self.running is not None:
            self.running.close()
        if self._reactions is not None:
            self._reactions.close()
        scene, self.scene, self._reactions = self.scene, None, None
        self.prompting = self.running = None
        self.loading = False
        self.ahead.renew(None, None)
        if scene is not None:
            undoing.unbind(scene.labels)
            scene.close(remove=remove, keep_labels=keep_labels)

    def close(self, *, viewer_stays: bool = False, wait_s: float = 2.0) -> None:
        """End all work; what has been accepted is on disk already.

        The labels stay on view in a viewer that stays; the worker gets `wait_s` for the step under way.
        """
        if self._closed:
            return
        self._closed = True
        self.leave(remove=viewer_stays, keep_labels=True)
        self._watch.close()
        self.main.close()
        self.worker.close(wait_s)
        self._sessions.forget()

    def idle(self) -> bool:
        """Say whether nothing is under way, here or on the worker."""
        return self.worker.idle() and self.main.idle()

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

    def view(self) -> View | None:
        """Return what of the slice on screen the canvas shows, and where the mouse is; None without an image."""
        on_screen = self.on_screen()
        if self.scene is None or on_screen is None:
            return None
        return view_on_screen(self.viewer, self.scene.image, on_screen)

    def look(self) -> None:
        """Embed the slice on screen, then its neighbours, in the background."""
        self.ahead.look(self.on_screen(), self.view())
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
            self.prompting.drawing.flip_sign()

    def next_object(self) -> None:
        """Keep a waiting candidate and start the next object."""
        if self.scene is None or self.prompting is None or self._busy_loading():
            return
        if self.prompting.to_keep:
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
        """Show the current object's prompts and candidate."""
        if self.scene is None or self.prompting is None:
            return
        self.scene.set_defaults(self.prompting.drawing.negative)
        self.scene.show_current()
        self.prompting.drop()
        self.prompting.moved(self.on_screen())

    def propagate(
        self, identities: list[int] | None = None, start: int | None = None, stop: int | None = None
    ) -> None:
        """Keep a waiting candidate and carry objects (the current one by default) through the stack."""
        self._propagate(lambda session: identities or [session.current], start, stop)

    def propagate_all(self, start: int | None = None, stop: int | None = None) -> None:
        """Keep a waiting candidate and carry every object that is not finished through the stack."""
        self._propagate(lambda session: session.unfinished(), start, stop)

    def _propagate(self, which: Callable[[Session], list[int]], start: int | None, stop: int | None) -> None:
        if self.scene is None or self.prompting is None or self.running is None or self._busy_loading():
            return
        running, session = self.running, self.scene.session

        def begin() -> None:
            if self.running is running:
                running.start(which(session), start, stop)

        if not (self.prompting.to_keep and self.prompting.accept(then=begin)):
            self.prompting.after_keeping(begin)

    def worst_slice(self) -> None:
        """Go to the slice that most needs a look."""
        self.review.go_to_worst()

    def right_slice(self) -> None:
        """Keep what is on this slice, and go to the next worst."""
        self.review.accept()

    def use_layer(self, layer: Layer) -> None:
        """Make objects of a points, shapes or labels layer that the user made or loaded."""
        if self.scene is None or self._busy_loading():
            return
        try:
            LayerImport(self, self.scene, layer).start()
        except SamError as error:
            self.failed(error)

    def stop(self) -> None:
        """Stop the propagation or import under way; what is done stays."""
        if self.running is not None:
            self.running.stop()

    @property
    def propagating(self) -> bool:
        """Whether a propagation, or the import of a layer, is under way."""
        return self.running is not None and self.running.active

    def undo(self) -> None:
        """Undo the latest thing: a point, an accepted mask, a stroke, a propagation."""
        undoing.replay(self, "undo")

    def redo(self) -> None:
        """Do again what was undone last."""
        undoing.replay(self, "redo")

    def busy(self) -> bool:
        """Say whether long work is under way, and tell the user to stop it first."""
        if self.propagating:
            self.said.emit("Stop what is under way first (Shift-G).")
        return self.propagating

    def _busy_loading(self) -> bool:
        if self.loading:
            self.said.emit("Still reading the labels on disk…")
        return self.loading

    def failed(self, error: BaseException) -> None:
        """Tell the user what went wrong."""
        self.said.emit(str(error))
        notify(error)
        self.changed.emit()
