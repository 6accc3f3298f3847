"""Objects of a stack become drafts, and the queue begins with those that look wrong from the side."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from src_core import open_volume, session_automatic
from src_core.embeddings import EmbeddingCache
from src_core.labels import LabelVolume
from src_core.linking.report import FoundObject, StackReport
from src_core.session.opening import open_session
from src_core.session_automatic import stack_to_session

SHAPE = (2, 40, 50)


def test_what_looks_wrong_from_the_side_is_reviewed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = open_volume(np.zeros(SHAPE, np.uint8), axes="zyx")

    def found(
        predictor: Any, volume: Any, out: Path, **_: Any
    ) -> Generator[tuple[int, int], None, StackReport]:
        labels = LabelVolume.create(out, volume)
        plane = np.zeros(SHAPE[1:], np.uint32)
        plane[5:15, 5:15], plane[20:30, 20:30] = 1, 2
        for z in range(2):
            labels.write_box("z", z, (0, 0, *plane.shape), plane)
        yield 1, 1
        right, column = FoundObject({0: 0.7, 1: 0.7}, 200, 0.9), FoundObject({0: 0.9, 1: 0.9}, 200, 0.5)
        return StackReport(labels, {1: right, 2: column}, 0, False, True)

    monkeypatch.setattr(session_automatic, "stack_steps", found)
    session = open_session(volume, tmp_path / "session")
    cache = cast(EmbeddingCache, SimpleNamespace(predictor=None, volume=volume, channel=None, get=None))
    *_, progress = stack_to_session(session, cache, axis="z")
    assert progress.made == 2
    worst = session.review.worst("z")
    assert worst is not None and worst.score == pytest.approx(0.45)
    assert session.labels.read_plane("z", worst.index)[25, 25] == worst.identity
    session.close()
