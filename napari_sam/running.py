"""A propagation under way: progress, time left, stopping."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_sam.scene import Scene
from napari_sam.workers import Throttle
from src_core.session_propagation import PropagationProgress, propagate_session
from src_core.types import PlaneRef
from src_core.worker import Job, Priority

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction


FOLLOW_MS = 250
"""Shortest time between two slices shown while the view follows: napari itself needs a while for each."""


class Running:
    """At most one propagation at a time."""

    def __init__(self, interaction: Interaction, scene: Scene) -> None:
        self.interaction, self.scene = interaction, scene
        self._job: Job | None = None
        self._left_out: tuple[int, ...] = ()
        self._latest: PlaneRef | None = None
        self._follow = Throttle(self._show_latest, FOLLOW_MS)

    @property
    def active(self) -> bool:
        """Whether a propagation is under way."""
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
        if self.active:
            interaction.said.emit("Already propagating.")
            return

        def steps() -> Iterator[PropagationProgress]:
            yield from propagate_session(session, cache, identities, axis=axis, t=t, start=start, stop=stop)

        self._left_out = ()
        self._began = time.monotonic()
        self._job = interaction.worker.submit_steps(
            steps(), Priority.PROPAGATE, self._step, self._finished, self._failed
        )
        interaction.said.emit("Propagating…")
        interaction.changed.emit()

    def stop(self) -> None:
        """Stop after the plane under way; what is done stays."""
        if self._job is not None:
            self._job.cancel()

    def _step(self, progress: PropagationProgress) -> None:
        spent = time.monotonic() - self._began
        self._left_out = progress.left_out
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
        cancelled = self._job is not None and self._job.cancelled.is_set()
        self._end()
        words = "Stopped; what was done is kept." if cancelled else "Propagated. Check the slices."
        if self._left_out:
            names = ", ".join(str(k) for k in self._left_out)
            words += f" Left out, without a mask along this axis yet: object {names}."
        self.interaction.said.emit(words)

    def _failed(self, error: BaseException) -> None:
        self._end()
        self.interaction.failed(error)

    def _end(self) -> None:
        self._follow.close()
        self._job = None
        self.scene.refresh_labels()
        self.interaction.progress_changed.emit(None, None)
        self.interaction.changed.emit()
