"""The Cell Tracking Challenge's format: a TIFF for each time point, and a text file of tracks (L B E P)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.files import write_atomically
from src_core.labels import LabelVolume
from src_core.labels.files import disk_errors
from src_core.tracking.solving import Track, Tracking

MAX_TRACKS = 2**16 - 1


def write_ctc(tracking: Tracking, labels: LabelVolume, folder: str | Path) -> None:
    """Write tracks as results of the Cell Tracking Challenge: `mask000.tif`, ... and `res_track.txt`.

    Parameters
    ----------
    tracking
        The tracks.
    labels
        Where every object has the id of its track, with axis t; (z, y, x) or (y, x) at each time point.
    folder
        Is made; files of the same names are replaced.

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
    if max(tracking.tracks, default=0) > MAX_TRACKS:
        raise VolumeError(f"the format holds {MAX_TRACKS} tracks, there are {max(tracking.tracks)}")
    folder = Path(folder)
    count = labels.shape[labels.axes.index("t")]
    digits = max(3, len(str(count - 1)))
    with disk_errors(f"write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for t in range(count):
            frame = read_frame(labels, t).astype(np.uint16)
            write_atomically(
                folder / f"mask{t:0{digits}d}.tif",
                lambda part, frame=frame: tifffile.imwrite(  # type: ignore[misc]
                    part, frame, photometric="minisblack", compression="zlib"
                ),
            )
        lines = [f"{k} {t.first} {t.last} {t.parent or 0}\n" for k, t in sorted(tracking.tracks.items())]
        write_atomically(folder / "res_track.txt", lambda part: part.write_text("".join(lines)))


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
    images = sorted(p for p in folder.glob("*.tif") if re.fullmatch(r"(mask|man_track)\d+", p.stem))
    if not texts or not images:
        raise VolumeError(f"{folder} has no res_track.txt or man_track.txt with its images mask000.tif, ...")
    try:
        rows = [[int(n) for n in line.split()] for line in texts[0].read_text().splitlines() if line.strip()]
        shown = [np.unique(tifffile.imread(path)) for path in images]
        lines = {k: (first, last, parent) for k, first, last, parent in rows}
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
        if not {first, last} <= places[k].keys() or (parent and parent not in lines):
            raise VolumeError(f"{texts[0]}: the images do not show track {k} from {first} to {last}")
    return Tracking({k: Track(places[k], lines[k][2] or None) for k in lines}), images


def read_frame(labels: LabelVolume, t: int) -> NDArray[Any]:
    """Return the ids of one time point, (z, y, x) or (y, x)."""
    if len(labels.spatial_axes) == 2:
        return labels.read_plane(None, 0, t)
    return np.stack([labels.read_plane("z", z, t) for z in range(labels.shape[labels.axes.index("z")])])
