"""The Cell Tracking Challenge's format: a TIFF for each time point, and a text file of tracks (L B E P)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.files import remove_others, write_atomically
from src_core.labels import LabelVolume
from src_core.labels.files import disk_errors
from src_core.locks import sole_writer
from src_core.tracking.solving import Track, Tracking

MAX_TRACKS = 2**16 - 1
NAME = re.compile(r"(?:mask|man_track)(\d+)")
"""Of the images, without their ending: results and truth."""


def write_ctc(tracking: Tracking, labels: LabelVolume, folder: str | Path) -> None:
    """Write tracks as results of the Cell Tracking Challenge: `mask000.tif`, ... and `res_track.txt`.

    A track must be on every image from its first to its last there: one with gaps becomes several, each the parent of
    the next. `read_ctc` joins them again.

    Parameters
    ----------
    tracking
        The tracks.
    labels
        Where every object has the id of its track, with axis t; (z, y, x) or (y, x) at each time point.
    folder
        Is made; results that it holds are replaced.

    Raises
    ------
    VolumeError
        The labels have no axis t, or there are more tracks than the format's 16 bits hold.
    SessionError
        The disk refuses.
    """
    import tifffile

    if "t" not in labels.axes:
        raise VolumeError(f"{labels.path} has no time axis: its axes are {', '.join(labels.axes)}")
    tracking = without_gaps(tracking)
    if max(tracking.tracks, default=0) > MAX_TRACKS:
        raise VolumeError(f"the format holds {MAX_TRACKS} tracks, there are {max(tracking.tracks)}")
    folder = Path(folder)
    count = labels.shape[labels.axes.index("t")]
    digits = max(3, len(str(count - 1)))
    with sole_writer(folder), disk_errors(f"write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / f"mask{t:0{digits}d}.tif" for t in range(count)]
        remove_others(folder, r"mask\d+\.tif", written)
        for t, path in enumerate(written):
            frame = _named(read_frame(labels, t), tracking.ids_at(t))
            write_atomically(
                path,
                lambda part, frame=frame: tifffile.imwrite(  # type: ignore[misc]
                    part, frame, photometric="minisblack", compression="zlib"
                ),
            )
        lines = [f"{k} {t.first} {t.last} {t.parent or 0}\n" for k, t in sorted(tracking.tracks.items())]
        write_atomically(folder / "res_track.txt", lambda part: part.write_text("".join(lines)))


def without_gaps(tracking: Tracking) -> Tracking:
    """Cut tracks where they miss time points; each later piece gets an id of its own, and the one before as parent."""
    tracks: dict[int, Track] = {}
    last: dict[int, int] = {}
    free = max(tracking.tracks, default=0) + 1
    for k, track in sorted(tracking.tracks.items()):
        times = sorted(track.places)
        starts = [i for i, t in enumerate(times) if i == 0 or t != times[i - 1] + 1]
        parent = track.parent
        for n, (start, stop) in enumerate(zip(starts, [*starts[1:], len(times)], strict=True)):
            own, free = (k, free) if n == 0 else (free, free + 1)
            tracks[own] = Track({t: track.places[t] for t in times[start:stop]}, parent)
            parent = last[k] = own
    for k, track in tracking.tracks.items():
        if track.parent is not None:  # daughters are those of the last piece
            tracks[k] = replace(tracks[k], parent=last.get(track.parent, track.parent))
    return Tracking(tracks)


def _joined(tracking: Tracking) -> Tracking:
    """Undo `without_gaps`: what begins later than right after its parent, as its only child, is the same object."""
    children = Counter(track.parent for track in tracking.tracks.values())
    whole = dict(tracking.tracks)
    owner = {k: k for k in whole}
    for k, track in sorted(tracking.tracks.items(), key=lambda item: item[1].first):
        if track.parent is not None and children[track.parent] == 1:
            if track.first > tracking.tracks[track.parent].last + 1:
                owner[k] = owner[track.parent]
                before = whole[owner[k]]
                whole[owner[k]] = replace(before, places=before.places | whole.pop(k).places)
    return Tracking({k: replace(v, parent=v.parent and owner[v.parent]) for k, v in whole.items()})


def _named(drawn: NDArray[Any], tracks: dict[int, int]) -> NDArray[np.uint16]:
    ids, places = np.unique(drawn, return_inverse=True)
    return np.array([tracks.get(k, 0) for k in ids.tolist()], np.uint16)[places].reshape(drawn.shape)


def read_ctc(folder: str | Path) -> tuple[Tracking, list[Path]]:
    """Read tracks of the Cell Tracking Challenge, results or truth.

    Returns
    -------
    The tracks, each present at every time point on which the images show it, and the images in order of time.

    Raises
    ------
    VolumeError
        A file is missing or damaged, or images and text disagree.
    """
    import tifffile

    folder = Path(folder)
    texts = [folder / name for name in ("res_track.txt", "man_track.txt") if (folder / name).exists()]
    named = ((NAME.fullmatch(path.stem), path) for path in folder.glob("*.tif"))
    numbered = sorted((int(name[1]), path) for name, path in named if name)
    images = [path for _, path in numbered]
    if not texts or not images:
        raise VolumeError(f"{folder} has no res_track.txt or man_track.txt with its images mask000.tif, ...")
    for t, (number, path) in enumerate(numbered):
        if number != t:
            raise VolumeError(f"{folder}: the image of time point {t} is missing, the next is {path.name}")
    try:
        rows = [[int(n) for n in line.split()] for line in texts[0].read_text().splitlines() if line.strip()]
        shown = [np.unique(tifffile.imread(path)) for path in images]
        lines = {k: (first, last, parent) for k, first, last, parent in rows}
        if len(lines) < len(rows):
            raise ValueError("a track has two lines")
    except Exception as error:  # damaged TIFFs raise whatever their reader trips over
        raise VolumeError(
            f"{folder} cannot be read as tracks of the Cell Tracking Challenge ({error})"
        ) from error
    places: dict[int, dict[int, int]] = {k: {} for k in lines}
    for t, ids in enumerate(shown):
        for k in (int(k) for k in ids if k):
            if k not in lines or not lines[k][0] <= t <= lines[k][1]:
                raise VolumeError(f"{images[t]} shows object {k}, which {texts[0].name} does not have then")
            places[k][t] = k
    for k, (first, last, parent) in lines.items():
        if not {first, last} <= places[k].keys():
            raise VolumeError(f"{texts[0]}: the images do not show track {k} from {first} to {last}")
        if parent and (parent not in lines or lines[parent][1] >= first):
            raise VolumeError(
                f"{texts[0]}: track {k} begins at {first}, before its parent {parent} has ended"
            )
    return _joined(Tracking({k: Track(places[k], lines[k][2] or None) for k in lines})), images


def read_frame(labels: LabelVolume, t: int) -> NDArray[Any]:
    """Return the ids of one time point, (z, y, x) or (y, x)."""
    if len(labels.spatial_axes) == 2:
        return labels.read_plane(None, 0, t)
    return np.stack([labels.read_plane("z", z, t) for z in range(labels.shape[labels.axes.index("z")])])
