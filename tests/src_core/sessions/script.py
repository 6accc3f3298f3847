"""A long session of small steps, each of which depends on nothing but its number; run in a process to be killed."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from src_core.errors import SessionError
from src_core.prompts import Prompts
from src_core.session import DrawnPrompts, LineCut, Session, confirm, cut, merge, open_session, relabel
from src_core.session.as_json import to_json
from src_core.session.waiting import pack
from src_core.session_prompts import Wanted, segment_session
from src_core.types import Candidates, PlaneRef
from src_core.volumes import Volume, open_volume
from tests.src_core.propagation_stub import answer

SHAPE = (8, 40, 48)
OBJECTS = 4


def volume() -> Volume:
    """The image: it is never asked for pixels, only fingerprinted."""
    return open_volume(np.random.default_rng(1).integers(0, 255, SHAPE, np.uint8))


def disc(rng: np.random.Generator, radius: int = 6) -> np.ndarray:
    y, x = rng.integers(radius, SHAPE[1] - radius), rng.integers(radius, SHAPE[2] - radius)
    return round_at(y, x, radius)


def round_at(y: float, x: float, radius: int = 6) -> np.ndarray:
    yy, xx = np.indices(SHAPE[1:])
    mask: np.ndarray = (yy - y) ** 2 + (xx - x) ** 2 < radius**2
    return mask


def accept(session: Session, identity: int, rng: np.random.Generator) -> None:
    about = {"prompts": {"points": [[3, 4]], "labels": [1]}, "candidate": 1}
    session.accept(PlaneRef("z", int(rng.integers(SHAPE[0]))), disc(rng), identity, about)


def stroke(session: Session, identity: int, rng: np.random.Generator) -> None:
    """Paint like napari: the labels first, then the session hears of it."""
    plane = PlaneRef("z", int(rng.integers(SHAPE[0])))
    y, x = (int(v) for v in rng.integers(0, 30, 2))
    box = (y, x, y + 6, x + 9)
    before = session.labels.read_box("z", plane.index, box)
    after = np.where(rng.random(before.shape) < 0.7, np.uint32(identity), before)
    if (after != before).any():
        session.labels.write_box("z", plane.index, box, after)
        session.record([(plane, box, before, after)])


def propagate(session: Session, identity: int, rng: np.random.Generator) -> None:
    with session.edit(f"propagate object {identity}", {"axis": "z"}) as edit:
        for z in range(SHAPE[0] - 1):
            session.write_step(edit, PlaneRef("z", z), {identity: disc(rng)}, {identity: float(rng.random())})
        session.write_step(edit, PlaneRef("z", SHAPE[0] - 1), {}, {}, {identity: float(rng.random())})
        session.clear_step(edit, PlaneRef("z", 0), identity)


def meanwhile(session: Session, identity: int, rng: np.random.Generator) -> None:
    """Propagate while the user accepts, finds slices right and gives names."""
    with session.edit(f"propagate object {identity}", {"axis": "z"}) as edit:
        for z in range(SHAPE[0]):
            session.write_step(edit, PlaneRef("z", z), {identity: disc(rng)}, {identity: float(rng.random())})
            match int(rng.integers(8)):
                case 0:
                    accept(session, identity, rng)
                case 1 if session.mask(PlaneRef("z", z), identity).any():
                    confirm(session, PlaneRef("z", z), identity)
                case 2:
                    session.rename(identity, f"seen {z}")
                case 3:
                    prompt(session, identity, rng)


def prompt(session: Session, identity: int, rng: np.random.Generator) -> None:
    old = session.objects[identity].prompts
    point = tuple(float(v) for v in rng.integers(0, 8, 3))
    new = DrawnPrompts((*old.points, point), (*old.labels, int(rng.integers(2))), old.shapes)
    session.note("prompt", prompts={identity: new})


class Discs:
    """An embedding cache and its network in one: a point is answered with a disc around it, surely or not."""

    name = "discs"

    def __init__(self) -> None:
        self.predictor = self

    def get(self, plane: PlaneRef) -> None:
        """Embed nothing."""

    def predict_many(self, _: None, prompts: Sequence[Prompts]) -> list[Candidates]:
        """Answer with discs, and with nothing in the corner."""
        yx = [tuple(p.points_yx[0]) for p in prompts]
        return [answer(round_at(y, x) & (y + x > 12), float(1 / (1 + x))) for y, x in yx]


def seeds(session: Session, identity: int, rng: np.random.Generator) -> None:
    """Make objects of a layer of points, on several planes; some get no mask."""
    places = [(int(z), *rng.integers(0, 40, 2).tolist()) for z in np.sort(rng.integers(SHAPE[0], size=6))]
    places = list(dict.fromkeys(places))
    wishes = [int(k) if k % 2 else None for k in rng.integers(1, 12, len(places))]
    made = dict(zip(places, session.add_objects(wishes), strict=True))
    wanted = [Wanted(PlaneRef("z", z), (z, y, x), lambda y=y, x=x: Prompts([(y, x)])) for z, y, x in places]
    for _ in segment_session(session, Discs(), wanted, made, "objects from seeds"):  # type: ignore[arg-type]
        pass


def join(session: Session, identity: int, rng: np.random.Generator) -> None:
    """Merge two objects, if there are two that are not finished."""
    others = [i for i, o in sorted(session.objects.items()) if not o.done and i != identity]
    if others:
        merge(session, identity, [others[int(rng.integers(len(others)))]])


def divide(session: Session, identity: int, rng: np.random.Generator) -> None:
    """Cut an object along a line, if that goes through it."""
    with contextlib.suppress(SessionError):
        cut(session, identity, LineCut("z", [rng.integers(0, 40, 2), rng.integers(0, 40, 2) + 0.5]))


def renumber(session: Session, identity: int, rng: np.random.Generator) -> None:
    relabel(session, identity, max(session.objects) + int(rng.integers(1, 4)))


def delete(session: Session, identity: int, rng: np.random.Generator) -> None:
    session.delete(identity)


def offer(session: Session, rng: np.random.Generator) -> None:
    """Have candidates wait, or none."""
    found = answer(disc(rng), float(rng.random()))
    plane = PlaneRef("z", int(rng.integers(SHAPE[0])))
    session.wait_with(pack(plane, session.current, found, 0) if rng.random() < 0.8 else None)


def undo(session: Session, rng: np.random.Generator) -> None:
    session.undo()


def redo(session: Session, rng: np.random.Generator) -> None:
    session.redo()


def rename(session: Session, rng: np.random.Generator) -> None:
    session.rename(_any_object(session, rng), f"cell {rng.integers(100)}")


def finish(session: Session, rng: np.random.Generator) -> None:
    identity = _any_object(session, rng)
    session.set_done(identity, not session.objects[identity].done)


def choose(session: Session, rng: np.random.Generator) -> None:
    session.select(int(rng.integers(1, OBJECTS + 1)))


WRITING: dict[Callable[[Session, int, np.random.Generator], None], float] = {
    accept: 4, stroke: 4, propagate: 2, meanwhile: 1, prompt: 3,
    delete: 0.7, seeds: 0.7, join: 0.7, divide: 1, renumber: 0.5,
}  # fmt: skip
OTHER: dict[Callable[[Session, np.random.Generator], None], float] = {
    undo: 5, redo: 2, rename: 1, finish: 1, choose: 1, offer: 1,
}  # fmt: skip


def _any_object(session: Session, rng: np.random.Generator) -> int:
    known = sorted(session.objects)
    return known[int(rng.integers(len(known)))]


def _open_object(session: Session, rng: np.random.Generator) -> int | None:
    known = [i for i, o in sorted(session.objects.items()) if not o.done]
    return known[int(rng.integers(len(known)))] if known else None


def kind(number: int) -> str:
    """What a step does."""
    return _choose(number)[0].__name__


def step(session: Session, number: int) -> None:
    """Do one step, which asks one thing of the session."""
    work, rng = _choose(number)
    if work in OTHER:
        work(session, rng)
        return
    identity = _open_object(session, rng)
    if identity is None:
        session.new_object()
    else:
        work(session, identity, rng)


def _choose(number: int) -> tuple[Any, np.random.Generator]:
    rng = np.random.default_rng([7, number])
    works, weights = zip(*(WRITING | OTHER).items(), strict=True)  # type: ignore[operator]
    return works[int(rng.choice(len(works), p=np.array(weights) / sum(weights)))], rng


def state(session: Session) -> dict[str, Any]:
    """Everything of a session that must survive."""
    history = session._history
    return {
        "labels": hashlib.sha256(np.asarray(session.labels.array[:]).tobytes()).hexdigest(),
        "objects": {i: to_json(o) for i, o in sorted(session.objects.items())},
        "current": session.current,
        "waiting": session.waiting,
        "done": [(e.name, len(e.patches), len(e.changes)) for e in history._done],
        "undone": [(e.name, len(e.patches), len(e.changes)) for e in history._undone],
    }


def main(folder: Path, first: int, last: int, there: Connection) -> None:
    """Do steps and say so after each, once it is out of this process's hands."""
    session = open_session(volume(), folder)
    there.send_bytes(b"ready")
    for number in range(first, last):
        step(session, number)
        session.flush()
        there.send_bytes(b"%d" % number)
    time.sleep(60)
