"""What happens between the user's clicks and the labels: one interaction per viewer, shared by all widgets.

Everything here runs on the window's thread and returns at once; the network runs on the inference worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels
from psygnal import Signal

from napari_sam import painting, storage
from napari_sam.layers import OnScreen, plane_on_screen, prompts_on_plane, volume_of
from napari_sam.prompt_layers import (
    LABELS,
    Drawn,
    Preview,
    boxes_layer,
    placed_like,
    points_layer,
    style_points,
)
from napari_sam.workers import MainThread, make_worker, notify
from src_core import zoo
from src_core.embeddings import EmbeddingCache
from src_core.errors import SamError, VolumeError
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.session import Session
from src_core.session_propagation import PropagationProgress, propagate_session
from src_core.types import Candidates, PlaneRef
from src_core.worker import Job, Priority

if TYPE_CHECKING:
    import napari
    from napari.layers import Points, Shapes

Refined = tuple[np.ndarray, tuple[float, float, float, float]]
"""Logits of an answer and the window they cover."""

NEIGHBOURS = 4
"""Slices embedded ahead on either side of the one on screen."""


class Interaction:
    """The state behind the panel.

    Attributes
    ----------
    session
        Objects and labels, None until an image is chosen.
    candidates, chosen
        The decoder's offer for the current object on the slice on screen, and which one is shown.
    """

    changed = Signal()
    """Anything a panel shows: image, object, candidates, history."""
    ready_changed = Signal()
    """Another slice's embedding is there, or the slice on screen is another."""
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
        self.image: Image | None = None
        self.session: Session | None = None
        self.cache: EmbeddingCache | None = None
        self.points: Points | None = None
        self.boxes: Shapes | None = None
        self.labels: Labels | None = None
        self.preview: Preview | None = None
        self.candidates: Candidates | None = None
        self.chosen = 0
        self.negative = False
        self._asked: tuple[PlaneRef, int, Prompts] | None = None
        self._click: Job | None = None
        self._ahead: list[Job] = []
        self._running: Job | None = None
        self._drawn: Drawn | None = None
        self._quiet = False
        self._closed = False
        self._cleanups: list[Callable[[], None]] = []
        self._listen(viewer.dims.events, ("current_step", "order", "ndisplay"), self._on_dims)
        self._listen(viewer.layers.events, ("removed",), self._on_removed)
        viewer.mouse_drag_callbacks.append(self._on_press)
        self._cleanups.append(lambda: _discard(viewer.mouse_drag_callbacks, self._on_press))

    # ------------------------------------------------------------------ set up

    def start(self, image: Image, folder: Path | None = None) -> None:
        """Begin on an image: make the layers to click in, and open the labels, or go on with those on disk.

        Raises
        ------
        VolumeError, SessionError
            The image cannot be used, or its labels cannot be opened.
        """
        if image is self.image:
            return
        volume = volume_of(image)
        labels = storage.open_labels(image, volume, folder)
        self.stop()
        self._remove_layers()
        active = self.viewer.layers.selection.active
        self.image, self.session = image, Session(volume, labels)
        self._quiet = True
        try:
            self.labels = self.viewer.add_labels(
                storage.layer_data(image, labels), name=LABELS, opacity=0.5, **placed_like(image)
            )
            self.preview = Preview(self.viewer, image)
            self.boxes = boxes_layer(self.viewer, image)
            self.points = points_layer(self.viewer, image)
        finally:
            self._quiet = False
        self.points.mode = "add"
        self.viewer.layers.selection.active = self.points if active in (image, None) else active
        self.viewer.layers.selection.active = self.points
        self._drawn = Drawn.of(self.points, self.boxes)
        self._connect_layers()
        self._new_cache()
        self._show_current()
        self.said.emit("Click on an object.")

    def set_model(self, name: str) -> None:
        """Use another network from the next click on; its file is read by the worker."""
        self.model_name = name
        self._new_cache()

    def _new_cache(self) -> None:
        """Forget embeddings: the network, the image or its contrast is another one."""
        self.cache = None
        if self.session is not None:
            self.cache = EmbeddingCache(self._load, self.session.volume, self._channel())
        self.look()

    def _connect_layers(self) -> None:
        image, points, boxes, labels, session = self.image, self.points, self.boxes, self.labels, self.session
        if image is None or points is None or boxes is None or labels is None or session is None:
            return
        self._listen(image.events, ("contrast_limits",), self._on_contrast)
        self._listen(points.events, ("data",), self._on_drawn)
        self._listen(boxes.events, ("data",), self._on_drawn)
        self._listen(labels.events, ("paint",), self._on_paint)
        self._listen(labels.events, ("selected_label",), self._on_selected_label)
        session.labels_changed.connect(self._labels_changed)
        session.objects_changed.connect(self._session_changed)
        session.history_changed.connect(self._session_changed)
        for layer in (points, boxes, labels):
            layer.bind_key("Control-Z", lambda _: self.undo(), overwrite=True)
            layer.bind_key("Control-Shift-Z", lambda _: self.redo(), overwrite=True)

    def _listen(self, group: Any, names: tuple[str, ...], callback: Callable[..., Any]) -> None:
        for name in names:
            emitter = getattr(group, name)
            emitter.connect(callback)
            self._cleanups.append(lambda emitter=emitter: emitter.disconnect(callback))

    def close(self) -> None:
        """End all work; what has been accepted is on disk already."""
        if self._closed:
            return
        self._closed = True
        self.main.close()
        for job in [self._click, self._running, *self._ahead]:
            if job is not None:
                job.cancel()
        self.worker.close()
        for clean in self._cleanups:
            try:
                clean()
            except (RuntimeError, ValueError, KeyError, TypeError):
                pass  # the layer or the viewer has gone before us
        self._cleanups.clear()

    # ------------------------------------------------------------- embeddings

    def _load(self) -> Predictor:
        """Load the network, on the worker, unless it is there."""
        if self.predictor is None or self.predictor.name != self.model_name:
            self.predictor = Predictor(zoo.load(self.model_name), self.model_name)
        return self.predictor

    def _channel(self) -> int | None:
        on_screen = self.on_screen()
        return on_screen.channel if on_screen is not None and self.session is not None else None

    def on_screen(self) -> OnScreen | None:
        """Return the plane the viewer shows; None, with a notification, where it is no plane of the image."""
        if self.image is None:
            return None
        try:
            return plane_on_screen(self.viewer, self.image)
        except VolumeError as error:
            self.said.emit(str(error))
            return None

    def look(self) -> None:
        """Embed the slice on screen, then its neighbours, in the background."""
        on_screen, cache = self.on_screen(), self.cache
        if on_screen is None or self.session is None or cache is None:
            return
        for job in self._ahead:
            job.cancel()
        self._ahead.clear()
        here = on_screen.plane
        count = self.session.volume.n_planes(here.axis) if here.axis else 1
        around = [here.index + s * k for k in range(1, NEIGHBOURS + 1) for s in (1, -1)]
        wanted = [here.index, *(i for i in around if 0 <= i < count)]
        for index in wanted:
            plane = PlaneRef(here.axis, index, here.t)
            if plane in cache:
                continue
            priority = Priority.ON_SCREEN if index == here.index else Priority.NEIGHBOUR
            job = self.worker.submit(
                lambda plane=plane: cache.get(plane), priority, self._embedded, self._failed
            )
            self._ahead.append(job)
        self.ready_changed.emit()

    def _embedded(self, _: Any) -> None:
        self.ready_changed.emit()

    # ----------------------------------------------------------------- prompts

    def ask(self) -> None:
        """Put what is drawn for the current object on this slice to the network."""
        on_screen = self.on_screen()
        session, image, cache = self.session, self.image, self.cache
        if on_screen is None or session is None or image is None or cache is None:
            return
        plane, identity = on_screen.plane, session.current
        shape = session.volume.plane_shape(plane.axis)
        try:
            prompts = prompts_on_plane(image, on_screen, shape, self.points, self.boxes, identity=identity)
        except SamError as error:
            notify(error)
            return
        if prompts is None:
            self._drop_candidates()
            return
        if self._click is not None:
            self._click.cancel()
        feedback = self._feedback(plane, identity, prompts)

        def answer() -> Candidates:
            existing = session.mask(plane, identity) if feedback is None and prompts.mask is None else None
            asked = _with_mask(prompts, feedback, existing)
            return cache.predictor.predict(cache.get(plane), asked, multimask=True)

        self.said.emit("Looking…")
        self._click = self.worker.submit(
            answer,
            Priority.CLICK,
            lambda found: self._answered(plane, identity, prompts, found),
            self._failed,
        )

    def _feedback(self, plane: PlaneRef, identity: int, prompts: Prompts) -> Refined | None:
        """Return the answer to refine: the one on screen, if these prompts only add to its."""
        if self._asked is None or self.candidates is None:
            return None
        last_plane, last_identity, last = self._asked
        n = len(last.points_yx)
        grows = n < len(prompts.points_yx) and np.array_equal(prompts.points_yx[:n], last.points_yx)
        same = (last_plane, last_identity) == (plane, identity) and prompts.box_yxyx == last.box_yxyx
        return (self.candidates.logits[self.chosen], self.candidates.window) if grows and same else None

    def _answered(self, plane: PlaneRef, identity: int, prompts: Prompts, found: Candidates) -> None:
        on_screen = self.on_screen()
        if on_screen is None or on_screen.plane != plane or self.session is None:
            return
        if self.session.current != identity or self.preview is None:
            return
        self.candidates, self.chosen, self._asked = found, 0, (plane, identity, prompts)
        self._show_candidate(on_screen)
        self.ready_changed.emit()

    def _show_candidate(self, on_screen: OnScreen) -> None:
        if self.candidates is None or self.preview is None:
            return
        self.preview.show(on_screen, self.candidates.masks[self.chosen])
        score = float(self.candidates.scores[self.chosen])
        self.said.emit(f"Candidate {self.chosen + 1} of {len(self.candidates)}, score {score:.2f}.")
        self.changed.emit()

    def choose(self, index: int) -> None:
        """Show another candidate."""
        on_screen = self.on_screen()
        if self.candidates is not None and on_screen is not None:
            self.chosen = index % len(self.candidates)
            self._show_candidate(on_screen)

    def cycle(self) -> None:
        """Show the next candidate."""
        self.choose(self.chosen + 1)

    def _drop_candidates(self) -> None:
        self.candidates, self._asked, self.chosen = None, None, 0
        if self._click is not None:
            self._click.cancel()
        if self.preview is not None:
            self.preview.clear()
        self.changed.emit()

    def flip_sign(self) -> None:
        """Make the next points negative, or positive again."""
        self.negative = not self.negative
        self._set_defaults(self.negative)
        self.said.emit("Next points are outside the object." if self.negative else "Next points are inside.")
        self.changed.emit()

    def _set_defaults(self, negative: bool) -> None:
        if self.points is not None and self.boxes is not None and self.session is not None:
            identity = self.session.current
            self.points.feature_defaults = {
                "object": identity,
                "label": "negative" if negative else "positive",
            }
            self.boxes.feature_defaults = {"object": identity}

    def _on_press(self, viewer: Any, event: Any) -> Any:
        """Shift and click is a negative point."""
        if viewer.layers.selection.active is self.points and self.points is not None:
            shifted = "Shift" in [str(m).split(".")[-1] for m in event.modifiers]
            self._set_defaults(self.negative != shifted)
            yield
            while event.type == "mouse_move":
                yield
            # The point itself is added on release, after this callback.
        else:
            yield

    # ----------------------------------------------------------------- objects

    def accept(self) -> bool:
        """Keep the candidate: it is written to the labels and its slice becomes an anchor."""
        session, asked, found = self.session, self._asked, self.candidates
        if session is None or asked is None or found is None:
            self.said.emit("Nothing to accept: click on an object first.")
            return False
        plane, identity, _ = asked
        mask = found.masks[self.chosen]
        self.worker.submit(
            lambda: session.accept(plane, mask, identity),
            Priority.CLICK,
            lambda _: self.said.emit(
                f"Object {identity} kept on this slice. G propagates, N starts the next."
            ),
            self._failed,
        )
        self._drop_candidates()
        return True

    def next_object(self) -> None:
        """Keep a waiting candidate and start the next object."""
        if self.session is None:
            return
        if self.candidates is not None:
            self.accept()
        self.session.new_object()
        self._show_current()
        self.said.emit(f"Object {self.session.current}: click on it.")

    def select(self, identity: int) -> None:
        """Make another object the current one."""
        if self.session is not None and identity != self.session.current:
            self.session.select(identity)
            self._show_current()

    def go_to(self, identity: int) -> None:
        """Show a slice of an object: one the user made, else the least sure one."""
        session, on_screen, image = self.session, self.on_screen(), self.image
        if session is None or on_screen is None or image is None or identity not in session.objects:
            return
        state, axis = session.objects[identity], on_screen.plane.axis
        made = sorted(p.index for p in state.anchors if p.axis == axis)
        filled = sorted((s, p.index) for p, s in state.scores.items() if p.axis == axis)
        if axis is not None and (made or filled):
            dim = on_screen.axes.index(axis) + self.viewer.dims.ndim - image.ndim
            self.viewer.dims.set_current_step(dim, made[0] if made else filled[0][1])

    def refresh_current(self) -> None:
        """Show the current object again after it changed behind the panel's back."""
        self._refresh_labels()
        self._show_current()

    def _show_current(self) -> None:
        if self.session is None or self.points is None or self.labels is None:
            return
        self._set_defaults(self.negative)
        style_points(self.points, self.session.current)
        self._quiet = True
        self.labels.selected_label = self.session.current
        self._quiet = False
        self._drop_candidates()
        self.ask()

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
        if self._running is not None:
            self.said.emit("Stop the propagation first.")
            return
        self.worker.submit(
            session.undo if what == "undo" else session.redo,
            Priority.CLICK,
            lambda name: self.said.emit(f"{what.capitalize()}: {name}." if name else f"Nothing to {what}."),
            self._failed,
        )

    # -------------------------------------------------------------- propagation

    def propagate(
        self, identities: list[int] | None = None, start: int | None = None, stop: int | None = None
    ) -> None:
        """Carry objects (the current one by default) through the stack from their accepted slices."""
        session, on_screen = self.session, self.on_screen()
        if session is None or on_screen is None:
            return
        if on_screen.plane.axis is None:
            self.said.emit("A single image has no slices to propagate to.")
            return
        if self._running is not None:
            self.said.emit("Already propagating.")
            return
        if self.candidates is not None:
            self.accept()
        axis, t, cache = on_screen.plane.axis, on_screen.plane.t, self.cache
        if cache is None:
            return
        chosen = identities or [session.current]
        began = time.monotonic()

        def steps() -> Any:
            yield from propagate_session(session, cache, chosen, axis=axis, t=t, start=start, stop=stop)

        def each(progress: PropagationProgress) -> None:
            spent = time.monotonic() - began
            left = spent / progress.done * (progress.total - progress.done) if progress.done else None
            self.progress_changed.emit(progress, left)
            self.ready_changed.emit()

        self._running = self.worker.submit_steps(
            steps(), Priority.PROPAGATE, each, self._propagated, self._propagation_failed
        )
        self.said.emit("Propagating…")
        self.changed.emit()

    def stop(self) -> None:
        """Stop the propagation under way; what is done stays."""
        if self._running is not None:
            self._running.cancel()

    @property
    def propagating(self) -> bool:
        """Whether a propagation is under way."""
        return self._running is not None

    def _propagated(self) -> None:
        cancelled = self._running is not None and self._running.cancelled.is_set()
        self._running = None
        self.progress_changed.emit(None, None)
        self.said.emit("Stopped; what was done is kept." if cancelled else "Propagated. Check the slices.")
        self._refresh_labels()
        self.changed.emit()

    def _propagation_failed(self, error: BaseException) -> None:
        self._running = None
        self.progress_changed.emit(None, None)
        self._failed(error)

    # ------------------------------------------------------------------ events

    def _failed(self, error: BaseException) -> None:
        self.said.emit(str(error))
        notify(error)
        self.changed.emit()

    def _on_dims(self, event: Any = None) -> None:
        if self.image is None:
            return
        on_screen = self.on_screen()
        if (
            on_screen is not None
            and self.cache is not None
            and self.cache.channel not in (None, on_screen.channel)
        ):
            self._new_cache()
        if self._asked is not None and (on_screen is None or on_screen.plane != self._asked[0]):
            self._drop_candidates()
        self.look()
        if on_screen is not None and self.candidates is None and self.session is not None:
            # What was accepted here is done; prompts that were not are asked again.
            state = self.session.objects.get(self.session.current)
            if state is None or on_screen.plane not in state.anchors:
                self.ask()

    def _on_contrast(self, event: Any = None) -> None:
        if self.session is not None and self.image is not None:
            self.session.volume = volume_of(self.image)
            self._new_cache()

    def _on_drawn(self, event: Any) -> None:
        # ADDING, REMOVING and CHANGING come before the layer has changed.
        if self._quiet or str(event.action).split(".")[-1].lower() not in ("added", "removed", "changed"):
            return
        points, boxes, session = self.points, self.boxes, self.session
        if points is None or boxes is None or session is None:
            return
        style_points(points, session.current)
        now, before = Drawn.of(points, boxes), self._drawn
        self._drawn = now
        if before is not None:
            session.note(
                "prompt", lambda: self.main(self._restore, before), lambda: self.main(self._restore, now)
            )
        self._set_defaults(self.negative)
        self.ask()

    def _restore(self, drawn: Drawn) -> None:
        if self.points is None or self.boxes is None or self.session is None:
            return
        self._quiet = True
        try:
            drawn.put_back(self.points, self.boxes)
        finally:
            self._quiet = False
        self._drawn = drawn
        style_points(self.points, self.session.current)
        self._drop_candidates()
        self.ask()

    def _on_paint(self, event: Any) -> None:
        on_screen = self.on_screen()
        if self.session is not None and self.labels is not None and on_screen is not None:
            self.session.record(painting.patches(self.labels.data, event.value, on_screen))

    def _on_selected_label(self, event: Any = None) -> None:
        if not self._quiet and self.labels is not None and self.labels.selected_label > 0:
            self.select(int(self.labels.selected_label))

    def _labels_changed(self, plane: PlaneRef, _: Any) -> None:
        self.main(self._labels_changed_here, plane)

    def _labels_changed_here(self, plane: PlaneRef) -> None:
        on_screen = self.on_screen()
        if on_screen is not None and (on_screen.plane == plane or self.viewer.dims.ndisplay == 3):
            self._refresh_labels()

    def _refresh_labels(self) -> None:
        if self.labels is not None:
            self.labels.refresh(thumbnail=False, extent=False)

    def _session_changed(self) -> None:
        self.main(self.changed.emit)

    def _on_removed(self, event: Any) -> None:
        gone = event.value
        if gone is self.image or gone in (self.labels, self.points, self.boxes):
            if self._quiet:
                return
            self.stop()
            self._remove_layers()
            self.image = self.session = self.cache = None
            self.said.emit("The layer was removed; choose an image to go on. Labels on disk are kept.")
            self.changed.emit()

    def _remove_layers(self) -> None:
        self._quiet = True
        try:
            preview = self.preview.layer if self.preview is not None else None
            for layer in (self.points, self.boxes, preview, self.labels):
                if layer is not None and layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        finally:
            self._quiet = False
        self.points = self.boxes = self.labels = self.preview = None
        self.candidates, self._asked = None, None


def _with_mask(prompts: Prompts, feedback: Refined | None, existing: Any) -> Prompts:
    """Add the mask to refine: the logits of the last answer, or what the slice already holds of the object."""
    if feedback is not None:
        return Prompts(prompts.points_yx, prompts.labels, prompts.box_yxyx, *feedback)
    if existing is not None and existing.any():
        return Prompts(prompts.points_yx, prompts.labels, prompts.box_yxyx, existing)
    return prompts


def _discard(items: list[Any], item: Any) -> None:
    if item in items:
        items.remove(item)
