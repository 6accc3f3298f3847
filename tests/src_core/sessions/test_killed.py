"""A long session whose process is killed anywhere, again and again: nothing that was done is lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.session import Session, open_session, replay
from src_core.session.as_json import to_json
from src_core.session.state import ObjectState
from tests.src_core.sessions import script

STEPS = 60
"""As many as a process gets to do at most."""
KILLS = int(os.environ.get("NAPARI_SAM_KILLS", "30"))
"""How many processes the slow test kills."""
PROCESSES = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
PROCESSES.set_forkserver_preload([script.__name__])  # a new interpreter takes longer than all it does here
HALVES: dict[str, str | tuple[str, ...]] = {
    "propagate": "propagate",
    "meanwhile": ("propagate", "accept", "rename", "prompt"),
    "delete": "delete",
    "seeds": "objects from",
    "join": "merge",
    "divide": "cut",
    "renumber": "relabel",
}
"""Steps that can be half done, and what the history calls them."""


@pytest.mark.parametrize(
    "kills",
    [4, pytest.param(KILLS, marks=[pytest.mark.slow, pytest.mark.timeout(40 * KILLS)])],
    ids=["4", "many"],
)
def test_nothing_is_lost_to_kills(tmp_path: Path, kills: int) -> None:
    folder, chance = tmp_path / "cells.sam.zarr", random.Random(kills)
    first, exact, done = 0, True, 0
    for kill in range(kills):
        expected, seconds = _expected(folder, tmp_path / f"twin{kill}", first)
        if kill % 4 == 3:  # while it starts, and puts right what the last one left
            acknowledged = _killed_after(folder, first, chance.uniform(0, 0.6), wait=False)
        else:
            acknowledged = _killed_after(folder, first, chance.uniform(0, 1.2 * seconds))
        session = open_session(script.volume(), folder)
        found = script.state(session)
        n = acknowledged - first  # so many steps are certain
        next_kind = script.kind(first + n) if n < STEPS else ""
        if found not in (expected[n], expected[min(n + 1, STEPS)]):
            exact &= check_half_done(session, found, expected[n], expected[n + 1], next_kind)
        session.close()
        if exact:
            again = replay(folder, tmp_path / f"replayed{kill}.zarr")
            assert np.array_equal(again.labels.array[:], session.labels.array[:]), f"kill {kill}, {next_kind}"
        first, done = acknowledged, done + n
    assert done > kills, "the processes were killed before they had done anything: nothing was tested"


def _expected(folder: Path, twin: Path, first: int) -> tuple[list[dict[str, Any]], float]:
    """Do the next steps on a copy; return the state before and after each, and how long they took."""
    if folder.exists():
        shutil.copytree(folder, twin)
    session = open_session(script.volume(), twin)
    states = [script.state(session)]
    began = time.monotonic()
    for number in range(first, first + STEPS):
        script.step(session, number)
        states.append(script.state(session))
    seconds = time.monotonic() - began
    session.close()
    shutil.rmtree(twin)
    return states, seconds


def _killed_after(folder: Path, first: int, seconds: float, *, wait: bool = True) -> int:
    """Run the script in a process, kill it, and return the step after the last that it said it had done."""
    here, there = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=script.main, args=(folder, first, first + STEPS, there))
    process.start()
    there.close()
    said = [here.recv_bytes()] if wait else []
    time.sleep(seconds)
    process.kill()
    process.join()
    try:
        while True:
            said.append(here.recv_bytes())
    except EOFError:
        pass
    here.close()
    done = [int(word) for word in said if word != b"ready"]
    return done[-1] + 1 if done else first


def check_half_done(
    session: Session, found: dict[str, Any], before: dict[str, Any], after: dict[str, Any], kind: str
) -> bool:
    """Check what a kill in the middle of a step has left; return whether the journal knows all of it."""
    if kind == "stroke":  # painted, and killed before the session had heard of it
        assert found == before | {"labels": after["labels"]}
        return False
    assert kind in HALVES, kind
    half = found["done"][len(before["done"]) :]
    assert found["done"][: len(before["done"])] == before["done"] and not found["undone"]
    if kind == "meanwhile":  # parts of it may have changed no label
        assert half
    else:
        assert len(half) == 1 and half[0][1] > 0
    for name, *_ in reversed(half):
        assert name.startswith(HALVES[kind]) and session.undo() == name
    undone = script.state(session)
    # An object for which nothing had been done yet is forgotten with its first mask.
    known = {i: o for i, o in before["objects"].items() if i in undone["objects"] or not _bare(o)}
    wrong = _differences(undone | {"undone": before["undone"]}, before | {"objects": known})
    assert not wrong, f"{kind}, undone: {wrong}"
    for _ in half:
        session.redo()
    assert script.state(session) == found
    return True


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return what differs, objects one by one: a failure that cannot be repeated must say what it was."""
    flat = [{**state, **{f"object {i}": o for i, o in state["objects"].items()}} for state in (found, wanted)]
    keys = {k for state in flat for k in state} - {"objects"}
    return {k: tuple(s.get(k) for s in flat) for k in keys if flat[0].get(k) != flat[1].get(k)}


def _bare(found: dict[str, Any]) -> bool:
    return found == to_json(ObjectState(1))
