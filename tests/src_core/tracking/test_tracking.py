"""Objects through time: ids stay, divisions are found and spurious ones not, and the exchange format comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import tifffile

from src_core import Predictor, open_volume
from src_core.automatic import SearchSettings, Thresholds
from src_core.errors import PromptError, SessionError, VolumeError
from src_core.labels import LabelVolume
from src_core.propagation import request
from src_core.synthetic import make_stack
from src_core.tracking import (
    Series,
    Tracking,
    TrackSettings,
    napari_tracks,
    read_ctc,
    run,
    track,
    track_labels,
    track_steps,
    write_ctc,
)
from src_core.types import PlaneRef

SHAPE = (60, 80)


def blank(n: int) -> np.ndarray:
    return np.zeros((n, *SHAPE), np.uint32)


def written(frames: np.ndarray, path: Path) -> LabelVolume:
    axes = "tyx" if frames.ndim == 3 else "tzyx"
    labels = LabelVolume.create(path / "labels.zarr", open_volume(frames, axes=axes))
    for t, frame in enumerate(frames):
        if frame.ndim == 2:
            labels.write_box(None, 0, (0, 0, *SHAPE), frame, t=t)
        else:
            for z, plane in enumerate(frame):
                labels.write_box("z", z, (0, 0, *SHAPE), plane, t=t)
    return labels


def dividing() -> np.ndarray:
    """One that moves, under another id each time, and one that divides at t=3."""
    frames = blank(6)
    for t in range(6):
        frames[t, 5:15, 5 + 2 * t : 20 + 2 * t] = 50 - t
        if t < 3:
            frames[t, 30:50, 30:60] = 7 + t
        else:
            frames[t, 30:50, 30:44], frames[t, 30:50, 46:60] = 20 + t, 30 + t
    return frames


def test_ids_stay_and_a_division_is_found(tmp_path: Path) -> None:
    labels = written(dividing(), tmp_path)
    tracking = track_labels(labels)
    assert len(tracking.tracks) == 4
    moving, mother, *daughters = (labels.read_plane(None, 0, t) for t in (0, 0, 5, 5))
    k_moving, k_mother = int(moving[10, 10]), int(mother[40, 40])
    k_left, k_right = int(daughters[0][40, 35]), int(daughters[1][40, 50])
    assert len({k_moving, k_mother, k_left, k_right}) == 4
    assert tracking.graph() == {k_left: [k_mother], k_right: [k_mother]}
    for t in range(6):
        plane = labels.read_plane(None, 0, t)
        assert set(np.unique(plane[5:15])) == {0, k_moving}
        assert set(np.unique(plane[30:50])) == ({0, k_mother} if t < 3 else {0, k_left, k_right})
    assert (tracking.tracks[k_mother].first, tracking.tracks[k_mother].last) == (0, 2)


def test_a_fragment_that_does_not_last_is_no_division(tmp_path: Path) -> None:
    frames = blank(6)
    frames[:, 30:50, 30:60] = 1
    frames[3, 30:50, 50:60] = 2
    tracking = track_labels(written(frames, tmp_path))
    assert tracking.graph() == {} and len(tracking.tracks) == 1


def test_what_begins_in_two_mothers_is_born_of_one_and_no_division_has_one_daughter(tmp_path: Path) -> None:
    frames = blank(6)
    frames[:3, 10:30, 10:30], frames[:3, 10:30, 30:50] = 1, 2
    frames[3:, 10:18, 10:30], frames[3:, 10:18, 30:50], frames[3:, 20:30, 20:40] = 3, 4, 5
    tracking = track_labels(written(frames, tmp_path), TrackSettings(min_overlap=0.6))
    mothers = [parent for (parent,) in tracking.graph().values()]
    assert len(tracking.tracks) == 5 and len(mothers) == 2 and len(set(mothers)) == 1


def test_an_object_missed_once_keeps_its_id(tmp_path: Path) -> None:
    frames = blank(5)
    frames[:, 10:20, 10:20] = 1
    frames[2] = 0
    labels = written(frames, tmp_path)
    tracking = track_labels(labels)
    assert len(tracking.tracks) == 1 and list(tracking.tracks[1].places) == [0, 1, 3, 4]
    assert len(track_labels(written(frames, tmp_path / "b"), TrackSettings(max_gap=0)).tracks) == 2


def test_an_object_seen_once_is_dropped(tmp_path: Path) -> None:
    frames = blank(4)
    frames[:, 10:20, 10:20] = 1
    frames[2, 40:50, 40:50] = 9
    labels = written(frames, tmp_path)
    assert len(track_labels(labels).tracks) == 1
    assert not labels.read_plane(None, 0, 2)[40:50].any()


def test_three_dimensions_and_large_ids(tmp_path: Path) -> None:
    frames = np.stack([dividing()] * 3, 1)
    frames[frames > 0] += 70_000
    labels = written(frames, tmp_path)
    tracking = track_labels(labels)
    assert len(tracking.tracks) == 4 and len(tracking.graph()) == 2
    points, graph = napari_tracks(tracking, labels)
    assert points.shape == (sum(len(t.places) for t in tracking.tracks.values()), 5) and len(graph) == 2
    assert set(points[:, 2]) == {1.0}, "the middle of three slices"


def test_the_points_of_a_tracks_layer_are_centroids_in_order(tmp_path: Path) -> None:
    labels = written(dividing(), tmp_path)
    tracking = track_labels(labels)
    points, graph = napari_tracks(tracking, labels)
    assert [tuple(p) for p in points] == sorted(tuple(p) for p in points)
    k = int(labels.read_plane(None, 0, 0)[10, 10])
    mine = points[points[:, 0] == k]
    assert mine[:, 1].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.allclose(mine[:, 2], 9.5) and np.allclose(mine[:, 3], 12 + 2 * np.arange(6))
    assert graph == tracking.graph()


@pytest.mark.parametrize("depth", [0, 3])
def test_the_exchange_format_comes_back(tmp_path: Path, depth: int) -> None:
    frames = dividing() if not depth else np.stack([dividing()] * depth, 1)
    labels = written(frames, tmp_path)
    tracking = track_labels(labels)
    write_ctc(tracking, labels, tmp_path / "res")
    text = (tmp_path / "res" / "res_track.txt").read_text().splitlines()
    assert len(text) == 4 and sum(line.endswith(" 0") for line in text) == 2
    found, images = read_ctc(tmp_path / "res")
    assert found.tracks == tracking.tracks and [p.name for p in images] == [
        f"mask00{t}.tif" for t in range(6)
    ]
    frame = tifffile.imread(images[4])
    assert frame.dtype == np.uint16 and frame.shape == frames.shape[1:]
    own = labels.read_plane("z" if depth else None, depth // 2, 4)
    assert np.array_equal(frame[1] if depth else frame, own)


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="no res_track"):
        read_ctc(tmp_path)
    labels = written(dividing(), tmp_path)
    write_ctc(track_labels(labels), labels, tmp_path / "res")
    text = tmp_path / "res" / "res_track.txt"
    lines = text.read_text().splitlines()
    text.write_text("\n".join(lines[1:]))
    with pytest.raises(VolumeError, match="does not have then"):
        read_ctc(tmp_path / "res")
    text.write_text("\n".join([*lines, "9 0 3 0"]))
    with pytest.raises(VolumeError, match="do not show track 9"):
        read_ctc(tmp_path / "res")
    text.write_text("a b")
    with pytest.raises(VolumeError, match="cannot be read"):
        read_ctc(tmp_path / "res")


def test_labels_without_time_are_refused(tmp_path: Path) -> None:
    labels = LabelVolume.create(tmp_path / "a.zarr", open_volume(np.zeros((3, 20, 20), np.uint8)))
    with pytest.raises(VolumeError, match="no time axis"):
        track_labels(labels)
    with pytest.raises(PromptError, match="max_gap"):
        TrackSettings(max_gap=-1)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_series_is_found_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    monkeypatch.setattr(request, "data_fingerprint", looked := Mock(wraps=request.data_fingerprint))
    stack = make_stack(8_000_310, (3, 96, 96), "nuclei", 10.0)
    # Each time point is moved by two pixels.
    frames = np.stack([np.roll(stack.image[1], 2 * t, 1) for t in range(3)])
    volume = (
        open_volume(frames, axes="tyx") if depth == 1 else open_volume(np.stack([frames] * 2, 1), axes="tzyx")
    )
    labels, tracking = track(
        Predictor.load("nano", "cpu"), volume, tmp_path / "a.zarr", search=SearchSettings(points_per_side=18)
    )
    assert tracking is not None
    whole = [t for t in tracking.tracks.values() if len(t.places) == 3]
    assert len(whole) >= 4
    axis = None if depth == 1 else "z"
    for t in range(3):
        ids = set(np.unique(labels.read_plane(axis, 0, t)).tolist()) - {0}
        assert ids == set(tracking.ids_at(t).values())
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"], "nothing is left beside it"
    looked.assert_called_once()  # not for every time point


def test_a_run_killed_while_it_renames_goes_on_to_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack(8_000_310, (3, 96, 96), "nuclei", 10.0)
    volume = open_volume(np.stack([np.roll(stack.image[1], 2 * t, 1) for t in range(3)]), axes="tyx")
    predictor, few = Predictor.load("nano", "cpu"), SearchSettings(points_per_side=10)
    whole, want = track(predictor, volume, tmp_path / "whole.zarr", search=few)
    seen: list[int] = []
    first = track(
        predictor, volume, tmp_path / "a.zarr", search=few, progress=lambda *_: seen.append(1),
        cancelled=lambda: len(seen) == 2,
    )  # fmt: skip
    assert first[1] is None and len(seen) == 2

    class Killed(BaseException):
        pass

    write = Series.write

    def killed(series: Series, plane: PlaneRef, ids: Any) -> None:
        if plane.t == 1 and 0 < ids.max() < run.WAITING:
            raise Killed
        write(series, plane, ids)

    with monkeypatch.context() as patch:
        patch.setattr(Series, "write", killed)
        with pytest.raises(Killed):
            track(predictor, volume, tmp_path / "a.zarr", search=few)
    labels, tracking = track(predictor, volume, tmp_path / "a.zarr", search=few)
    assert tracking == want
    for t in range(3):
        assert np.array_equal(labels.read_plane(None, 0, t), whole.read_plane(None, 0, t))
    assert labels.read_plane(None, 0, 1).any()


def test_a_cancelled_series_has_no_tracks(tmp_path: Path) -> None:
    volume = open_volume(np.random.default_rng(0).integers(0, 255, (3, 50, 50), np.uint8), axes="tyx")
    _, tracking = track(Predictor.load("nano", "cpu"), volume, tmp_path / "a.zarr", cancelled=lambda: True)
    assert tracking is None


def test_a_film_whose_time_points_are_slices_is_followed_alike(tmp_path: Path) -> None:
    stack = make_stack(8_000_310, (3, 96, 96), "nuclei", 10.0)
    film = np.stack([np.roll(stack.image[1], 2 * t, 1) for t in range(3)])
    predictor, few = Predictor.load("nano", "cpu"), SearchSettings(points_per_side=10)
    found = []
    for time in ("t", "z"):
        volume = open_volume(film, axes=f"{time}yx")
        steps = track_steps(predictor, volume, tmp_path / f"{time}.zarr", time=time, search=few)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found.append(end.value)
                break
    a, b = found
    assert a.tracking == b.tracking and len(a.tracking.tracks) >= 3
    for t in range(3):
        drawn = Series(a.labels).read(PlaneRef(None, 0, t))
        assert np.array_equal(drawn, Series(b.labels, "z").read(PlaneRef("z", t)))
        for k in set(np.unique(drawn).tolist()) - {0}:
            assert 0 < a.scores[k][PlaneRef(None, 0, t)] == b.scores[k][PlaneRef("z", t)] <= 1
    assert np.array_equal(napari_tracks(a.tracking, a.labels)[0], napari_tracks(b.tracking, b.labels, "z")[0])


def test_what_is_no_track_has_no_points(tmp_path: Path) -> None:
    labels = written(dividing(), tmp_path)
    tracking = track_labels(labels)
    mother = next(iter(tracking.graph().values()))[0]
    kept = Tracking({k: v for k, v in tracking.tracks.items() if k != mother})
    points, graph = napari_tracks(kept, labels)
    assert set(points[:, 0]) == set(kept.tracks) and graph == {}


def test_a_stopped_run_can_be_begun_again_with_other_settings(tmp_path: Path) -> None:
    stack = make_stack(8_000_310, (3, 96, 96), "nuclei", 10.0)
    frames = np.stack([np.stack([np.roll(stack.image[1], 2 * t, 1)] * 2) for t in range(3)])
    volume = open_volume(frames, axes="tzyx")
    predictor, few = Predictor.load("nano", "cpu"), SearchSettings(points_per_side=10)
    out, asked = tmp_path / "a.zarr", iter([False] * 8 + [True] * 999)
    aside = tmp_path / "a.zarr.t0.zarr"
    assert track(predictor, volume, out, search=few, cancelled=lambda: next(asked))[1] is None
    assert aside.exists()
    (tmp_path / "a.zarr.t7.zarr").mkdir()  # somebody else's
    other = Thresholds(min_score=0.6)
    _, tracking = track(predictor, volume, out, search=few, thresholds=other, overwrite=True)
    assert tracking is not None and len(tracking.tracks) >= 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "a.zarr.t7.zarr"]


def test_a_stopped_run_does_not_go_on_with_another_channel(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 2, 50, 50), np.uint8)
    volume = open_volume(frames, axes="tcyx", contrast_limits=(0, 255))
    predictor, few = Predictor.load("nano", "cpu"), SearchSettings(points_per_side=10)
    track(predictor, volume, tmp_path / "a.zarr", search=few, c=0, cancelled=lambda: True)
    with pytest.raises(SessionError, match="another channel"):
        track(predictor, volume, tmp_path / "a.zarr", search=few, c=1)
