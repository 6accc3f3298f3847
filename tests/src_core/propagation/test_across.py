"""What a second look across the slices makes of what a walk has found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.errors import VolumeError
from src_core.labels import LabelVolume
from src_core.masks import Mask, PackedMask
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.propagation import PropagationSettings, PropagationState, Step, across, propagate
from src_core.propagation.ballot import Ballot
from src_core.propagation.blocks import Block, grouped, read_block, thinning
from src_core.propagation.saving import ObjectReport, note_step, propagate_to_labels
from src_core.propagation.store import FOLDER
from src_core.propagation.tracks import Slabs
from src_core.volumes import Volume, open_volume
from tests.src_core.image_files import write_ome_zarr

SHAPE, STEP = (26, 48, 64), 2.0
EARLY = PropagationSettings(min_presence=0.9)
"""Lets a walk end while it is still rather sure."""


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("nano", "cpu")


@pytest.fixture(scope="module")
def labels() -> NDArray[np.uint8]:
    """Two balls side by side, nine slices tall, eighteen pixels wide."""
    z, y, x = np.indices(SHAPE)
    found = np.zeros(SHAPE, np.uint8)
    for k, (cz, cy, cx) in enumerate([(14, 24, 18), (15, 24, 42)], start=1):
        found[(STEP * (z - cz)) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= 100] = k
    return found


@pytest.fixture(scope="module")
def pixels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 8, SHAPE)
    return np.clip(40 + 120 * (labels > 0) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def volume(pixels: NDArray[np.uint8]) -> Volume:
    return open_volume(pixels, axes="zyx", scale={"z": 0.3 * STEP, "y": 0.3, "x": 0.3})


def slices(masks: dict[int, Mask]) -> tuple[int, int]:
    there = [z for z, mask in masks.items() if mask.any()]
    return min(there), max(there)


def shortened(monkeypatch: pytest.MonkeyPatch, low: int, high: int) -> None:
    """Let walks through the stack forget what they found below and above two slices."""
    looked = across.SecondLook.steps

    def steps(look: across.SecondLook, done: int = 0) -> Any:
        for slabs in look._walk.found.values():
            for z in [z for z in slabs if not low <= z <= high]:
                del slabs[z]
        return looked(look, done)

    monkeypatch.setattr(across.SecondLook, "steps", steps)


def both(steps: Any, k: int) -> tuple[dict[int, Mask], dict[int, Mask], list[Step]]:
    """Return the masks of an object before and in the second look, and the steps of that."""
    first: dict[int, Mask] = {}
    again: dict[int, Mask] = {}
    told = []
    for step in steps:
        if step.again is not None:
            told.append(step)
        if k in step.masks:
            (first if step.again is None else again)[step.index] = step.masks[k]
    return first, again, told


def test_what_ended_too_early_goes_on(
    predictor: Predictor, volume: Volume, labels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, 12, 16)
    _, again, told = both(propagate(predictor, volume, {14: {1: labels[14] == 1}}), 1)
    low, high = slices({z: labels[z] == 1 for z in range(len(labels))})
    assert low < 12 and high > 16, "there is something to find"
    found = slices(again)
    assert abs(found[0] - low) <= 1 and abs(found[1] - high) <= 1, found
    for z in (low + 1, high - 1):
        assert np.count_nonzero(again[z] & (labels[z] == 1)) > 0.5 * np.count_nonzero(labels[z] == 1)
    ends = {s.index: s.stopped[1] for s in told if 1 in s.stopped}
    assert ends.keys() == {found[0] - 1, found[1] + 1}
    assert set(ends.values()) == {across.END}
    shares = [s.again for s in told if s.again is not None]
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(set(shares)) > 10
    absences = [s.ends[1] for s in told if 1 in s.ends]
    assert len(absences) == 2 and all(0.5 < a <= 1 for a in absences)


def test_slices_that_are_added_are_doubtful(
    predictor: Predictor, volume: Volume, labels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, 12, 16)
    told = both(propagate(predictor, volume, {14: {1: labels[14] == 1}}), 1)[2]
    added = {s.index: s.scores[1] for s in told if 1 in s.masks and not 12 <= s.index <= 16}
    assert added and all(0 < score <= across.WORTH for score in added.values())


def test_what_the_user_has_said_stays(
    predictor: Predictor, volume: Volume, labels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, 12, 15)
    nothing = np.zeros(SHAPE[1:], np.bool_)
    anchors = {13: {1: labels[13] == 1}, 14: {1: labels[14] == 1}, 17: {1: nothing}}
    _, again, told = both(propagate(predictor, volume, anchors), 1)
    assert again and not {13, 14, 17} & again.keys() and max(again) == 16
    assert [s.stopped[1] for s in told if s.index == 17 and s.stopped] == [
        "you have said that it is not here"
    ]
    _, again, _ = both(propagate(predictor, volume, anchors, start=12, stop=16), 1)
    assert all(12 <= z < 16 for z in again)


def test_nothing_is_looked_at_where_nothing_is_open(
    predictor: Predictor, volume: Volume, labels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(across, "read_block", None)
    anchors = {12: {1: labels[12] == 1}, 16: {1: labels[16] == 1}}
    steps = list(propagate(predictor, volume, anchors, start=12, stop=17))
    assert {s.index for s in steps if s.masks} == {12, 13, 14, 15, 16}
    unknown = replace(volume, scale=dict.fromkeys("zyx", 1.0), units=dict.fromkeys("zyx"))
    for other, settings in ((unknown, None), (volume, PropagationSettings(sides=False))):
        assert list(propagate(predictor, other, {14: {1: labels[14] == 1}}, settings=settings))


@pytest.mark.parametrize("most", [0, 2**28])
def test_nobody_loses_a_pixel_to_what_is_added(
    predictor: Predictor,
    volume: Volume,
    labels: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    shortened(monkeypatch, 13, 16)
    monkeypatch.setattr("src_core.propagation.blocks.MOST_BYTES", most)  # each by itself, or both in a block
    monkeypatch.setattr(Ballot, "box", (0, 0, *SHAPE[1:]))
    monkeypatch.setattr(Ballot, "on", lambda *args: np.ones(SHAPE[1:], np.float32))
    anchors = {14: {k: labels[14] == k for k in (1, 2)}}
    found: dict[tuple[int, int], Mask] = {}
    grown = set()
    for step in propagate(predictor, volume, anchors):
        if step.again is not None:
            grown |= {
                (k, step.index) for k, m in step.masks.items() if m.sum() > 2 * found[k, step.index].sum()
            }
        if 13 <= step.index <= 16:
            found |= {(k, step.index): mask for k, mask in step.masks.items()}
        for z in range(13, 17):
            if (1, z) in found and (2, z) in found:
                assert not (found[1, z] & found[2, z]).any(), (z, step)
    assert len(grown) == 3, "who comes first takes what is free on 13, 15 and 16"
    whole = [s for s in propagate(predictor, volume, anchors, overlapping=True) if s.again and s.masks]
    assert any(mask.all() for s in whole for mask in s.masks.values())


def test_what_cannot_be_read_ends_the_look(
    predictor: Predictor, volume: Volume, labels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, 12, 16)
    read = across.read_block.__globals__["_picture"]

    def torn(volume: Volume, where: Any, *args: Any) -> Any:
        if where.index == 18:
            raise VolumeError("torn")
        return read(volume, where, *args)

    monkeypatch.setitem(across.read_block.__globals__, "_picture", torn)
    _, again, _ = both(propagate(predictor, volume, {14: {1: labels[14] == 1}}), 1)
    assert again and slices(again)[1] <= 17 and slices(again)[0] < 12


def test_a_second_look_goes_on_where_it_was(
    predictor: Predictor, volume: Volume, labels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, 12, 16)
    monkeypatch.setattr("src_core.propagation.blocks.MOST_BYTES", 0)  # every object by itself
    anchors = {14: {k: labels[14] == k for k in (1, 2)}}
    states: list[tuple[PropagationState, int]] = []
    steps: list[Step] = []
    for step in propagate(predictor, volume, anchors, checkpoint=lambda s: states.append((s, len(steps)))):
        steps.append(step)
    looks = [(state, n) for state, n in states if state.direction == 0]
    assert [state.index for state, _ in looks] == [1, 2]

    def told(some: list[Step]) -> list[Any]:
        return [(s.index, {k: m.tobytes() for k, m in s.masks.items()}, s.stopped) for s in some if s.masks]

    for state, seen in looks:
        assert told(list(propagate(predictor, volume, anchors, resume=state))) == told(steps[seen:])
    assert told(steps[looks[0][1] :]), "there is something left to do"


def test_a_run_that_is_cancelled_in_its_second_look_ends_with_the_same_labels(
    predictor: Predictor, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    image = open_volume(write_ome_zarr(tmp_path / "cells.ome.zarr", [pixels], scale=(0.6, 0.3, 0.3)))
    prompts = {14: {1: Prompts([(24, 18)]), 2: Prompts([(24, 42)])}}
    options: dict[str, Any] = {"settings": EARLY}
    seen: list[tuple[int, int]] = []
    whole = propagate_to_labels(
        predictor,
        image,
        prompts,
        tmp_path / "whole.ome.zarr",
        progress=lambda *told: seen.append(told),
        **options,
    )
    total = seen[-1][1]
    assert seen == sorted(seen) and seen[-1] == (total, total) and total == 2 * 27
    assert len({done for done, _ in seen if done > total // 2}) > 5
    out = tmp_path / "pieces.ome.zarr"
    reached = [0]
    for part in (0.2, 0.6, 0.9):
        report = propagate_to_labels(
            predictor,
            image,
            prompts,
            out,
            progress=lambda done, total: reached.append(done),
            cancelled=lambda part=part: reached[-1] >= part * total,
            **options,
        )
        assert not report.complete and (out / FOLDER).exists()
        reached.append(0)
    report = propagate_to_labels(predictor, image, prompts, out, **options)
    assert report.complete and report.resumed and report.objects == whole.objects
    assert np.array_equal(np.asarray(LabelVolume.open(out, "r").array), np.asarray(whole.labels.array))
    assert not (out / FOLDER).exists()


def ball(radius: int, side: int = 64, at: int = 8) -> Slabs:
    z, y, x = np.indices((2 * at, side, side))
    inside = (z - at) ** 2 * (radius / 6) ** 2 + (y - side // 2) ** 2 + (x - side // 2) ** 2 <= radius**2
    return {n: (PackedMask.of(inside[n]), 0.9) for n in range(2 * at) if inside[n].any()}


@pytest.mark.parametrize(("radius", "thin"), [(6, 1), (20, 2), (40, 4), (100, 8)])
def test_large_objects_are_walked_in_larger_steps(radius: int, thin: int) -> None:
    side = 2 * radius + 20
    slabs = ball(radius, side)
    assert thinning(slabs) == thin
    image = np.zeros((16, side, side), np.uint8)
    for z, (mask, _) in slabs.items():
        image[z] = 200 * mask.unpack()
    volume = open_volume(image, axes="zyx", scale={"z": 2.0, "y": 1.0, "x": 1.0}, contrast_limits=(0, 255))
    (members,) = grouped(volume, "z", {1: slabs})
    reading = read_block(volume, "z", 0, None, members)
    try:
        while True:
            next(reading)
    except StopIteration as end:
        block: Block = end.value
    assert block.shape[1] * max(1, thin // 4) == pytest.approx(side, abs=thin)
    own = block.lay(slabs)
    assert np.count_nonzero(own != (block.pixels > 100)) < 0.05 * np.count_nonzero(own)
    assert block.across("y").n_planes("y") == -(-block.shape[1] // block.stride)
    # What both walks across see just so has the last word where the slices have nothing.
    seen: dict[str, Slabs] = {
        axis: {
            i: (PackedMask.of(plane), 0.9)
            for i in range(0, -(-block.shape[d] // block.stride))
            if (plane := np.take(own, i * block.stride, d)).any()
        }
        for d, axis in enumerate("yx", start=1)
    }
    ballot = Ballot.of(block, own, seen)
    middle = sorted(slabs)[len(slabs) // 2]
    true = slabs[middle][0].unpack()
    for known in (None, slabs[middle]):
        y0, x0, y1, x1 = ballot.box
        was = None if known is None else known[0].within(ballot.box)
        found = np.zeros_like(true)
        found[y0:y1, x0:x1] = ballot.on(middle, was, 0.9) > 0
        assert np.count_nonzero(found ^ true) < 0.15 * np.count_nonzero(true), known
    inside = true[ballot.box[0] : ballot.box[2], ballot.box[1] : ballot.box[3]]
    assert ballot.support(middle, inside) > 0.8 > 0.4 > ballot.support(middle, ~inside)
    assert not ballot.shows(-1) and ballot.shows(middle)


def test_an_object_at_the_far_rim_keeps_its_last_rows() -> None:
    inside = np.zeros((52, 52), np.bool_)
    inside[20:, 10:40] = True
    slabs: Slabs = {z: (PackedMask.of(inside), 0.9) for z in range(4)}
    block = Block(np.zeros((8, 52, 52), np.uint8), ((0, 8), (0, 52), (0, 52)), 4, (2.0, 1.0, 1.0))
    whole = np.repeat(inside[None], 8, 0)
    seen: dict[str, Slabs] = {
        axis: {i: (PackedMask.of(plane), 0.9) for i in range(13) if (plane := np.take(whole, 4 * i, d)).any()}
        for d, axis in enumerate("yx", start=1)
    }
    ballot = Ballot.of(block, block.lay(slabs), seen)
    added = ballot.on(6, None, 0.0) > 0
    assert added[-1].any() and ballot.box[2] == 52


def test_objects_that_lie_together_share_a_block_and_others_do_not() -> None:
    volume = open_volume(
        np.zeros((16, 1200, 1200), np.uint8), axes="zyx", scale={"z": 2.0, "y": 1.0, "x": 1.0}
    )

    def disc(y: int, x: int, radius: int = 10) -> Slabs:
        rows, columns = np.ogrid[:1200, :1200]
        mask = PackedMask.of((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)
        return {z: (mask, 0.9) for z in range(4, 10)}

    groups = grouped(
        volume, "z", {1: disc(100, 100), 2: disc(110, 130), 3: disc(1000, 1000), 4: disc(120, 110, 60)}
    )
    assert [set(g.objects) for g in groups] == [{1, 2}, {3}, {4}]


def test_an_end_that_stays_is_told_once_and_with_its_own_reason(
    predictor: Predictor, volume: Volume, labels: NDArray[np.uint8]
) -> None:
    objects: dict[int, ObjectReport] = {}
    reasons = {}
    for step in propagate(predictor, volume, {14: {1: labels[14] == 1}}):
        note_step(objects, step)
        if step.again is None:
            reasons = dict(objects[1].stops)
    stops = objects[1].stops
    assert len(stops) == len(dict(stops)) == 2
    for z, reason in stops:
        assert reason == reasons.get(z, across.END)


def test_outlines_are_smooth_where_votes_changed_them_and_never_vanish() -> None:
    disc = np.hypot(*(np.indices((40, 40)) - 20)) < 12
    comb = disc.copy()
    comb[12:28:2, 28:34] = True
    assert ndi.label(comb[:, 33:])[1] > 5 > 1 >= ndi.label(across._smooth(comb)[:, 33:])[1]
    assert np.count_nonzero(across._smooth(disc) ^ disc) < 0.05 * np.count_nonzero(disc)
    speck = np.zeros((9, 9), np.bool_)
    speck[4, 4] = True
    assert np.array_equal(across._smooth(speck), speck)
