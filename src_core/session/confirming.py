"""What propagation found and a human found right."""

from __future__ import annotations

from src_core.errors import SessionError
from src_core.session.session import Session
from src_core.types import PlaneRef


def confirm(session: Session, plane: PlaneRef, identity: int) -> None:
    """Keep what an object has on a plane, which becomes an anchor; one entry of the history, undone like any other.

    Where propagation has ended, that is nothing, and the object ends before this plane from now on.

    Raises
    ------
    SessionError
        The object has nothing there or is finished, the session is read-only, or the disk is full.
    """
    state = session.unlocked(identity, "change it")
    if plane in state.anchors:
        return
    mask = session.mask(plane, identity)
    if not mask.any() and plane not in state.unsure:
        raise SessionError(f"object {identity} is not on slice {plane.index}: there is nothing to accept")
    session.accept(plane, mask, identity, {"confirmed": state.unsure.get(plane)})
