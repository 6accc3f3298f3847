"""From what is drawn to candidates, and from a candidate to the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.drawing import Drawing
from napari_sam.layer_prompts import prompts_on_plane
from napari_sam.layers import OnScreen
from napari_sam.question import Question, Refined, with_mask
from napari_sam.scene import Scene
from napari_sam.workers import notify
from src_core.errors import SamError
from src_core.prompts import Prompts
from src_core.propagation.anchors import check_contrast
from src_core.session.waiting import Waiting, pack
from src_core.types import Candidates, PlaneRef
from src_core.worker import Priority

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction

DOUBTED = 0.5
"""An answer with a lower score is worth a look at whether there is anything on the slice at all."""


class Prompting:
    """The current object's prompts on the slice on screen and what the network offers for them.

    Attributes
    ----------
    candidates, chosen
        The offer, None without one, and which mask of it is shown.
    drawing
        The prompts as they are drawn.
    """

    def __init__(self, interaction: Interaction, scene: Scene) -> None:
        self.interaction, self.scene = interaction, scene
        self.candidates: Candidates | None = None
        self.chosen = 0
        self._asked: Question | None = None
        self._waiting: Question | None = None
        self._promised: Question | None = None
        self.drawing = Drawing(interaction, scene, self.ask, self.drop)
        self.drop()

    # ------------------------------------------------------------------ asking

    def ask(self) -> None:
        """Put what is drawn for the current object on this slice to the network."""
        on_screen, scene, cache = self.interaction.on_screen(), self.scene, self.interaction.cache
        if on_screen is None or cache is None or self.interaction.loading:
            return
        session = scene.session
        plane, identity = on_screen.plane, session.current
        try:
            prompts = self._prompts(on_screen, identity)
        except SamError as error:
            notify(error)
            return
        if prompts is None:
            self.drop()
            return
        self._withdraw()
        feedback = self._feedback(plane, identity, prompts)

        def answer() -> Candidates:
            existing = session.mask(plane, identity) if feedback is None and prompts.mask is None else None
            found = cache.predictor.predict(
                cache.get(plane), with_mask(prompts, feedback, existing), multimask=True
            )
            if found.scores[0] < DOUBTED or not found.masks[0].any():
                check_contrast(session.volume.plane_at(plane, cache.channel), session.volume.name)
            question.packed = pack(plane, identity, found, 0)
            return found

        question = self._waiting = Question(plane, identity, prompts)

        def answered(found: Candidates) -> None:
            self._answered(question, found)

        def failed(error: BaseException) -> None:
            self._waiting = None if self._waiting is question else self._waiting
            self._fulfilled(question)
            self.interaction.failed(error)

        self.interaction.said.emit("Looking…")
        question.job = self.interaction.worker.submit(answer, Priority.CLICK, answered, failed)
        self.interaction.changed.emit()

    def _withdraw(self) -> None:
        """Want no answer any more to what has been asked."""
        if self._waiting is not None and self._waiting.job is not None:
            self._waiting.job.cancel()
        self._waiting = None

    def _prompts(self, on_screen: OnScreen, identity: int) -> Prompts | None:
        image, drawn = self.scene.image, (self.scene.points, self.scene.boxes)
        shape = self.scene.session.volume.plane_shape(on_screen.plane.axis)
        return prompts_on_plane(image, on_screen, shape, *drawn, identity=identity)

    def _feedback(self, plane: PlaneRef, identity: int, prompts: Prompts) -> Refined | None:
        """Return the answer to refine: the one on screen, if these prompts only add to its."""
        if self._asked is None or self.candidates is None:
            return None
        last = self._asked.prompts
        n = len(last.points_yx)
        grows = n < len(prompts.points_yx) and np.array_equal(prompts.points_yx[:n], last.points_yx)
        same = (self._asked.plane, self._asked.identity) == (
            plane,
            identity,
        ) and prompts.box_yxyx == last.box_yxyx
        return (self.candidates.logits[self.chosen], self.candidates.window) if grows and same else None

    def _answered(self, question: Question, found: Candidates) -> None:
        if question.keep:
            if not self._keep(question, found, 0):
                self._fulfilled(question)
            return
        on_screen = self.interaction.on_screen()
        if self.interaction.prompting is not self:
            return  # the user has gone on to another image
        if self._waiting is not question:
            return  # something newer is on screen
        self._waiting = None
        if on_screen is None or on_screen.plane != question.plane:
            return
        if self.scene.session.current != question.identity:
            return
        self.candidates, self.chosen, self._asked = found, 0, question
        self._show(on_screen)
        self.interaction.ready_changed.emit()

    def show_waiting(self, waiting: Waiting) -> None:
        """Show candidates that waited when the session was left, on their slice."""
        plane = waiting.plane
        self.scene.show_plane(plane)
        on_screen, current = self.interaction.on_screen(), self.scene.session.current
        if on_screen is None or on_screen.plane != plane or current != waiting.identity:
            return
        try:
            prompts = self._prompts(on_screen, waiting.identity)
        except SamError:
            return  # told of when it was drawn
        shape = self.scene.session.volume.plane_shape(plane.axis)
        if prompts is not None and waiting.candidates.masks.shape[1:] == shape:
            self._withdraw()  # what showing the slice has asked
            self.candidates, self._asked = waiting.candidates, Question(plane, waiting.identity, prompts)
            self.choose(waiting.chosen)

    # --------------------------------------------------------------- candidates

    def _show(self, on_screen: OnScreen) -> None:
        if self.candidates is None or self._asked is None:
            return
        asked = self._asked
        self.scene.preview.show(on_screen, self.candidates.masks[self.chosen])
        packed = asked.packed or pack(asked.plane, asked.identity, self.candidates, self.chosen)
        self.scene.session.wait_with({**packed, "chosen": self.chosen})
        score = float(self.candidates.scores[self.chosen])
        self.interaction.said.emit(
            f"Candidate {self.chosen + 1} of {len(self.candidates)}, score {score:.2f}."
        )
        self.interaction.changed.emit()

    def choose(self, index: int) -> None:
        """Show another candidate."""
        on_screen = self.interaction.on_screen()
        if self.candidates is not None and on_screen is not None:
            self.chosen = index % len(self.candidates)
            self._show(on_screen)

    def drop(self) -> None:
        """Show no candidate; prompts stay."""
        self.candidates, self._asked, self.chosen = None, None, 0
        self.scene.session.wait_with(None)
        self._withdraw()
        self.scene.preview.clear()
        self.interaction.changed.emit()

    @property
    def to_keep(self) -> bool:
        """Whether there is a candidate, or one is being looked for."""
        return self.candidates is not None or self._waiting is not None

    def accept(self, then: Callable[[], None] | None = None) -> bool:
        """Write the candidate to the labels; its slice becomes an anchor.

        One that is still being looked for is written as soon as it has been found. `then` is called afterwards.
        """
        if self._waiting is not None:
            self._waiting.keep, self._waiting.then = True, then
            self._promised = self._waiting
            self._waiting = None  # what is asked next does not take its place
            self.drop()
            self.interaction.said.emit("Looking… the mask will be kept.")
            return True
        if self._asked is None or self.candidates is None:
            self.interaction.said.emit("Nothing to keep: click on an object first.")
            return False
        question = self._asked
        question.then = then
        kept = self._keep(question, self.candidates, self.chosen)
        if kept:
            self.drop()
        return kept

    def after_keeping(self, call: Callable[[], None]) -> None:
        """Call now, or once the mask that has been promised to be kept is."""
        if self._promised is None:
            call()
        else:
            self._promised.then = call

    def _fulfilled(self, question: Question) -> None:
        if self._promised is question:
            self._promised = None

    def _keep(self, question: Question, found: Candidates, chosen: int) -> bool:
        """Write a mask, unless it is empty where there is nothing to replace."""
        plane, identity, session = question.plane, question.identity, self.scene.session
        mask, prompts = found.masks[chosen], question.prompts
        state = session.objects.get(identity)
        here = state is not None and (plane in state.anchors or plane in state.scores)
        if not mask.any() and not here:
            self.interaction.said.emit(
                "The network sees nothing there: click again, draw a box, or press Q for another candidate."
            )
            return False

        about = {
            "model": self.interaction.ahead.model_name,
            "channel": self.interaction.cache.channel if self.interaction.cache is not None else None,
            "points": prompts.points_yx,
            "labels": prompts.labels,
            "box": prompts.box_yxyx,
            "candidate": chosen,
            "score": float(found.scores[chosen]),
        }

        def kept(_: Any) -> None:
            self._fulfilled(question)
            following = "G propagates, N starts the next."
            if session.current != identity:
                following = f"Object {session.current}: click on it."
            self.interaction.said.emit(f"Object {identity} kept on this slice. {following}")
            if question.then is not None:
                question.then()

        def failed(error: BaseException) -> None:
            self._fulfilled(question)
            self.interaction.failed(error)

        self.interaction.worker.submit(
            lambda: session.accept(plane, mask, identity, about),
            Priority.CLICK,
            kept,
            failed,
        )
        return True

    def moved(self, on_screen: OnScreen | None) -> None:
        """Another slice is on screen: drop its predecessor's candidate; ask again what was not accepted here."""
        self.scene.size_points()
        if self._asked is not None and (on_screen is None or on_screen.plane != self._asked.plane):
            self.drop()
        session = self.scene.session
        state = session.objects.get(session.current)
        accepted = state is not None and on_screen is not None and on_screen.plane in state.anchors
        if on_screen is not None and self.candidates is None and not accepted:
            self.ask()
