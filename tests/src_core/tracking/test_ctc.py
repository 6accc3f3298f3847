"""The Cell Tracking Challenge's format: what it demands of gaps, names and parents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from src_core.errors import VolumeError
from src_core.tracking import TrackSettings, read_ctc, track_labels, write_ctc
from tests.src_core.tracking.test_tracking import blank, dividing, written


def _rows(folder: Path) -> dict[int, tuple[int, int, int]]:
    lines = (folder / "res_track.txt").read_text().splitlines()
    return {k: (b, e, p) for k, b, e, p in (map(int, line.split()) for line in lines)}


def test_a_track_with_a_gap_is_on_every_image_that_its_line_names_and_comes_back_whole(
    tmp_path: Path,
) -> None:
    frames = blank(8)
    frames[[0, 1, 3, 5], 10:20, 10:20] = 1  # missed twice, then it divides
    frames[6:, 10:20, 10:14], frames[6:, 10:20, 16:20] = 2, 3
    frames[:, 40:50, 40:50] = 4
    labels = written(frames, tmp_path)
    tracking = track_labels(labels, TrackSettings(daughter_overlap=0.3))
    assert len(tracking.graph()) == 2
    write_ctc(tracking, labels, tmp_path / "res")
    shown = [set(np.unique(tifffile.imread(p)).tolist()) for p in sorted((tmp_path / "res").glob("*.tif"))]
    rows = _rows(tmp_path / "res")
    assert len(rows) == len(tracking.tracks) + 2
    for k, (first, last, parent) in rows.items():
        assert all(k in shown[t] for t in range(first, last + 1))
        assert not parent or rows[parent][1] < first
    found, _ = read_ctc(tmp_path / "res")
    assert found.graph() == tracking.graph()
    assert {k: sorted(v.places) for k, v in found.tracks.items()} == {
        k: sorted(v.places) for k, v in tracking.tracks.items()
    }


def test_results_that_were_there_are_replaced_as_a_whole(tmp_path: Path) -> None:
    for n in (6, 4):
        labels = written(dividing()[:n], tmp_path / str(n))
        write_ctc(track_labels(labels), labels, tmp_path / "res")
    assert len(read_ctc(tmp_path / "res")[1]) == 4


def test_images_are_sorted_by_their_numbers_and_none_may_be_missing(tmp_path: Path) -> None:
    labels = written(dividing(), tmp_path)
    tracking = track_labels(labels)
    folder = tmp_path / "res"
    write_ctc(tracking, labels, folder)
    for path in sorted(folder.glob("mask*.tif")):
        path.rename(folder / f"mask{int(path.stem[4:])}.tif")
    (folder / "mask5.tif").rename(folder / "mask05.tif")  # before mask1.tif, as text
    assert read_ctc(folder)[0].tracks == tracking.tracks
    (folder / "mask2.tif").unlink()
    with pytest.raises(VolumeError, match="time point 2 is missing"):
        read_ctc(folder)


@pytest.mark.parametrize(("line", "fault"), [("{0}", "two lines"), ("{1} 3 5 {1}", "has ended")])
def test_impossible_tracks_are_refused(tmp_path: Path, line: str, fault: str) -> None:
    labels = written(dividing(), tmp_path)
    write_ctc(track_labels(labels), labels, tmp_path / "res")
    text = tmp_path / "res" / "res_track.txt"
    lines = text.read_text().splitlines()
    daughter = next(row for row in lines if not row.endswith(" 0"))
    if "{0}" not in line:
        lines.remove(daughter)
    text.write_text("\n".join([*lines, line.format(lines[0], daughter.split()[0])]))
    with pytest.raises(VolumeError, match=fault):
        read_ctc(tmp_path / "res")
