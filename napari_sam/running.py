"""Long work under way, a propagation or a layer made into objects: progress, time left, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from napari_sam.scene import Scene
from napari_sam.workers import Throttle
from src_core.measuring import MeasuringProgress
from src_core.session_automatic import AutomaticProgress
from src_core.session_prompts import PromptsProgress
from src_core.session_propagation import PropagationProgress, propagate_session
from src_core.types import PlaneRef
from src_core.worker import Job, Priority

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction

Progress = PropagationProgress | PromptsProgress | AutomaticProgress | MeasuringProgress

FOLLOW_MS = 250
"""Shortest time between two slices shown while the view follows: napari itself needs a while for each."""


class Running:
    """At most one long work at a time."""

    def __init__(self, interaction: Interaction, scene: Scene) -> None:
        self.interaction, self.scene = interaction, scene
        self._job: Job | None = None
        self._ended: Callable[[Progress | None, bool], None] | None = None
        self._progress: Progress | None = None
        self._latest: PlaneRef | None = None
        self._follow = Throttle(self._show_latest, FOLLOW_MS)

    @property
    def active(self) -> bool:
        """Whether something is under way."""
        return self._job is not None

    def start(self, identities: list[int], start: int | None, stop: int | None) -> None:
        """Carry objects through the stack along the axis on screen, from the slices the user kept."""
        interaction, session = self.interaction, self.scene.session
        on_screen, cache = interaction.on_screen(), interaction.cache
        if on_screen is None or cache is None:
            return
        axis, t = on_screen.plane.axis, on_screen.plane.t
        if axis is None:
            interaction.said.emit("A single image has no slices to propagate to.")
            return
        steps = propagate_session(session, cache, identities, axis=axis, t=t, start=start, stop=stop)
        self.begin(steps, "Propagating…", self._propagated)

    def begin(
        self, steps: Iterator[Progress], words: str, ended: Callable[[Progress | None, bool], None]
    ) -> None:
        """Do something step by step on the worker.

        `ended` is called afterwards with the latest progress and whether the user has stopped it, unless it failed.
        """
        if self.active:
            self.interaction.said.emit("Something is under way already: wait for it, or stop it (Shift-G).")
            return
        self._progress, self._ended = None, ended
        self._began = time.monotonic()
        self._job = self.interaction.worker.submit_steps(
            steps, Priority.PROPAGATE, self._step, self._finished, self._failed
        )
        self.interaction.said.emit(words)
        self.interaction.changed.emit()

    def stop(self) -> None:
        """Stop after the plane under way; what is done stays."""
        if self._job is not None:
            self._job.cancel()

    @property
    def _gone(self) -> bool:
        """Whether the image has been left: steps done before that still arrive, maybe after their panels' end."""
        return self.interaction.running is not self

    def _step(self, progress: Progress) -> None:
        if self._gone:
            return
        if self._progress is not None and self._progress.unit != progress.unit:
            self._began = time.monotonic()  # something else is counted from here on
        spent = time.monotonic() - self._began
        self._progress = progress
        if progress.plane is not None and self.interaction.follow:
            self._latest = progress.plane
            self._follow()
        left = spent / progress.done * (progress.total - progress.done) if progress.done else None
        self.interaction.progress_changed.emit(progress, left)
        self.interaction.ready_changed.emit()

    def _show_latest(self) -> None:
        if self._latest is not None and self.active:
            self.scene.show_plane(self._latest)

    def close(self) -> None:
        """Stop, and show nothing more."""
        self.stop()
        self._follow.close()

    def _finished(self) -> None:
        stopped = self._job is not None and self._job.cancelled.is_set()
        progress, ended = self._progress, self._ended
        self._end()
        if ended is not None:
            ended(progress, stopped)

    def _propagated(self, progress: Progress | None, stopped: bool) -> None:
        if self._gone:
            return
        words = "Stopped; what was done is kept." if stopped else "Propagated. Check the slices."
        if isinstance(progress, PropagationProgress) and progress.left_out:
            names = ", ".join(str(k) for k in progress.left_out)
            words += f" Left out, without a mask along this axis yet: object {names}."
        self.interaction.said.emit(words)

    def _failed(self, error: BaseException) -> None:
        self._end()
        self.interaction.failed(error)

    def _end(self) -> None:
        self._follow.close()
        self._job = self._ended = None
        if self._gone:
            return
        self.scene.refresh_labels()
        self.interaction.progress_changed.emit(None, None)
        self.interaction.changed.emit()
