"""Followed objects become drafts of a session, with their tracks; those that are labelled already keep their ids."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from src_core import open_volume, session_automatic
from src_core.embeddings import EmbeddingCache
from src_core.errors import SessionError
from src_core.labels import LabelVolume
from src_core.locks import sole_writer
from src_core.session.opening import open_session
from src_core.session_automatic import Following, stack_to_session
from src_core.stepping import Stepwise
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


@pytest.mark.parametrize("what", ["stack_steps", "track_steps"])
def test_a_search_that_is_given_up_lets_go_of_what_it_has_locked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    outs: list[Path] = []

    def searching(predictor: Any, volume: Any, out: Path, **_: Any) -> Generator[tuple[int, int], None, None]:
        outs.append(out)
        with sole_writer(out):
            yield 0, 4

    kept: list[Iterator[tuple[int, int]]] = []

    class Kept(Stepwise[None]):
        """Like in a Python that does not drop at once what nobody needs any more."""

        def __iter__(self) -> Iterator[tuple[int, int]]:
            kept.append(super().__iter__())
            return kept[-1]

    monkeypatch.setattr(session_automatic, what, searching)
    monkeypatch.setattr(session_automatic, "Stepwise", Kept)
    volume = open_volume(np.zeros((4, *SHAPE), np.uint8), axes="tyx" if what == "track_steps" else "zyx")
    session = open_session(volume, tmp_path / "session")
    cache = cast(EmbeddingCache, SimpleNamespace(predictor=None, volume=volume, channel=None, get=None))
    steps = (
        Following(session, cache, "t").steps()
        if what == "track_steps"
        else stack_to_session(session, cache, axis="z")
    )
    next(steps)
    with pytest.raises(SessionError), sole_writer(outs[0]):
        pass
    cast(Generator[Any, None, None], steps).close()
    with sole_writer(outs[0]):
        pass
