"""A propagation that is interrupted anywhere goes on to the same labels, bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from src_core import Predictor, Prompts, open_volume
from src_core.errors import PromptError, SessionError, VolumeError
from src_core.labels import LabelVolume
from src_core.propagation import PropagationState, Step, anchor_masks, propagate, propagate_to_labels
from src_core.propagation.store import FOLDER, RunStore
from src_core.types import Candidates
from src_core.volumes import Volume
from tests.src_core.drawn_weights import PERMISSIVE, PERMISSIVE_OPTIONS, save_random_nano, small_stack
from tests.src_core.image_files import write_ome_zarr

N_SLICES = 8
PROMPTS = {
    2: {1: Prompts([(22, 18)]), 2: Prompts(box_yxyx=(28, 24, 44, 42))},
    5: {1: Prompts([(25, 18)]), 3: Prompts([(8, 40)])},
}
"""Object 1 has two anchors: between them the way up waits for the way down."""
SETTINGS = {"settings": PERMISSIVE}


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(save_random_nano(tmp_path_factory.mktemp("w") / "random.safetensors"), "cpu")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_ome_zarr(tmp_path / "cells.ome.zarr", [small_stack(N_SLICES)])


def read(path: Path) -> np.ndarray:
    return np.asarray(LabelVolume.open(path, "r").array)


def told(steps: Iterable[Step]) -> list[tuple[object, ...]]:
    """Return what steps say; those that say nothing only let the caller stop."""
    return [
        (s.index, [(k, mask.tobytes()) for k, mask in s.masks.items()], list(s.scores.items()), s.stopped)
        for s in steps
        if s.masks or s.stopped
    ]


def test_resuming_from_any_state_gives_the_remaining_steps(predictor: Predictor, tmp_path: Path) -> None:
    volume = open_volume(small_stack(N_SLICES))
    anchors = anchor_masks(predictor, volume, PROMPTS)
    states: list[PropagationState] = []
    seen_at: list[int] = []
    steps: list[Step] = []

    def keep(state: PropagationState) -> None:
        states.append(state)
        seen_at.append(len(steps))

    for step in propagate(predictor, volume, anchors, checkpoint=keep, **SETTINGS):
        steps.append(step)
    assert {s.direction for s in states} == {1, -1}
    assert any(s.waiting for s in states) and any(len(s.tracks) == 3 for s in states)
    # As the run does it: every state is stored in turn, and read back as if the run had ended there.
    (tmp_path / "labels").mkdir()
    store = RunStore(tmp_path / "labels")
    RunStore.begin(tmp_path / "labels", {}, anchors)
    for state, n_seen in zip(states, seen_at, strict=True):
        store.save(state, {"n": n_seen})
        loaded = store.load()
        assert loaded is not None and loaded[1] == {"n": n_seen}
        rest = propagate(predictor, volume, store.anchors(), resume=loaded[0], **SETTINGS)
        assert told(rest) == told(steps[n_seen:])


def test_a_cancelled_run_goes_on_however_often(predictor: Predictor, image: Path, tmp_path: Path) -> None:
    volume, once = open_volume(image), {"settings": replace(PERMISSIVE, sides=False)}
    whole = propagate_to_labels(predictor, volume, PROMPTS, tmp_path / "whole.ome.zarr", **once)
    assert whole.complete and not whole.resumed and set(whole.objects) == {1, 2, 3}
    out = tmp_path / "pieces.ome.zarr"
    n_runs = 0
    while True:
        n_runs += 1
        report = propagate_to_labels(predictor, volume, PROMPTS, out, cancelled=lambda: True, **once)
        assert n_runs < 30
        if report.complete:
            break
        # Cancelled right after a step, before its checkpoint: let every other run pass one.
        report = propagate_to_labels(
            predictor, volume, PROMPTS, out, cancelled=iter([False, False, True]).__next__, **once
        )
        if report.complete:
            break
    assert n_runs > 3
    assert np.array_equal(read(out), read(tmp_path / "whole.ome.zarr"))
    assert report.objects == whole.objects
    assert not (out / FOLDER).exists()


def test_a_run_goes_on_after_its_image_was_stored_in_other_chunks(
    predictor: Predictor, tmp_path: Path
) -> None:
    def stored(*chunks: int) -> Volume:
        array = zarr.create_array(
            tmp_path / "cells.zarr", data=small_stack(N_SLICES), chunks=chunks, overwrite=True
        )
        return open_volume(array, axes="zyx", contrast_limits=(0, 255))

    out = tmp_path / "labels.ome.zarr"
    begun = propagate_to_labels(
        predictor, stored(1, 48, 48), PROMPTS, out, cancelled=iter([False, True]).__next__, **SETTINGS
    )
    assert not begun.complete
    report = propagate_to_labels(predictor, stored(N_SLICES, 10, 13), PROMPTS, out, **SETTINGS)
    assert report.resumed and report.complete


KILLED = """
import os, signal, sys
from src_core.labels import LabelVolume
from src_core.propagation.store import RunStore
owner, name, moment, count = sys.argv[1:5]
cls = {"labels": LabelVolume, "store": RunStore}[owner]
real = getattr(cls, name)
def killing(*args, **kwargs):
    global count
    count = int(count) - 1
    if moment == "before" and count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    if moment == "after" and count < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(cls, name, killing)
