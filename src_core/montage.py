"""Pictures of labels on their image: planes, or one row per object, enlarged until small objects show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

from src_core.errors import VolumeError
from src_core.volumes import Volume

Picture = NDArray[np.uint8]
"""(H, W, 3) RGB."""

GAP_PX = 6
MARGIN_PX = 8
COLOURS = np.array(
    [
        (255, 225, 25),
        (60, 220, 90),
        (0, 200, 255),
        (255, 90, 200),
        (255, 130, 40),
        (180, 130, 255),
        (240, 60, 60),
    ],
    np.uint8,
)


class LabelPlanes(Protocol):
    """What is read of labels: `LabelVolume`, for instance."""

    def read_plane(self, axis: str | None, index: int, t: int = 0) -> NDArray[np.uint32]:
        """Return the ids (H, W) on one plane."""
        ...


def montage(
    volume: Volume,
    labels: LabelPlanes | NDArray[Any],
    planes: Sequence[int],
    *,
    axis: str = "z",
    t: int = 0,
    c: int | None = None,
    columns: int | None = None,
    min_side_px: int = 320,
) -> Picture:
    """Draw whole planes in a grid, every object outlined in a colour of its own.

    Parameters
    ----------
    volume
        The image.
    labels
        A label volume, or an array of the image's spatial axes (z, y, x) or (y, x).
    planes
        Which planes, in the order of the grid.
    axis, t, c
        The axis across the planes, time point and channel.
    columns
        Planes in a row; about a square grid by default.
    min_side_px
        Smaller planes are enlarged until their shorter side is so long.

    Raises
    ------
    VolumeError
        No planes are given, or there is none of that index.
    """
    if not len(planes):
        raise VolumeError("a montage needs at least one plane")
    tiles = []
    for index in planes:
        picture = volume.plane(**{axis: index}, t=t, c=c).rgb8()
        ids = _ids(labels, volume, axis, index, t)
        zoom = max(1.0, min_side_px / min(ids.shape))
        tiles.append(_tile(picture, ids, zoom, f"{axis}={index}"))
    columns = columns or math.ceil(math.sqrt(len(tiles)))
    return _grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)])


def object_montage(
    volume: Volume,
    labels: LabelPlanes | NDArray[Any],
    objects: dict[int, tuple[int, int]],
    *,
    axis: str = "z",
    t: int = 0,
    c: int | None = None,
    columns: int = 7,
    side_px: int = 160,
) -> Picture:
    """Draw one row per object: its surroundings on planes spread evenly from just before it to just after.

    Parameters
    ----------
    volume, labels, axis, t, c
        As in `montage`.
    objects
        Object id -> its first and last plane.
    columns
        Planes per object, if it is on so many.
    side_px
        Length of the longer side of every crop in the picture.

    Raises
    ------
    VolumeError
        No objects are given.
    """
    if not objects:
        raise VolumeError("a montage needs at least one object")
    grid = []
    count = volume.n_planes(axis)
    for k, (first, last) in sorted(objects.items()):
        spread = np.linspace(max(first - 1, 0), min(last + 1, count - 1), columns)
        indices = np.unique(spread.round().astype(int))
        shown = {int(i): _ids(labels, volume, axis, int(i), t) for i in indices}
        rows, columns_ = _surroundings([ids == k for ids in shown.values()])
        row = []
        for index in indices:
            picture = volume.plane(**{axis: int(index)}, t=t, c=c).rgb8()
            ids = shown[int(index)][rows, columns_]
            row.append(_tile(picture[rows, columns_], ids, side_px / max(ids.shape), f"{k}: {axis}={index}"))
        grid.append(row)
    return _grid(grid)


def _ids(
    labels: LabelPlanes | NDArray[Any], volume: Volume, axis: str, index: int, t: int
) -> NDArray[np.int64]:
    flat = len(volume.spatial_axes) == 2
    if isinstance(labels, np.ndarray):
        found = labels if labels.ndim == 2 else labels.take(index, "zyx".index(axis))
    else:
        found = labels.read_plane(None if flat else axis, index, t)
    return found.astype(np.int64)


def _surroundings(masks: Sequence[NDArray[np.bool_]]) -> tuple[slice, slice]:
    covered = np.any(masks, axis=0)
    spans = []
    for axis, size in enumerate(covered.shape):
        where = np.flatnonzero(covered.any(1 - axis))
        low, high = (int(where[0]), int(where[-1])) if len(where) else (0, size - 1)
        spans.append((low - MARGIN_PX, high + 1 + MARGIN_PX, size))
    # Square crops, so that the rows of a montage line up.
    side = max(high - low for low, high, _ in spans)
    centred = [((low + high - side) // 2, size) for low, high, size in spans]
    rows, columns = (slice(max(0, low), min(size, low + side)) for low, size in centred)
    return rows, columns


def _tile(picture: Picture, ids: NDArray[np.int64], zoom: float, caption: str) -> Picture:
    size = (max(1, round(ids.shape[1] * zoom)), max(1, round(ids.shape[0] * zoom)))
    large = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)).copy()
    big = np.asarray(Image.fromarray(ids.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    line = find_boundaries(big, mode="inner", background=0)
    if zoom > 1:  # two pixels wide, still inside
        line |= find_boundaries(np.where(line, 0, big), mode="inner", background=0)
    line &= big > 0
    large[line] = COLOURS[(big[line] - 1) % len(COLOURS)]
    drawn = Image.fromarray(large)
    ImageDraw.Draw(drawn).text(
        (4, 2), caption, fill="white", stroke_width=2, stroke_fill="black", font_size=14
    )
    return np.asarray(drawn)


def _grid(rows: Sequence[Sequence[Picture]]) -> Picture:
    tiles = [tile for row in rows for tile in row]
    height, width = max(t.shape[0] for t in tiles), max(t.shape[1] for t in tiles)
    n_columns = max(len(row) for row in rows)
    size = (len(rows) * (height + GAP_PX) - GAP_PX, n_columns * (width + GAP_PX) - GAP_PX, 3)
    canvas = np.full(size, 32, np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            y, x = i * (height + GAP_PX), j * (width + GAP_PX)
            canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return canvas
