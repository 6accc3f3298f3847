"""From one unsure slice to the next: what propagation filled and nobody has looked at yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from src_core.masks import Mask
from src_core.session import Session, Unsure, confirm
from src_core.types import PlaneRef
from src_core.worker import Priority

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction


class Reviewing:
    """The review of the image being worked on, along the axis on screen.

    Attributes
    ----------
    all_objects
        Whether all objects are reviewed, or the current one only.
    """

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction
        self.all_objects = True

    def remaining(self) -> int:
        """Return how many slices of objects nobody has looked at."""
        at = self._at()
        return 0 if at is None else at[0].review.remaining(at[1].axis, at[1].t, self._only(at[0]))

    def lowest(self) -> dict[int, float]:
        """Return the lowest confidence on every slice where something is to be reviewed."""
        at = self._at()
        return {} if at is None else at[0].review.lowest(at[1].axis, at[1].t, self._only(at[0]))

    def go_to_worst(self) -> None:
        """Show the least sure slice and make its object the current one; from that slice, the next one."""
        at = self._at()
        if at is None:
            return
        session, plane = at
        only = self._only(session)
        found = session.review.worst(plane.axis, plane.t, only, after=_queued(session, plane))
        if found is None:
            if self.interaction.prompting is not None:
                self.interaction.prompting.drop()
            whose = "" if only is None else f" of object {only}"
            self.interaction.said.emit(f"No slice{whose} is left to review.")
            return
        self._show(session, PlaneRef(plane.axis, found.index, plane.t), found.identity)
        where = f"Object {found.identity} on slice {found.index}, confidence {found.score:.2f}. "
        if PlaneRef(plane.axis, found.index, plane.t) in session.objects[found.identity].ends:
            where = (
                f"Object {found.identity} seems to end before slice {found.index}, "
                f"confidence {found.score:.2f}. "
            )
        self.interaction.said.emit(where + "K if it is right; else click, then K.")

    def accept(self) -> None:
        """Keep the candidate, or else what the current object has on this slice; then show the next worst."""
        at, prompting = self._at(), self.interaction.prompting
        if at is None or prompting is None:
            return
        session, plane = at
        identity = session.current

        def keep() -> None:
            confirm(session, plane, identity)

        # The worker does one thing after the other: a candidate is written before what follows is asked for.
        kept = prompting.candidates is not None
        if kept and not prompting.accept():
            return
        self.interaction.worker.submit(
            _nothing if kept else keep,
            Priority.CLICK,
            lambda _: self._go_on(session),
            self.interaction.failed,
        )

    def _show(self, session: Session, plane: PlaneRef, identity: int) -> None:
        """Show an object's slice and outline the object on it."""
        interaction = self.interaction
        interaction.select(identity)
        if interaction.scene is not None:
            interaction.scene.show_plane(plane)

        def read(mask: Mask) -> None:
            on_screen, prompting, scene = interaction.on_screen(), interaction.prompting, interaction.scene
            if scene is None or scene.session is not session or on_screen is None or prompting is None:
                return
            if (on_screen.plane, session.current) == (plane, identity) and prompting.candidates is None:
                scene.point_out(on_screen, mask)

        interaction.worker.submit(
            lambda: session.mask(plane, identity), Priority.CLICK, read, interaction.failed
        )

    def _go_on(self, session: Session) -> None:
        if self.interaction.session is session:
            self.go_to_worst()

    def _at(self) -> tuple[Session, PlaneRef] | None:
        """Return the session and the slice on screen; None where no stack is worked on."""
        session, on_screen = self.interaction.session, self.interaction.on_screen()
        if session is None or on_screen is None or on_screen.plane.axis is None:
            return None
        return session, on_screen.plane

    def _only(self, session: Session) -> int | None:
        return None if self.all_objects else session.current


def _queued(session: Session, plane: PlaneRef) -> Unsure | None:
    """Return the current object on a slice if that is still to be reviewed."""
    score = session.review.lowest(plane.axis, plane.t, session.current).get(plane.index)
    return None if score is None else Unsure(score, plane.index, session.current)


def _nothing() -> None:
    pass