from src_core.cli import app
app(sys.argv[5:])
"""


def test_a_killed_command_goes_on(image: Path, tmp_path: Path) -> None:
    weights = save_random_nano(tmp_path / "random.safetensors")
    marks = "--point 2,22,18 --point 5,25,18 --object 2 --box 2,28,24,44,42 --object 3 --point 5,8,40".split()

    def command(out: Path) -> list[str]:
        options = ["--model", weights, "--device", "cpu", "--out", out, *PERMISSIVE_OPTIONS]
        return [str(part) for part in ("propagate", image, *marks, *options)]

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=False)

    whole, out = tmp_path / "whole.ome.zarr", tmp_path / "killed.ome.zarr"
    assert run("-m", "src_core.cli", *command(whole)).returncode == 0
    kills = [
        ("store", "begin", "after", "0"),  # labels and request made, but not in their place yet
        ("labels", "write_plane", "after", "3"),  # a plane written, its state not
        ("store", "save", "after", "2"),  # a state written, the next plane not begun
        ("labels", "write_plane", "before", "2"),
        ("store", "finish", "before", "0"),  # everything done but the tidying up
    ]
    for kill in kills:
        found = run("-c", KILLED, *kill, *command(out))
        assert found.returncode == -signal.SIGKILL, found.stderr
        assert out.exists() == ("begin" not in kill)
    found = run("-m", "src_core.cli", *command(out))
    assert found.returncode == 0 and "went on from an unfinished run" in found.stdout, found.stderr
    assert np.array_equal(read(out), read(whole)) and read(out).any()
    assert len(LabelVolume.open(out, "r").object_ids()) == 3
    assert sorted(p.name for p in out.iterdir()) == ["0", "zarr.json"]


def test_an_unfinished_run_is_not_taken_over_by_another(
    predictor: Predictor, image: Path, tmp_path: Path
) -> None:
    volume, out = open_volume(image), tmp_path / "labels.ome.zarr"
    propagate_to_labels(predictor, volume, PROMPTS, out, cancelled=lambda: True, **SETTINGS)
    other = {2: {1: Prompts([(21, 18)])}}
    with pytest.raises(SessionError, match="unfinished run with another prompts"):
        propagate_to_labels(predictor, volume, other, out, **SETTINGS)
    with pytest.raises(SessionError, match="another settings"):
        propagate_to_labels(predictor, volume, PROMPTS, out)
    for another in ({"z": 2.0, "y": 1.0, "x": 1.0}, None):
        size = {"units": dict.fromkeys("zyx")} if another is None else {"scale": another}
        with pytest.raises(SessionError, match="another scale"):
            propagate_to_labels(predictor, replace(volume, **size), PROMPTS, out, **SETTINGS)
    report = propagate_to_labels(predictor, volume, other, out, overwrite=True, **SETTINGS)
    assert report.complete and not report.resumed and report.labels.object_ids() == [1]


def test_a_wrong_request_leaves_the_labels_that_are_there(
    predictor: Predictor, image: Path, tmp_path: Path
) -> None:
    volume, out = open_volume(image), tmp_path / "labels.ome.zarr"
    propagate_to_labels(predictor, volume, PROMPTS, out, **SETTINGS)
    before = read(out)
    for wrong in ({2: {0: Prompts([(22, 18)])}}, {2: {2**32: Prompts([(22, 18)])}}, {2: Prompts([(22, 18)])}):
        with pytest.raises((PromptError, VolumeError)):
            propagate_to_labels(predictor, volume, wrong, out, overwrite=True, **SETTINGS)  # type: ignore[arg-type]
        assert np.array_equal(read(out), before)


def test_numpy_indices_are_as_good_as_pythons(predictor: Predictor, image: Path, tmp_path: Path) -> None:
    volume = open_volume(image)
    prompts = {np.int64(2): {np.int32(1): Prompts([(22, 18)])}}
    report = propagate_to_labels(predictor, volume, prompts, tmp_path / "l.ome.zarr", **SETTINGS)  # type: ignore[arg-type]
    assert report.labels.object_ids() == [1]


def test_another_mask_or_contrast_is_another_request(
    predictor: Predictor, image: Path, tmp_path: Path
) -> None:
    volume, out = open_volume(image), tmp_path / "labels.ome.zarr"
    mask = np.zeros((48, 48), np.bool_)
    mask[10:30, 8:28] = True
    propagate_to_labels(
        predictor, volume, {2: {1: Prompts(mask=mask)}}, out, cancelled=lambda: True, **SETTINGS
    )
    with pytest.raises(SessionError, match="another prompts"):
        propagate_to_labels(predictor, volume, {2: {1: Prompts(mask=~mask)}}, out, **SETTINGS)
    dim = open_volume(image, contrast_limits=(0, 1000))
    with pytest.raises(SessionError, match="another contrast"):
        propagate_to_labels(predictor, dim, {2: {1: Prompts(mask=mask)}}, out, **SETTINGS)


@pytest.mark.parametrize("inside", ["mine.zarr", "0/x.zarr", "labels", "labels/a/b.zarr"])
def test_labels_never_land_in_the_image(
    predictor: Predictor, image: Path, tmp_path: Path, inside: str
) -> None:
    before = sorted(image.rglob("*"))
    with pytest.raises(SessionError, match="inside the image"):
        propagate_to_labels(predictor, open_volume(image), PROMPTS, image / inside, **SETTINGS)
    assert sorted(image.rglob("*")) == before


def test_a_damaged_state_is_reported(predictor: Predictor, image: Path, tmp_path: Path) -> None:
    volume, out = open_volume(image), tmp_path / "labels.ome.zarr"
    propagate_to_labels(
        predictor, volume, PROMPTS, out, cancelled=iter([False] * 3 + [True]).__next__, **SETTINGS
    )
    (out / FOLDER / "state.npz").write_bytes(b"torn")
    with pytest.raises(SessionError, match="cannot be read"):
        propagate_to_labels(predictor, volume, PROMPTS, out, **SETTINGS)


def test_another_objects_anchor_is_never_written_over(
    predictor: Predictor, image: Path, tmp_path: Path
) -> None:
    volume = open_volume(image)
    anchors = anchor_masks(predictor, volume, PROMPTS)
    report = propagate_to_labels(predictor, volume, PROMPTS, tmp_path / "l.ome.zarr", **SETTINGS)
    for z, masks in anchors.items():
        plane = report.labels.read_plane("z", z)
        assert set(np.unique(plane[np.any(list(masks.values()), axis=0)])) <= set(masks)


def test_progress_counts_planes(predictor: Predictor, image: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    propagate_to_labels(
        predictor,
        open_volume(image),
        PROMPTS,
        tmp_path / "l.ome.zarr",
        progress=lambda done, total: seen.append((done, total)),
        **SETTINGS,
    )
    # Twelve planes up and down, and as much again for the second look.
    assert seen == sorted(seen) and seen[-1] == (24, 24) and {total for _, total in seen} == {24}
    assert len({done for done, _ in seen}) > 18


def test_steps_outside_the_range_are_empty(predictor: Predictor) -> None:
    volume = open_volume(small_stack(N_SLICES))
    mask = np.zeros((48, 48), np.bool_)
    mask[10:30, 8:28] = True
    anchors = {1: {1: mask}, 6: {1: mask}}
    found = [
        s.index
        for s in propagate(predictor, volume, anchors, start=3, stop=5, **SETTINGS)
        if s.masks and not s.anchor
    ]
    assert sorted(found) == [3, 4]
    with pytest.raises(PromptError, match="outside the planes 3 to 4"):
        propagate_to_labels(predictor, volume, PROMPTS, "nowhere.zarr", start=3, stop=5)


def _blind(predictor: Predictor, monkeypatch: pytest.MonkeyPatch, *blind_at: tuple[float, float]) -> None:
    """Make the network see nothing at some points."""
    answer = Predictor.predict_many

    def answered(self: Predictor, embedding: Any, prompts: Any, **options: Any) -> list[Candidates]:
        found = answer(self, embedding, prompts, **options)
        return [
            replace(f, masks=np.zeros_like(f.masks))
            if any(tuple(point) in blind_at for point in p.points_yx.tolist())
            else f
            for f, p in zip(found, prompts, strict=True)
        ]

    monkeypatch.setattr(Predictor, "predict_many", answered)


def test_an_object_that_the_network_does_not_see_does_not_hold_up_the_others(
    predictor: Predictor, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = open_volume(image)
    others = {2: PROMPTS[2], 5: {1: PROMPTS[5][1]}}
    expected = propagate_to_labels(predictor, volume, others, tmp_path / "others.ome.zarr", **SETTINGS)
    _blind(predictor, monkeypatch, (8, 40))
    report = propagate_to_labels(predictor, volume, PROMPTS, tmp_path / "labels.ome.zarr", **SETTINGS)
    assert report.unanswered == [(5, 3)] and set(report.objects) == {1, 2} and not expected.unanswered
    assert np.array_equal(read(tmp_path / "labels.ome.zarr"), read(tmp_path / "others.ome.zarr"))


def test_an_object_seen_on_one_of_its_planes_starts_there(
    predictor: Predictor, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _blind(predictor, monkeypatch, (25, 18))
    report = propagate_to_labels(
        predictor, open_volume(image), PROMPTS, tmp_path / "labels.ome.zarr", **SETTINGS
    )
    assert report.unanswered == [(5, 1)] and set(report.objects) == {1, 2, 3}


def test_a_resumed_run_still_says_what_was_not_seen(
    predictor: Predictor, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _blind(predictor, monkeypatch, (8, 40))
    volume, out = open_volume(image), tmp_path / "labels.ome.zarr"
    propagate_to_labels(predictor, volume, PROMPTS, out, cancelled=lambda: True, **SETTINGS)
    report = propagate_to_labels(predictor, volume, PROMPTS, out, **SETTINGS)
    assert report.resumed and report.complete and report.unanswered == [(5, 3)]


def test_nothing_seen_at_all_is_an_error_and_leaves_nothing(
    predictor: Predictor, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _blind(predictor, monkeypatch, (8, 40), (22, 18))
    prompts = {2: {1: Prompts([(22, 18)])}, 5: {3: Prompts([(8, 40)])}}
    with pytest.raises(PromptError, match=r"object 1 on z=2, object 3 on z=5.*more points"):
        propagate_to_labels(predictor, open_volume(image), prompts, tmp_path / "labels.ome.zarr")
    assert not (tmp_path / "labels.ome.zarr").exists()
