"""Where an object is cut in two: along a line through the stack, or between two clicks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from src_core.errors import PromptError, SessionError
from src_core.labels import LabelVolume
from src_core.masks import Mask

LARGEST_PX = 2**25
"""Pixels of the box around an object above which it is not cut between two clicks: that takes 1 GB of memory."""
BETWEEN = 0.7
"""Part of the way between two clicks, around its middle, in which the cut is sought."""


class Cut(Protocol):
    """Says which pixels of an object become another one. Positions have one value per axis of the labels."""

    def look_at(self, labels: LabelVolume, identity: int, t: int) -> None:
        """Get to know the object, before anything else is asked."""

    def other_side(self, index: int, mine: Mask) -> Mask:
        """Return (H, W) bool, the pixels beyond the cut on plane `index` of the first spatial axis.

        Only those where `mine`, the object's own, is True have a meaning.
        """

    def beyond(self, position: NDArray[np.float64]) -> bool:
        """Say whether a position is beyond the cut; its last values are those of the spatial axes."""

    def about(self) -> dict[str, Any]:
        """Return it as JSON."""


class LineCut:
    """Along a straight line drawn on one plane, which reaches through all planes parallel to it.

    The pixels to the left of the line, seen along it with rows going down, become the other object.

    Parameters
    ----------
    axis
        The spatial axis that the plane is perpendicular to; None for a 2-D image.
    line_yx
        Start and end (row, column) in pixels of the plane.

    Raises
    ------
    PromptError
        The line has no length.
    """

    def __init__(self, axis: str | None, line_yx: Sequence[Sequence[float]]) -> None:
        self.axis, self.line = axis, np.asarray(line_yx, np.float64)
        if self.line.shape != (2, 2) or not np.ptp(self.line, axis=0).any():
            raise PromptError("a cut needs a line with a start and an end: draw it across the object")
        self._spatial: tuple[str, ...] = ()

    def look_at(self, labels: LabelVolume, identity: int, t: int) -> None:
        """Note the axes."""
        self._spatial = labels.spatial_axes

    def other_side(self, index: int, mine: Mask) -> Mask:
        """Return the pixels to the left of the line."""
        rows, columns = np.ogrid[: mine.shape[0], : mine.shape[1]]
        by_axis = {"z": np.full((1, 1), index), "y": rows, "x": columns}
        left: Mask = np.broadcast_to(self._left(*(by_axis[a] for a in self._kept())), mine.shape)
        return left

    def beyond(self, position: NDArray[np.float64]) -> bool:
        """Say whether a position is to the left of the line."""
        by_axis = dict(zip(self._spatial, position[-len(self._spatial) :], strict=True))
        return bool(self._left(*(by_axis[a] for a in self._kept())))

    def about(self) -> dict[str, Any]:
        """Return the axis and the line."""
        return {"axis": self.axis, "line": self.line.tolist()}

    def _kept(self) -> list[str]:
        return [a for a in self._spatial if a != self.axis]

    def _left(self, row: Any, column: Any) -> Any:
        (y0, x0), (y1, x1) = self.line
        return (x1 - x0) * (row - y0) - (y1 - y0) * (column - x0) < 0


class ClickCut:
    """Between two clicks, where the object is narrowest; what the second click is in becomes the other object.

    Pixels are ordered by how much farther the way through the object is from the first click than from the
    second; the cut goes where the fewest are alike in that. Components without a click go to the nearer one.

    Parameters
    ----------
    clicks
        Two positions in the object, (z, y, x) or (y, x) in pixels of the volume.
    """

    def __init__(self, clicks: Sequence[Sequence[float]]) -> None:
        self.clicks = np.asarray(clicks, np.float64)
        self._start = np.zeros(0, np.int64)
        self._parts: NDArray[np.int8] = np.zeros(0, np.int8)
        self._spacing = np.ones(0)

    def look_at(self, labels: LabelVolume, identity: int, t: int) -> None:
        """Divide the object."""
        mask, self._start = _crop(labels, identity, t)
        self._spacing = np.array([labels.scale[a] for a in labels.spatial_axes])
        ways = [_ways(mask, at, self._spacing) for at in self._checked(mask, identity)]
        self._parts = np.where(mask, _narrowest(ways, mask, float(self._spacing.min())), 0).astype(np.int8)
        loose = np.argwhere(mask & ~np.isfinite(ways[0]) & ~np.isfinite(ways[1]))
        self._parts[tuple(loose.T)] = np.where(self._nearer(loose + self._start), 2, 1)

    def _checked(self, mask: Mask, identity: int) -> list[tuple[int, ...]]:
        """Return where in the crop the clicks are."""
        if self.clicks.shape != (2, mask.ndim):
            raise PromptError(
                f"a cut needs two clicks, each of {mask.ndim} numbers, got {self.clicks.tolist()}"
            )
        places = np.rint(self.clicks).astype(int) - self._start
        for k, place in enumerate(places, start=1):
            if ((place < 0) | (place >= mask.shape)).any() or not mask[tuple(place)]:
                raise PromptError(f"click {k} is not in object {identity}: click once in either half of it")
        if np.array_equal(*places):
            raise PromptError("both clicks are in one place: click once in either half of the object")
        return [tuple(place.tolist()) for place in places]

    def other_side(self, index: int, mine: Mask) -> Mask:
        """Return the pixels of the second click's part."""
        found: Mask = np.zeros(mine.shape, np.bool_)
        rows, columns = (
            slice(s, s + n) for s, n in zip(self._start[-2:], self._parts.shape[-2:], strict=True)
        )
        part = self._parts
        if part.ndim == 3:
            if not 0 <= index - self._start[0] < part.shape[0]:
                return found
            part = part[index - self._start[0]]
        found[rows, columns] = part == 2
        return found

    def beyond(self, position: NDArray[np.float64]) -> bool:
        """Say whether a position is in the second click's part, or nearer to it."""
        own = position[-self._parts.ndim :]
        at = tuple(np.rint(own).astype(int) - self._start)
        inside = all(0 <= i < n for i, n in zip(at, self._parts.shape, strict=True))
        if inside and self._parts[at]:
            return bool(self._parts[at] == 2)
        return bool(self._nearer(own[None])[0])

    def about(self) -> dict[str, Any]:
        """Return the clicks."""
        return {"clicks": self.clicks.tolist()}

    def _nearer(self, positions: NDArray[Any]) -> NDArray[np.bool_]:
        """Say for each position whether the second click is the nearer one."""
        first, second = (np.square((positions - c) * self._spacing).sum(1) for c in self.clicks)
        nearer: NDArray[np.bool_] = second < first
        return nearer


