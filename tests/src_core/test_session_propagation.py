"""Propagation as one undoable edit that computes only what a change can reach."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from src_core.embeddings import EmbeddingCache
from src_core.errors import PromptError
from src_core.labels import LabelVolume
from src_core.propagation import PropagationSettings, Step
from src_core.session import ObjectState, Session, confirm
from src_core.session_propagation import FROM_THE_SIDE, Doubt, PropagationProgress, propagate_session
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.napari_sam.fakes import BlindBelow, Threshold, balls

TRUTH = balls() > 100
LEFT = TRUTH & (np.indices(TRUTH.shape)[2] < 32)
RIGHT = TRUTH & ~LEFT


class Bench:
    """A session on two balls with a fake network."""

    def __init__(self, folder: Path) -> None:
        volume = open_volume(balls())
        self.session = Session(volume, LabelVolume.create(folder / "labels", volume))
        self.predictor = Threshold()
        self.cache = EmbeddingCache(self.predictor, volume)

    def run(self, identities: list[int], **options: object) -> list[PropagationProgress]:
        return list(propagate_session(self.session, self.cache, identities, axis="z", **options))  # type: ignore[arg-type]

    @property
    def data(self) -> np.ndarray:
        return np.asarray(self.session.labels.array[:])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _accept(bench: Bench, z: int, mask: np.ndarray, identity: int = 1) -> None:
    bench.session.accept(PlaneRef("z", z), mask, identity)


def test_an_object_is_filled_from_one_anchor_with_scores_and_reasons(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6])
    steps = bench.run([1])
    assert np.array_equal(bench.data == 1, LEFT)
    filled = {z for z in range(12) if LEFT[z].any()} - {6}
    assert {p.index for p in bench.session.objects[1].scores} == filled
    assert steps[0].done == 0 and steps[-1].done == steps[-1].total
    assert all(a.done <= b.done for a, b in itertools.pairwise(steps))
    assert len(steps[-1].stopped[1]) == 2, "one end on either side"


def test_several_objects_go_together_and_are_one_entry(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6], 1)
    bench.session.new_object()
    _accept(bench, 6, RIGHT[6], 2)
    bench.run([1, 2])
    assert np.array_equal(bench.data, LEFT + 2 * RIGHT.astype(np.uint32))
    assert len(bench.predictor.embedded) == len(set(bench.predictor.embedded)), "no plane twice"
    assert bench.session.undo() == "propagate object 1, 2"
    assert np.array_equal(bench.data[6], LEFT[6] + 2 * RIGHT[6].astype(np.uint32))
    assert not bench.data[:6].any() and bench.session.objects[1].scores == {}
    bench.session.redo()
    assert np.array_equal(bench.data, LEFT + 2 * RIGHT.astype(np.uint32))
    assert bench.session.objects[2].scores


def test_nothing_is_computed_again_where_nothing_changed(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6])
    bench.run([1])
    before, undo = bench.data, bench.session.undo_name
    bench.cache.predictor.asked = []  # type: ignore[attr-defined]
    steps = bench.run([1])
    assert np.array_equal(bench.data, before) and bench.session.undo_name == undo
    assert [s.plane for s in steps if s.plane is not None] == []


def test_only_the_stretch_next_to_a_correction_is_computed_again(bench: Bench) -> None:
    for z in (3, 6, 9):
        _accept(bench, z, LEFT[z])
    bench.run([1])
    corrected = LEFT[9].copy()
    corrected[:16] = False
    _accept(bench, 9, corrected)
    visited = {s.plane.index for s in bench.run([1]) if s.plane is not None}
    assert min(visited) >= 6 and 9 in visited
    assert np.array_equal(bench.data[9] == 1, corrected), "an anchor stays"
    assert np.array_equal(bench.data[:6] == 1, LEFT[:6])


def test_what_an_earlier_run_left_and_this_one_did_not_find_is_cleared(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6])
    bench.run([1])
    with bench.session.edit("propagate") as edit:  # as if an earlier run had leaked to the first slice
        bench.session.write_step(edit, PlaneRef("z", 0), {1: RIGHT[6]}, {1: 0.2})
    moved = np.roll(LEFT[6], 1, 0)
    _accept(bench, 6, moved)
    bench.run([1])
    assert not (bench.data[0] == 1).any()
    assert PlaneRef("z", 0) not in bench.session.objects[1].scores
    bench.session.undo()
    assert (bench.data[0] == 1).any()


def test_a_range_is_kept_to(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6])
    bench.run([1], start=5, stop=8)
    assert {z for z in range(12) if bench.data[z].any()} == {5, 6, 7}
    bench.run([1])
    assert np.array_equal(bench.data == 1, LEFT)


def test_closing_half_way_keeps_what_is_done_as_one_entry(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6])
    run = propagate_session(bench.session, bench.cache, [1], axis="z")
    while bench.data[7].max() == 0 and bench.data[5].max() == 0:
        next(run)
    run.close()
    assert bench.session.undo() == "propagate object 1"
    assert {z for z in range(12) if bench.data[z].any()} == {6}
    bench.session.redo()
    bench.run([1])
    assert np.array_equal(bench.data == 1, LEFT)


def test_finished_objects_are_skipped_and_neighbours_spared(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6], 1)
    bench.session.new_object()
    _accept(bench, 7, LEFT[7], 2)  # object 2 already has this part of the ball
    bench.session.set_done(2)
    bench.run([1, 2])
    assert np.array_equal(bench.data[7], 2 * LEFT[7].astype(np.uint32))
    assert np.array_equal(bench.data[5] == 1, LEFT[5])


def test_an_object_without_a_mask_cannot_be_propagated(bench: Bench) -> None:
    with pytest.raises(PromptError, match="accept a mask"):
        bench.run([1])
    _accept(bench, 6, LEFT[6])
    bench.session.set_done(1)
    with pytest.raises(PromptError):
        bench.run([1])
    assert bench.session.undo_name == "finish object 1"


def test_an_object_deleted_meanwhile_ends_the_run_and_loses_no_other(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6], 1)
    bench.session.new_object()
    _accept(bench, 6, RIGHT[6], 2)
    run = propagate_session(bench.session, bench.cache, [1, 2], axis="z")
    for _ in range(3):
        next(run)
    bench.session.delete(2)
    with pytest.raises(Exception, match="no object 2"):
        list(run)
    assert (bench.data == 1).any() and bench.session.undo_name == "delete object 2"
    bench.session.undo()
    assert (bench.data == 2).any() and bench.session.undo_name == "propagate object 1, 2"


@pytest.mark.parametrize("what", ["accept", "confirm", "erase", "finish"])
def test_what_the_user_does_meanwhile_is_undone_by_itself(bench: Bench, what: str) -> None:
    session, plane = bench.session, PlaneRef("z", 7)
    _accept(bench, 6, LEFT[6])
    seen: list[np.ndarray] = []

    def look() -> None:
        seen.append(bench.data)

    look()
    for step in propagate_session(session, bench.cache, [1], axis="z"):
        if step.plane == plane and len(seen) == 1:
            look()
            if what == "accept":
                _accept(bench, 7, RIGHT[7])
            elif what == "confirm":
                confirm(session, plane, 1)
            elif what == "finish":
                session.set_done(1)
            else:
                before = session.labels.read_box("z", 7, (0, 0, 48, 32))
                session.labels.write_box("z", 7, (0, 0, 48, 32), before * 0)
                session.record([(plane, (0, 0, 48, 32), before, before * 0)])
            look()
    look()
    own = "paint" if what == "erase" else f"{'accept' if what == 'confirm' else what} object 1"
    rest = [] if what == "finish" else ["propagate object 1"]
    assert [session.undo() for _ in rest] == rest and np.array_equal(bench.data, seen[2])
    assert session.undo() == own and np.array_equal(bench.data, seen[1])
    assert session.undo() == "propagate object 1" and np.array_equal(bench.data, seen[0])
    assert session.objects[1].scores == {} and session.objects[1].anchors == {PlaneRef("z", 6)}
    while session.redo():
        pass
    assert np.array_equal(bench.data, seen[-1])
    while session.undo():
        pass
    assert not bench.data.any() and session.review.remaining("z") == 0
    assert session.objects[1] == ObjectState(1)


@pytest.mark.parametrize("undone", [1, 2])
def test_a_run_of_which_something_was_undone_meanwhile_is_not_complete(bench: Bench, undone: int) -> None:
    session = bench.session
    _accept(bench, 6, LEFT[6])
    for step in propagate_session(session, bench.cache, [1], axis="z"):
        if step.plane == PlaneRef("z", 7) and session.undo_name == "accept object 1":
            session.rename(1, "left")
            names = [session.undo() for _ in range(undone)]
            assert names == ["rename object 1", "propagate object 1"][:undone]
    if undone == 2:
        assert not np.array_equal(bench.data == 1, LEFT), "what was undone is not there"
        bench.run([1])
    assert np.array_equal(bench.data == 1, LEFT)
    while session.undo():
        pass
    assert session.objects[1] == ObjectState(1) and not bench.data.any()


def test_after_all_of_it_was_undone_an_interrupted_run_is_done_again(bench: Bench) -> None:
    session = bench.session
    _accept(bench, 6, LEFT[6])
    steps = list(propagate_session(session, bench.cache, [1], axis="z"))
    session.undo()
    last = [step.plane for step in steps if step.plane is not None][-1]
    for step in propagate_session(session, bench.cache, [1], axis="z"):
        if step.plane == last and session.objects[1].name == "":
            session.rename(1, "left")  # what is left to do changes no label
    for _ in range(3):
        session.undo()
    assert session.undo_name == "accept object 1" and session.objects[1].settled == {}
    bench.run([1])
    assert np.array_equal(bench.data == 1, LEFT)


class Brightness(Threshold):
    """As sure as the object is bright."""

    def predict_many(self, embedding, prompts, *, multimask=None):  # type: ignore[no-untyped-def]
        found = super().predict_many(embedding, prompts, multimask=multimask)
        for answer in found:
            answer.scores[0] = (
                embedding.picture[..., 0][answer.masks[0]].mean() / 255 if answer.masks[0].any() else 0
            )
        return found


def test_no_slice_is_surer_than_the_one_it_was_made_from(tmp_path: Path) -> None:
    image = np.where(LEFT, 250, 20).astype(np.uint8)
    image[8][LEFT[8]], image[3][LEFT[3]] = 128, 160
    volume = open_volume(image)
    session = Session(volume, LabelVolume.create(tmp_path / "labels", volume))
    for z in (5, 6):
        session.accept(PlaneRef("z", z), LEFT[z])
    list(propagate_session(session, EmbeddingCache(Brightness(), volume), [1], axis="z"))
    found = session.review.lowest("z")
    assert set(session.objects[1].ends) == {PlaneRef("z", 1), PlaneRef("z", 11)}
    assert sorted(found) == [1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert found[7] > 0.9 and found[4] > 0.9
    assert found[8] == found[9] == found[10] < 0.6, "what follows an unsure slice is as unsure"
    assert found[2] == found[3] < 0.7 and found[3] > found[8], "the other way has doubts of its own"


def test_where_an_object_ends_is_a_question_too(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6])
    bench.run([1])
    state = bench.session.objects[1]
    assert {p.index for p in state.ends} == {1, 11} and not state.ends.keys() & state.scores.keys()
    assert bench.session.review.remaining("z") == len(state.scores) + 2
    confirm(bench.session, PlaneRef("z", 11), 1)
    assert PlaneRef("z", 11) in state.anchors and PlaneRef("z", 11) not in state.ends
    bench.session.accept(PlaneRef("z", 1), LEFT[6])  # it goes on
    bench.run([1])
    assert (bench.data[1] == 1).any() and not (bench.data[11] == 1).any()
    assert {p.index for p in state.ends} == {0}, "one slice further"
    for _ in range(3):
        bench.session.undo()
    assert {p.index for p in bench.session.objects[1].ends} == {1, 11}
    bench.session.undo()
    assert bench.session.objects[1].ends == {} and bench.session.review.remaining("z") == 0


def test_propagation_that_finds_only_ends_is_undone_too(tmp_path: Path) -> None:
    image = np.full(LEFT.shape, 20, np.uint8)
    image[6][LEFT[6]] = 200
    volume = open_volume(image)
    session = Session(volume, LabelVolume.create(tmp_path / "labels", volume))
    session.accept(PlaneRef("z", 6), LEFT[6])
    list(propagate_session(session, EmbeddingCache(Threshold(), volume), [1], axis="z"))
    assert session.objects[1].scores == {} and {p.index for p in session.objects[1].ends} == {5, 7}
    assert session.undo() == "propagate object 1"
    assert session.objects[1].ends == {} and session.review.worst("z") is None


def test_an_object_erased_on_a_slice_ends_there(bench: Bench) -> None:
    _accept(bench, 6, LEFT[6])
    bench.run([1])
    rows, columns = slice(0, 48), slice(0, 64)
    before = bench.data[8]
    bench.session.labels.write_box("z", 8, (0, 0, 48, 64), np.zeros_like(before))
    bench.session.record([(PlaneRef("z", 8), (0, 0, 48, 64), before[rows, columns], np.zeros_like(before))])
    steps = bench.run([1])
    assert {z for z in range(12) if (bench.data[z] == 1).any()} == {2, 3, 4, 5, 6, 7}
    assert steps[-1].stopped[1] == ["z=8: you have said that it is not here"]
    state = bench.session.objects[1]
    assert all(p.index < 8 for p in state.unsure), "beyond it nothing is left to look at"
    _accept(bench, 9, np.zeros_like(LEFT[9]))  # in a stretch with nothing in it
    assert bench.run([1])[-1].stopped == {}
    assert {z for z in range(12) if (bench.data[z] == 1).any()} == {2, 3, 4, 5, 6, 7}


def test_a_second_look_moves_ends(bench: Bench) -> None:
    bench.predictor = BlindBelow()
    bench.cache = EmbeddingCache(bench.predictor, bench.session.volume)
    _accept(bench, 6, LEFT[6])
    steps = bench.run([1], settings=PropagationSettings(across=("y", "x")))
    again = [s for s in steps if s.unit == FROM_THE_SIDE]
    walked = steps[steps.index(again[0]) - 1]
    assert walked.unit == "slice" and any("z=4:" in end for end in walked.stopped[1])
    assert [s.done for s in again] == sorted(s.done for s in again)
    assert (again[-1].done, again[-1].total) == (100, 100) and steps[-1].done == steps[-1].total != 100
    assert {s.plane.index for s in again if s.plane is not None} == {2, 3, 4}, "others do not change"
    state = bench.session.objects[1]
    assert {z for z in range(12) if (bench.data[z] == 1).any()} == {z for z in range(12) if LEFT[z].any()}
    assert {p.index for p in state.ends} & {2, 3, 4} == set() and len(state.ends) == 2
    assert len(steps[-1].stopped[1]) == 2 and not any("z=4:" in end for end in steps[-1].stopped[1])
    added = [state.scores[PlaneRef("z", z)] for z in (4, 3, 2)]
    assert added == sorted(added, reverse=True) and max(added) < state.scores[PlaneRef("z", 5)]
    assert bench.session.undo() == "propagate object 1" and not bench.data[:6].any()


def test_a_second_look_is_no_surer_of_what_it_changes() -> None:
    doubt = Doubt({6: {1: LEFT[6]}})

    def score(z: int, sure: float, again: float | None = None) -> float:
        return doubt.scores(Step(z, {1: LEFT[6]}, {1: sure}, again=again))[1]

    assert [score(7, 0.9), score(8, 0.5), score(5, 0.8)] == [0.9, 0.5, 0.8]
    assert [score(7, 0.9, 0.5), score(8, 0.7, 0.5), score(9, 0.6, 0.5), score(4, 0.3, 1.0)] == [
        0.9,
        0.5,
        0.5,
        0.3,
    ]


def test_doubt_is_carried_up_to_where_there_is_nothing() -> None:
    nothing = np.zeros_like(LEFT[6])
    doubt = Doubt({2: {1: LEFT[6]}, 6: {1: nothing}, 9: {1: LEFT[6]}})
    scores = [
        doubt.scores(Step(z, {1: LEFT[6]}, {1: s}))[1] for z, s in ((3, 0.4), (4, 0.9), (8, 0.7), (7, 0.8))
    ]
    assert scores == [0.4, 0.4, 0.7, 0.7], "from 2 upwards, and from 9 downwards"
    assert doubt.scores(Step(10, {1: LEFT[6]}, {1: 0.9})) == {1: 0.9}


def test_between_anchors_every_slice_stands_by_itself() -> None:
    anchors = {5: {1: LEFT[6]}, 9: {1: LEFT[6], 2: RIGHT[6]}}
    doubt = Doubt(anchors)

    def score(z: int, **scores: float) -> dict[int, float]:
        found = {int(k[1:]): v for k, v in scores.items()}
        return doubt.scores(Step(z, dict.fromkeys(found, LEFT[6]), found))

    assert score(10, o1=0.9, o2=0.4) == {1: 0.9, 2: 0.4}
    assert score(11, o1=0.5, o2=0.8) == {1: 0.5, 2: 0.4}
    assert score(12, o1=0.8) == {1: 0.5}
    assert score(8, o1=0.3, o2=0.7) == {1: 0.3, 2: 0.7}
    assert score(7, o1=0.9, o2=0.9) == {1: 0.9, 2: 0.7}
    assert score(4, o1=0.6, o2=0.2) == {1: 0.6, 2: 0.2}
