"""Objects merged, cut in two and renumbered: pixels, anchors, prompts, undo, and the journal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src_core.errors import PromptError, SessionError
from src_core.labels import LabelVolume
from src_core.session import (
    ClickCut,
    DrawnPrompts,
    LineCut,
    Session,
    cut,
    merge,
    open_session,
    relabel,
    replay,
)
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.src_core.sessions import script

SIZE = (6, 30, 40)


@pytest.fixture
def session(tmp_path: Path) -> Any:
    volume = open_volume(np.random.default_rng(3).integers(0, 255, SIZE, np.uint8))
    session = open_session(volume, tmp_path / "cells.sam.zarr")
    yield session
    session.close()


def block(y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    mask = np.zeros(SIZE[1:], bool)
    mask[y0:y1, x0:x1] = True
    return mask


def z(index: int) -> PlaneRef:
    return PlaneRef("z", index)


def pixels(session: Session) -> np.ndarray:
    return np.asarray(session.labels.array[:])


def two(session: Session) -> None:
    """Objects 1 and 2 side by side, accepted on slice 2 and propagated to 3."""
    session.note("prompt", prompts={1: DrawnPrompts(((2.0, 5.0, 5.0),), (1,))})
    session.accept(z(2), block(2, 2, 12, 12))
    session.new_object()
    session.note("prompt", prompts={2: DrawnPrompts(((2.0, 5.0, 15.0), (2.0, 6.0, 17.0)), (1, 1))})
    session.accept(z(2), block(2, 12, 12, 22))
    session.rename(2, "neuron")
    with session.edit("propagate") as edit:
        masks = {1: block(3, 3, 9, 12), 2: block(3, 12, 9, 20)}
        session.write_step(edit, z(3), masks, {1: 0.5, 2: 0.75})


def test_merging_moves_all_of_an_object_and_one_undo_brings_both_back(
    session: Session, tmp_path: Path
) -> None:
    two(session)
    before, labels = script.state(session), pixels(session)
    merge(session, 1, [2])
    assert set(session.objects) == {1} and session.current == 1
    state = session.objects[1]
    assert state.anchors == {z(2)} and state.scores == {z(3): 0.5} and state.name == "neuron"
    assert len(state.prompts.points) == 3
    assert np.array_equal(pixels(session), (labels > 0).astype(labels.dtype))
    after = script.state(session)
    assert session.undo() == "merge objects 1 and 2"
    assert script.state(session)["objects"] == before["objects"] and session.current == before["current"]
    assert np.array_equal(pixels(session), labels)
    assert session.redo() and script.state(session) == after
    session.close()
    again = open_session(session.volume, tmp_path / "cells.sam.zarr")
    assert script.state(again) == after
    assert np.array_equal(
        replay(tmp_path / "cells.sam.zarr", tmp_path / "r.zarr").labels.array[:], pixels(again)
    )
    assert again.undo() and np.array_equal(pixels(again), labels)
    again.close()


def test_another_number_takes_everything_along(session: Session) -> None:
    two(session)
    state = script.state(session)["objects"][2]
    relabel(session, 2, 40)
    assert (
        script.state(session)["objects"][40] == state and 2 not in session.objects and session.current == 40
    )
    assert set(np.unique(pixels(session))) == {0, 1, 40}
    session.undo()
    assert script.state(session)["objects"][2] == state and set(np.unique(pixels(session))) == {0, 1, 2}
    with pytest.raises(SessionError, match="there is an object 1 already; merge"):
        relabel(session, 2, 1)
    with pytest.raises(SessionError, match="cannot hold object"):
        relabel(session, 2, 2**32)
    relabel(session, 2, session.new_object().id)  # one that has been started, and nothing more, makes room
    assert set(np.unique(pixels(session))) == {0, 1, 3}


def test_finished_objects_are_neither_merged_nor_cut_nor_renumbered(session: Session) -> None:
    two(session)
    session.set_done(2)
    before = script.state(session)
    for work in (
        lambda: merge(session, 1, [2]),
        lambda: merge(session, 2, [1]),
        lambda: relabel(session, 2, 7),
        lambda: cut(session, 2, LineCut("z", [(0, 17), (20, 17)])),
    ):
        with pytest.raises(SessionError, match="object 2 is finished; reopen it"):
            work()
    with pytest.raises(SessionError, match="at least two"):
        merge(session, 1, [1])
    assert script.state(session) == before


def test_a_line_cuts_through_all_slices_and_prompts_go_with_their_side(
    session: Session, tmp_path: Path
) -> None:
    two(session)
    merge(session, 1, [2])
    whole, before = pixels(session), script.state(session)
    assert cut(session, 1, LineCut("z", [(0, 11.5), (20, 11.5)])) == 2
    columns = np.indices(SIZE)[2]
    assert np.array_equal(pixels(session) == 2, (whole == 1) & (columns > 11))
    assert np.array_equal(pixels(session) == 1, (whole == 1) & (columns <= 11))
    one, other = session.objects[1], session.objects[2]
    assert one.anchors == other.anchors == {z(2)} and one.scores == other.scores == {z(3): 0.5}
    assert len(one.prompts.points) == 1 and len(other.prompts.points) == 2
    after = script.state(session)
    assert session.undo() == "cut object 1"
    assert script.state(session)["objects"] == before["objects"] and np.array_equal(pixels(session), whole)
    session.redo()
    session.close()
    assert script.state(open_session(session.volume, tmp_path / "cells.sam.zarr")) == after


def test_a_cut_whose_process_was_killed_anywhere_can_be_undone(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two(session)
    before, flush, copies = script.state(session), session.flush, []

    def copied() -> None:
        flush()
        copies.append(shutil.copytree(tmp_path / "cells.sam.zarr", tmp_path / f"{len(copies)}.sam.zarr"))

    with monkeypatch.context() as patch:
        patch.setattr(session, "flush", copied)  # called when the journal is ahead of the labels
        cut(session, 1, LineCut("z", [(0, 7), (20, 7)]))
        copied()
    names = []
    for folder in copies:
        again = open_session(session.volume, folder)
        names.append(again.undo_name)
        if again.undo_name == "cut object 1":
            again.undo()
        assert script.state(again)["objects"] == before["objects"] and again.current == before["current"]
        assert not (pixels(again) == 3).any()
        again.close()
    assert len(names) > 2 and names[-1] == "cut object 1"


def test_a_line_on_a_plane_along_another_axis(session: Session) -> None:
    two(session)
    merge(session, 1, [2])
    whole = pixels(session)
    cut(session, 1, LineCut("y", [(2.5, 40), (2.5, 0)]))  # rows are z, columns x
    assert np.array_equal(pixels(session) == 2, (whole == 1) & (np.indices(SIZE)[0] > 2))
    assert session.objects[1].anchors == {z(2)} and session.objects[2].anchors == set()


def test_a_cut_that_misses_the_object_changes_nothing(session: Session) -> None:
    two(session)
    before = script.state(session)
    with pytest.raises(SessionError, match="all of object 1 on one side"):
        cut(session, 1, LineCut("z", [(0, 30), (20, 30)]))
    with pytest.raises(PromptError, match="draw it across"):
        LineCut("z", [(3, 3), (3, 3)])
    assert script.state(session) == before


def dumbbell(session: Session) -> None:
    """Two balls with a thin neck, and a speck near the second."""
    for k in range(6):
        grid = np.indices(SIZE[1:])
        radius = 7 - abs(k - 3)
        balls = [((grid[0] - 15) ** 2 + (grid[1] - x) ** 2) < radius**2 for x in (12, 25)]
        session.accept(z(k), balls[0] | balls[1] | block(14, 12, 17, 25) | block(2, 36, 4, 38))


def test_two_clicks_cut_where_the_object_is_narrowest(session: Session) -> None:
    dumbbell(session)
    whole = pixels(session)
    assert cut(session, 1, ClickCut([(3, 15, 12), (4, 14, 26)])) == 2
    found, columns = pixels(session), np.indices(SIZE)[2]
    assert np.array_equal(found > 0, whole > 0)
    assert not (found[columns < 18] == 2).any() and not (found[columns > 19] == 1).any()
    assert (found[:, 2:4, 36:38] == 2).all(), "what hangs on neither goes to the nearer click"
    session.undo()
    assert np.array_equal(pixels(session), whole)


def test_parts_that_do_not_touch_are_told_apart_by_clicks(session: Session) -> None:
    session.accept(z(2), block(2, 2, 8, 8) | block(2, 20, 8, 30) | block(20, 2, 25, 8))
    cut(session, 1, ClickCut([(2, 3, 4), (2, 5, 22)]))
    assert np.array_equal(pixels(session)[2] == 2, block(2, 20, 8, 30))


def test_clicks_must_be_in_the_object_and_in_two_places(session: Session) -> None:
    dumbbell(session)
    before = script.state(session)
    for clicks, words in (
        ([(3, 15, 12), (3, 1, 1)], "click 2 is not in object 1"),
        ([(3, 15, 12), (3, 15.2, 12.1)], "in one place"),
        ([(15, 12), (15, 25)], "each of 3 numbers"),
    ):
        with pytest.raises(PromptError, match=words):
            cut(session, 1, ClickCut(clicks))
    session.new_object()
    with pytest.raises(SessionError, match="no mask to cut yet"):
        cut(session, 2, ClickCut([(3, 15, 12), (3, 15, 25)]))
    assert (
        script.state(session)["objects"][1] == before["objects"][1] and session.undo_name == "accept object 1"
    )


def test_a_single_image_and_a_time_point(tmp_path: Path) -> None:
    flat = open_volume(np.zeros(SIZE[1:], np.uint8))
    session = Session(flat, LabelVolume.create(tmp_path / "flat", flat), ids=())
    session.accept(PlaneRef(None, 0), block(2, 2, 12, 22))
    cut(session, 1, LineCut(None, [(0, 11.5), (20, 11.5)]))
    assert (pixels(session) == 2).sum() == 100 and session.objects[2].anchors == {PlaneRef(None, 0)}
    movie = open_volume(np.zeros((2, *SIZE), np.uint8), axes="tzyx")
    session = Session(movie, LabelVolume.create(tmp_path / "movie", movie), ids=())
    for t in (0, 1):
        session.accept(PlaneRef("z", 3, t), block(2, 2, 12, 22))
    cut(session, 1, ClickCut([(3, 5, 4), (3, 5, 20)]), t=1)
    assert (pixels(session)[0] == 1).sum() == 200 and (pixels(session)[1] == 2).sum() > 50
    assert session.objects[1].anchors == {PlaneRef("z", 3, 0), PlaneRef("z", 3, 1)}
    assert session.objects[2].anchors == {PlaneRef("z", 3, 1)}