def _crop(labels: LabelVolume, identity: int, t: int) -> tuple[Mask, NDArray[np.int64]]:
    """Return an object in the box around it, and where that starts."""
    box = labels.bounding_box(identity)
    spatial = [labels.axes.index(a) for a in labels.spatial_axes]
    if box is None:
        raise SessionError(f"object {identity} has no mask to cut yet")
    start, stop = (np.array([end[d] for d in spatial], np.int64) for end in box)
    if np.prod(stop - start) > LARGEST_PX:
        raise SessionError(f"object {identity} is too large to be cut by clicks; cut it along a line")
    where = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    array: Any = labels.array
    return np.asarray(array[(t, *where) if "t" in labels.axes else where]) == identity, start


def _ways(mask: Mask, start: tuple[int, ...], spacing: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the length of the way through a mask to every pixel; infinite where there is none."""
    from skimage.graph import MCP_Geometric

    paths = MCP_Geometric(np.where(mask, 1.0, -1.0), fully_connected=True, sampling=tuple(spacing))
    found: NDArray[np.float32] = paths.find_costs([start])[0].astype(np.float32)
    return found


def _narrowest(ways: Sequence[NDArray[np.float32]], mask: Mask, pixel: float) -> NDArray[np.int8]:
    """Return 1 and 2 for the pixels on either side of the narrowest place between two starts."""
    first, second = ways
    with np.errstate(invalid="ignore"):
        farther = first - second  # from minus the distance of the clicks to plus that
    reached = mask & np.isfinite(farther)
    if not reached.any():  # in two components
        return np.where(np.isfinite(second), 2, 1).astype(np.int8)
    apart = float(np.max(np.abs(farther[reached])))
    steps = max(1, int(BETWEEN * apart / pixel))  # a pixel farther from one is a pixel nearer to the other
    edges = np.linspace(-BETWEEN * apart, BETWEEN * apart, steps + 1)
    counts = np.histogram(farther[reached], edges)[0]
    middles = (edges[:-1] + edges[1:]) / 2
    best = min(range(steps), key=lambda k: (counts[k], abs(middles[k])))
    return np.where(farther > middles[best], 2, 1).astype(np.int8)
