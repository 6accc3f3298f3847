"""Followed objects become drafts of a session, with their tracks; those that are labelled already keep their ids."""

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
from src_core.session.opening import open_session
from src_core.session_automatic import Following
from src_core.tracking import Tracked, track_labels
from src_core.types import PlaneRef

SHAPE = (40, 50)


def film() -> np.ndarray:
    """One that stays, and one that divides at t=2."""
    frames = np.zeros((4, *SHAPE), np.uint32)
    frames[:, 5:15, 5:15] = 1
    frames[:2, 20:30, 10:40] = 2
    frames[2:, 20:30, 10:24], frames[2:, 20:30, 26:40] = 3, 4
    return frames


def test_tracks_have_the_ids_of_the_objects_also_of_those_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = film()
    volume = open_volume(frames.astype(np.uint8), axes="tyx")

    def found(predictor: Any, volume: Any, out: Path, **_: Any) -> Generator[tuple[int, int], None, Tracked]:
        labels = LabelVolume.create(out, volume)
        for t, frame in enumerate(frames):
            labels.write_box(None, 0, (0, 0, *SHAPE), frame, t=t)
        tracking = track_labels(labels)
        yield 4, 4
        scores = {k: {PlaneRef(None, 0, t): 0.8 for t in v.places} for k, v in tracking.tracks.items()}
        return Tracked(labels, tracking, scores)

    monkeypatch.setattr(session_automatic, "track_steps", found)
    session = open_session(volume, tmp_path / "session")
    cache = cast(EmbeddingCache, SimpleNamespace(predictor=None, volume=volume, channel=None, get=None))
    first = Following(session, cache, "t")
    *_, progress = first.steps()
    assert (progress.made, progress.left_out) == (4, 0) and first.points is not None
    drawn = [session.labels.read_plane(None, 0, t) for t in range(4)]
    mother, left, right = int(drawn[0][25, 20]), int(drawn[3][25, 12]), int(drawn[3][25, 38])
    assert len({mother, left, right, 0}) == 4 and first.graph == {left: [mother], right: [mother]}
    assert {int(d[10, 10]) for d in drawn} == {int(drawn[0][10, 10])}, "one id through time"
    assert set(session.objects[left].scores) == {PlaneRef(None, 0, 2), PlaneRef(None, 0, 3)}
    again = Following(session, cache, "t")
    *_, progress = again.steps()
    assert (progress.made, progress.left_out) == (0, 4) and again.points is not None
    assert np.array_equal(again.points, first.points) and again.graph == first.graph
    assert not list(tmp_path.glob("**/*automatic*")), "the search is not kept"
