"""Fixtures of the library's tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from src_core.questions import EYES
from src_core.room import Room


@pytest.fixture
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are not looked at on the levels beside the one that fits, and boxes are taken to fit."""
    monkeypatch.setattr(Room, "fitting", lambda self, box, answers, shape: box)
    monkeypatch.setitem(EYES, True, replace(EYES[True], beside_px=None))
