"""A long session whose process is killed anywhere, again and again: nothing that was done is lost."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.session import Session, open_session, replay
from tests.src_core.sessions import script

STEPS = 60
"""As many as a process gets to do at most."""
ROOT = Path(__file__).parents[3]
HALVES = {"propagate": "propagate", "delete": "delete", "seeds": "objects from"}
"""Steps that can be half done, and what the history calls them."""


@pytest.mark.parametrize(
    "kills", [4, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])], ids=["4", "30"]
)
def test_nothing_is_lost_to_kills(tmp_path: Path, kills: int) -> None:
    folder, chance = tmp_path / "cells.sam.zarr", random.Random(kills)
    first, exact, done = 0, True, 0
    for kill in range(kills):
        expected, seconds = _expected(folder, tmp_path / f"twin{kill}", first)
        if kill % 4 == 3:  # while it starts, and puts right what the last one left
            acknowledged = _killed_after(folder, first, chance.uniform(0.3, 2.0), wait=False)
        else:
            acknowledged = _killed_after(folder, first, chance.uniform(0, 1.2 * seconds))
        session = open_session(script.volume(), folder)
        found = script.state(session)
        n = acknowledged - first  # so many steps are certain
        next_kind = script.kind(first + n) if n < STEPS else ""
        if found not in (expected[n], expected[min(n + 1, STEPS)]):
            exact &= _check_half_done(session, found, expected[n], expected[n + 1], next_kind)
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
    arguments = [str(folder), str(first), str(first + STEPS)]
    with subprocess.Popen(
        [sys.executable, "-m", script.__name__, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert not wait or process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(seconds)
        process.kill()
        said = process.stdout.read().split()
    said = [word for word in said if word != "ready"]
    return int(said[-1]) + 1 if said else first


def _check_half_done(
    session: Session, found: dict[str, Any], before: dict[str, Any], after: dict[str, Any], kind: str
) -> bool:
    """Check what a kill in the middle of a step has left; return whether the journal knows all of it."""
    if kind == "stroke":  # painted, and killed before the session had heard of it
        assert found == before | {"labels": after["labels"]}
        return False
    assert kind in HALVES, kind
    assert len(found["done"]) == len(before["done"]) + 1 and not found["undone"]
    name, patches, _ = found["done"][-1]
    assert name.startswith(HALVES[kind]) and 0 < patches
    assert session.undo() == name
    undone = script.state(session)
    assert undone | {"undone": before["undone"]} == before
    session.redo()
    assert script.state(session) == found
    return True
