"""Candidates contest what they share: the surest stay, a seed that is known is none, and all of it survives a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src_core.errors import PromptError
from src_core.labels import LabelVolume
from src_core.linking import LinkSettings, segment_stack
from src_core.linking.contest import contest, winners
from src_core.linking.report import FoundObject, debris
from src_core.linking.seeds import _without_denied_ends, new_objects
from src_core.linking.shelf import RecordShelf
from src_core.masks import PackedMask
from src_core.predictor import Predictor
from src_core.stepping import Stepwise
from src_core.synthetic import make_stack
from src_core.volumes import open_volume
from tests.src_core.automatic.stub import box, record

SHAPE = (4, 40, 60)


def candidate(volume_px: int, score: float, side: float = 1.0, slices: int = 2) -> FoundObject:
    return FoundObject(dict.fromkeys(range(slices), score), volume_px, side)


def test_the_surest_stay_and_others_only_with_most_of_their_own() -> None:
    candidates = {1: candidate(100, 0.8), 2: candidate(100, 0.9), 3: candidate(100, 0.7)}
    assert winners(candidates, {(1, 2): 60, (1, 3): 90}) == [2, 3], "1 is gone, and takes nothing from 3"
    assert winners(candidates, {(1, 2): 40, (1, 3): 40}) == [2, 1, 3]
    assert winners(candidates, {(1, 3): 30, (2, 3): 30}) == [2, 1], "two surer ones together hold most of 3"
    assert winners({}, {}) == []


def test_who_looks_wrong_from_the_side_loses() -> None:
    candidates = {1: candidate(100, 0.9, side=0.4), 2: candidate(100, 0.7, side=0.9)}
    assert candidates[1].confidence == pytest.approx(0.36)
    assert winners(candidates, {(1, 2): 80}) == [2]


def test_a_seed_that_resembles_a_candidate_is_none() -> None:
    there = PackedMask.of(box(5, 5, 15, 15))
    same, part, other = record(box(5, 5, 15, 14)), record(box(5, 5, 15, 10)), record(box(20, 5, 30, 15))
    assert new_objects([same, part, other], [there]) == [part, other], "part of a leak may be an object"
    assert new_objects([same], []) == [same]


def test_ends_that_are_denied_from_the_side_go_and_gaps_stay() -> None:
    scores = dict.fromkeys(range(2, 10), 0.9)
    assert list(_without_denied_ends(scores, 5, frozenset({2, 3, 6, 9}))) == [4, 5, 6, 7, 8]
    assert list(_without_denied_ends(scores, 5, frozenset(range(10)))) == [5], "the seed itself stays"


def test_what_stays_is_drawn_and_counted(tmp_path: Path) -> None:
    labels = LabelVolume.create(tmp_path / "a.zarr", open_volume(np.zeros(SHAPE, np.uint8)))
    RecordShelf.prepare(labels.path, {})
    shelf = RecordShelf(labels.path)
    a, b, leak = box(5, 5, 15, 15), box(5, 12, 15, 22), box(0, 0, 30, 30)
    shelf.put_walked(1, 1, {1: PackedMask.of(leak), 2: PackedMask.of(a)})
    shelf.put_walked(2, 1, {1: PackedMask.of(leak)})
    shelf.put_walked(1, 3, {3: PackedMask.of(b)})
    shelf.put_walked(3, 7, {7: PackedMask.of(leak)})  # what a killed run had begun
    shelf.put_walked(2, 3, {3: PackedMask.of(b)})  # and what it had rounded to another end
    candidates = {
        1: FoundObject({1: 0.5, 2: 0.5}, 2 * int(leak.sum())),
        2: FoundObject({1: 0.9}, int(a.sum()), side=0.9),
        3: FoundObject({1: 0.7}, int(b.sum())),
    }
    deciding = Stepwise(contest(shelf, labels, candidates, range(4), axis="z", t=0))
    assert list(deciding) == [(1, 4), (2, 4), (3, 4), (4, 4)], "slices with nothing on them take no time"
    objects = deciding.found
    drawn = labels.read_plane("z", 1)
    assert np.array_equal(drawn == 1, a) and np.array_equal(drawn == 2, b & ~a), "the surest on top"
    assert np.array_equal(drawn == 3, leak & ~a & ~b) and np.array_equal(labels.read_plane("z", 2) == 3, leak)
    assert not labels.read_plane("z", 3).any()
    assert [o.volume_px for o in objects.values()] == [100, 70, 1800 - 170]
    assert objects[1].side == 0.9 and objects[3].scores == {1: 0.5, 2: 0.5}


def test_objects_on_too_few_slices_are_debris() -> None:
    objects = {1: candidate(100, 0.9), 2: candidate(100, 0.9, slices=1)}
    assert debris(objects, 0.05, 2) == [2] and debris(objects, 0.05) == []


def test_one_slice_of_a_stack_is_not_looked_at_from_the_side(tmp_path: Path) -> None:
    volume = open_volume(make_stack(8_000_315, (8, 96, 96), "nuclei", 10.0).image)
    report = segment_stack(Predictor.load("nano", "cpu"), volume, tmp_path / "a.zarr", start=5, stop=6)
    assert report.objects and all(found.side == 1 for found in report.objects.values())


def test_nothing_stays_that_is_not_sure_enough(tmp_path: Path) -> None:
    volume = open_volume(make_stack(8_000_315, (6, 96, 96), "nuclei", 10.0).image)
    predictor = Predictor.load("nano", "cpu")

    def found(least: float) -> dict[int, FoundObject]:
        links = LinkSettings(min_confidence=least)
        return segment_stack(predictor, volume, tmp_path / f"{least}.zarr", links=links).objects

    everything, sure = found(0.0), found(0.6)
    assert 0 < len(sure) < len(everything)
    assert all(o.confidence >= 0.5 for o in sure.values()), "on the slices that are left"
    assert any(o.side < 1 for o in sure.values()), "it was asked"
    with pytest.raises(PromptError, match="min_confidence"):
        LinkSettings(min_confidence=1.5)
