"""Many prompts become objects: who gets the pixels, what is kept, one entry in the history."""

from __future__ import annotations

import shutil
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import pytest

from src_core import session_prompts
from src_core.embeddings import EmbeddingCache
from src_core.errors import PromptError, SessionError
from src_core.labels import LabelVolume
from src_core.prompts import Prompts
from src_core.session import Session, open_session, replay
from src_core.session_prompts import PromptsProgress, Wanted, segment_session
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.napari_sam.fakes import Threshold, balls

TRUTH = balls() > 100
LEFT = TRUTH & (np.indices(TRUTH.shape)[2] < 32)
RIGHT = TRUTH & ~LEFT


class Bench:
    """A session on two balls with a fake network."""

    def __init__(self, folder: Path, dtype: type = np.uint32) -> None:
        volume = open_volume(balls())
        self.session = Session(volume, LabelVolume.create(folder / "labels", volume, dtype=dtype))
        self.cache = EmbeddingCache(Threshold(), volume)

    def run(self, *wanted: Wanted, stop_after: int | None = None) -> list[PromptsProgress]:
        keys = list(dict.fromkeys(w.key for w in wanted))
        states = dict(zip(keys, self.session.add_objects([None] * len(keys)), strict=True))
        steps = segment_session(self.session, self.cache, wanted, states, "objects from seeds")
        found = []
        for progress in steps:
            found.append(progress)
            if stop_after is not None and progress.done >= stop_after:
                break
        steps.close()  # type: ignore[attr-defined]
        return found

    def plane(self, z: int) -> np.ndarray:
        return self.session.labels.read_plane("z", z)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def click(key: Hashable, z: int, y: float, x: float) -> Wanted:
    return Wanted(PlaneRef("z", z), key, lambda: Prompts([(y, x)]))


def test_objects_are_written_plane_by_plane_and_their_planes_are_anchors(bench: Bench) -> None:
    steps = bench.run(click("a", 6, 16, 16), click("b", 6, 30, 46), click("a", 4, 16, 16))
    assert np.array_equal(bench.plane(6), 2 * LEFT[6] + 3 * RIGHT[6].astype(int))
    objects = bench.session.objects
    assert objects[2].anchors == {PlaneRef("z", 6), PlaneRef("z", 4)} and len(objects[3].anchors) == 1
    assert bench.session.current == 1
    assert steps[0] == PromptsProgress(0, 3) and steps[-1] == PromptsProgress(3, 3, PlaneRef("z", 4), 2)


def test_undo_and_redo_take_all_of_it(bench: Bench) -> None:
    bench.session.accept(PlaneRef("z", 4), RIGHT[4])
    bench.run(click("a", 6, 16, 16), click("b", 6, 30, 46))
    after = bench.plane(6)
    assert bench.session.undo() == "objects from seeds"
    assert not bench.plane(6).any() and set(bench.session.objects) == {1}
    assert np.array_equal(bench.plane(4) == 1, RIGHT[4])
    assert bench.session.redo() == "objects from seeds"
    assert np.array_equal(bench.plane(6), after) and bench.session.objects[3].anchors == {PlaneRef("z", 6)}
    assert bench.session.undo() and bench.session.undo() == "accept object 1"


def test_the_better_answer_has_the_pixels_and_what_is_labelled_stays(bench: Bench) -> None:
    class Sized(Threshold):
        """The later a prompt comes, the surer."""

        def predict_many(self, embedding, prompts, *, multimask=None):  # type: ignore[no-untyped-def]
            found = super().predict_many(embedding, prompts, multimask=multimask)
            for k, answer in enumerate(found):
                answer.scores[0] = 0.1 * k
            return found

    bench.cache = EmbeddingCache(Sized(), bench.session.volume)
    bench.session.accept(PlaneRef("z", 6), RIGHT[6])
    steps = bench.run(click("a", 6, 16, 16), click("b", 6, 17, 17), click("c", 6, 30, 46))
    assert np.array_equal(bench.plane(6), 3 * LEFT[6].astype(int) + RIGHT[6])
    assert set(bench.session.objects) == {1, 3}, "objects without a mask have gone"
    assert steps[-1].made == 1 and steps[-1].taken == 2


def test_a_mask_that_is_mostly_free_gets_the_rest(bench: Bench) -> None:
    part = LEFT[6].copy()
    part[:, 14:] = False
    assert 0 < part.sum() < 0.5 * LEFT[6].sum()
    bench.session.accept(PlaneRef("z", 6), part)
    bench.run(click("a", 6, 16, 16))
    assert np.array_equal(bench.plane(6) == 1, part) and np.array_equal(bench.plane(6) == 2, LEFT[6] & ~part)


def test_finished_objects_stay_also_where_others_may_be_overwritten(bench: Bench) -> None:
    bench.session.accept(PlaneRef("z", 6), LEFT[6])
    bench.session.allow_overwrite = True
    bench.run(click("a", 6, 16, 16))
    assert (bench.plane(6)[LEFT[6]] == 2).all(), "an open one gives way"
    bench.session.set_done(2)
    assert bench.run(click("b", 6, 16, 16))[-1].taken == 1
    assert (bench.plane(6)[LEFT[6]] == 2).all()


def test_nothing_seen_and_nothing_said_are_counted(bench: Bench) -> None:
    def nothing() -> Prompts:
        raise PromptError("nothing says where the object is")

    silent = Wanted(PlaneRef("z", 6), "b", nothing)
    last = bench.run(click("a", 6, 2, 2), silent)[-1]
    assert (last.made, last.empty, last.done) == (0, 2, 2)
    assert set(bench.session.objects) == {1} and bench.session.undo_name is None


