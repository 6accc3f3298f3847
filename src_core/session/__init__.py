"""What the user is doing, written down as it happens."""

from src_core.session.confirming import confirm
from src_core.session.cutting import ClickCut, Cut, LineCut
from src_core.session.opening import begin_anew, go_on, open_session
from src_core.session.regrouping import cut, merge, relabel
from src_core.session.replaying import Replayed, replay
from src_core.session.review import ReviewQueue, Unsure
from src_core.session.session import Session
from src_core.session.state import DrawnPrompts, ObjectState, Settled

__all__ = [
    "ClickCut",
    "Cut",
    "DrawnPrompts",
    "LineCut",
    "ObjectState",
    "Replayed",
    "ReviewQueue",
    "Session",
    "Settled",
    "Unsure",
    "begin_anew",
    "confirm",
    "cut",
    "go_on",
    "merge",
    "open_session",
    "relabel",
    "replay",
]