def test_many_on_one_plane_are_asked_a_few_at_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_prompts, "BATCH", 2)
    clicks = [click(k, 6, *((16, 16) if k % 2 else (30, 46))) for k in range(5)]
    steps = bench.run(*clicks)
    assert [s.done for s in steps] == [0, 2, 4, 5, 5] and steps[-1].made == 2 and steps[-1].taken == 3


def test_stopping_keeps_what_is_done_as_one_entry(bench: Bench) -> None:
    bench.run(click("a", 6, 16, 16), click("b", 5, 30, 46), click("c", 4, 16, 16), stop_after=2)
    assert bench.plane(6).any() and bench.plane(5).any() and not bench.plane(4).any()
    assert set(bench.session.objects) == {1, 2, 3}
    assert bench.session.undo() == "objects from seeds" and not bench.plane(6).any()
    assert set(bench.session.objects) == {1}


def test_stopping_half_way_through_a_plane_keeps_what_is_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_prompts, "BATCH", 1)
    bench.run(click("a", 6, 16, 16), click("b", 6, 30, 46), stop_after=1)
    assert np.array_equal(bench.plane(6) == 2, LEFT[6]) and set(bench.session.objects) == {1, 2}
    assert bench.session.undo() == "objects from seeds" and not bench.plane(6).any()


# ------------------------------------------------------------------ numbers


def test_new_objects_get_the_numbers_they_wish_for_if_those_are_free(bench: Bench) -> None:
    session = bench.session
    made = session.add_objects([4, None, 1, 9, 4, 0, -3])
    assert [o.id for o in made] == [4, 10, 11, 9, 12, 13, 14] and session.current == 1
    assert set(session.objects) == {1, 4, 9, 10, 11, 12, 13, 14}


def test_the_empty_current_object_can_give_its_number(bench: Bench) -> None:
    made = bench.session.add_objects([None, 1, None], replace_current=True)
    assert [o.id for o in made] == [2, 1, 3] and bench.session.current == 4


def test_numbers_that_do_not_fit_start_nothing(tmp_path: Path) -> None:
    session = Bench(tmp_path, np.uint8).session
    assert [o.id for o in session.add_objects([255, 120])] == [121, 120], "room is left above"
    with pytest.raises(SessionError, match="cannot hold 200 more objects; 3 are there"):
        session.add_objects([None] * 200)
    assert set(session.objects) == {1, 120, 121}


def test_objects_without_a_mask_are_not_propagated_with_the_others(bench: Bench) -> None:
    session = bench.session
    assert session.unfinished() == [1], "alone, it says itself that there is nothing to propagate"
    bench.run(click("a", 6, 16, 16), click("b", 6, 30, 46))
    session.set_done(3)
    assert session.unfinished() == [2]
    session.adopt([7])
    assert session.unfinished() == [2, 7], "what was found in the labels may have masks"


def test_after_reopening_all_of_it_is_there_and_can_be_taken_back(bench: Bench, tmp_path: Path) -> None:
    bench.session = open_session(open_volume(balls()), tmp_path / "kept")
    bench.session.accept(PlaneRef("z", 4), RIGHT[4])
    bench.run(click("a", 6, 16, 16), click("b", 6, 30, 46), click("c", 6, 2, 2))
    bench.session.select(3)
    before, ids = bench.session.objects, bench.plane(6)
    bench.session.close()
    bench.session = open_session(open_volume(balls()), tmp_path / "kept")
    assert bench.session.objects == before and set(before) == {1, 2, 3} and bench.session.current == 3
    assert bench.session.undo() == "objects from seeds"
    assert not bench.plane(6).any() and set(bench.session.objects) == {1} and bench.session.current == 1
    bench.session.close()
    bench.session = open_session(open_volume(balls()), tmp_path / "kept")
    assert set(bench.session.objects) == {1} and bench.session.current == 1
    assert bench.session.redo() == "objects from seeds"
    assert np.array_equal(bench.plane(6), ids) and bench.session.objects == before
    bench.session.close()
    again = replay(tmp_path / "kept", tmp_path / "again.zarr")
    assert np.array_equal(again.labels.array[:], bench.session.labels.array[:])


def test_what_was_made_before_a_kill_is_kept_and_can_be_taken_back(bench: Bench, tmp_path: Path) -> None:
    bench.session = session = open_session(open_volume(balls()), tmp_path / "kept")
    made = dict(zip("ab", session.add_objects([None, None]), strict=True))
    wanted = [click("a", 6, 16, 16), click("b", 5, 30, 46)]
    for progress in segment_session(session, bench.cache, wanted, made, "objects from seeds"):
        if progress.made == 1 and not (tmp_path / "killed").exists():
            session.flush()
            shutil.copytree(tmp_path / "kept", tmp_path / "killed")  # what a kill leaves at this moment
    session.close()
    bench.session = session = open_session(open_volume(balls()), tmp_path / "killed")
    assert np.array_equal(bench.plane(6) == 2, LEFT[6]) and not bench.plane(5).any()
    assert session.objects[2].anchors == {PlaneRef("z", 6)} and 3 not in session.objects
    assert session.undo() == "objects from seeds"
    assert not bench.plane(6).any() and 2 not in session.objects
    session.close()
