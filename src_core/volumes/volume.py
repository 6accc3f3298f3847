"""The lazy volume: named axes, physical scale, and one plane at a time."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from src_core.errors import PromptError, VolumeError
from src_core.types import PlaneRef
from src_core.volumes.arrays import LazyArray
from src_core.volumes.axes import SPATIAL
from src_core.volumes.contrast import estimate_limits, sampled_level
from src_core.volumes.plane import Limits, Plane
from src_core.volumes.reading import PlaneReader
from src_core.volumes.units import METRES


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Volume:
    """A lazy n-D image; `open_volume` makes one.

    Attributes
    ----------
    arrays
        The pyramid, finest level first; an image without one has a single entry.
    level
        Which of them this volume reads.
    axes
        The name of every dimension, among t, c, z, y, x. Colour samples are named c (see `rgb`).
    scale, translate, units
        Physical size per pixel, position of pixel 0 and unit for every axis, all for `level`.
    name, path
        What to call the image, and the file or folder it came from (None for an array in memory).
    files
        All files that the pixels are in, but for arrays that have one for each chunk.
    rgb
        True if c holds red, green, blue (and alpha): planes are then (H, W, 3).
    channel
        The channel read by default.
    user_limits
        Contrast limits the caller gave, by channel; the key None stands for all channels.
    """

    arrays: tuple[LazyArray, ...]
    level: int
    axes: tuple[str, ...]
    scale: Mapping[str, float]
    translate: Mapping[str, float]
    units: Mapping[str, str | None]
    name: str
    path: Path | None
    rgb: bool
    channel: int
    files: tuple[Path, ...] = ()
    user_limits: Mapping[int | None, Limits] = field(default_factory=dict)
    _estimated: dict[int, Limits] = field(default_factory=dict, init=False)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{a}={n}" for a, n in self.sizes.items())
        return f"Volume({self.name!r}, {sizes}, {self.dtype}{', rgb' if self.rgb else ''})"

    @property
    def array(self) -> LazyArray:
        """The lazy array of `level`, axes as in `axes`."""
        return self.arrays[self.level]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis in pixels, in the order of `axes`."""
        return tuple(int(n) for n in self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes, colour included."""
        return len(self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The stored dtype."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """The shape of every pyramid level, finest first."""
        return tuple(tuple(int(n) for n in a.shape) for a in self.arrays)

    @property
    def sizes(self) -> dict[str, int]:
        """Length of every axis by name."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def spatial_axes(self) -> tuple[str, ...]:
        """("z", "y", "x"), or ("y", "x") for a 2-D image, whatever their order on disk."""
        return tuple(a for a in SPATIAL if a in self.axes)

    @property
    def is_scaled(self) -> bool:
        """Whether the size of pixels is known: not 1 along all spatial axes on level 0, or in a unit of length.

        Where some axes have such a unit and another has none and counts pixels, nobody knows how they compare.
        """
        known = [self.units[a] in METRES or not self._counts_pixels(a) for a in self.spatial_axes]
        return all(known) if any(self.units[a] in METRES for a in self.spatial_axes) else any(known)

    def _counts_pixels(self, axis: str) -> bool:
        """Say whether a pixel is as long as it is pixels of level 0, give or take one in all of them."""
        own, full = self.sizes[axis], int(self.arrays[0].shape[self.axes.index(axis)])
        return math.isclose(self.scale[axis], full / own, rel_tol=1 / own if self.level else 0.0)

    def n_planes(self, axis: str | None) -> int:
        """Return the number of planes along `axis` ("z", "y" or "x"); 1 for a 2-D image.

        Raises
        ------
        VolumeError
            The volume has no such spatial axis.
        """
        return self.sizes[axis] if self._plane_axis(axis) is not None and axis is not None else 1

    def planes(self, axis: str | None, start: int | None = None, stop: int | None = None) -> range:
        """Return the indices of the planes along `axis` from `start` to before `stop`, all of them by default.

        Raises
        ------
        VolumeError
            The volume has no such spatial axis.
        PromptError
            There are no such planes.
        """
        count = self.n_planes(axis)
        first, end = start or 0, count if stop is None else stop
        if not 0 <= first < end <= count:
            raise PromptError(f"range {first}:{end} is not within the planes 0:{count} along {axis}")
        return range(first, end)

    def plane_shape(self, axis: str | None) -> tuple[int, int]:
        """Return (H, W) in pixels of the planes perpendicular to `axis`.

        Raises
        ------
        VolumeError
            The volume has no such spatial axis.
        """
        row, column = self.plane_axes(axis)
        return (self.sizes[row], self.sizes[column])

    def plane_axes(self, axis: str | None) -> tuple[str, str]:
        """Return the names of the axes along H and W of the planes perpendicular to `axis`.

        Raises
        ------
        VolumeError
            The volume has no such spatial axis.
        """
        axis = self._plane_axis(axis)
        row, column = (a for a in self.spatial_axes if a != axis)
        return (row, column)

    def plane(
        self,
        *,
        z: SupportsIndex | None = None,
        y: SupportsIndex | None = None,
        x: SupportsIndex | None = None,
        t: SupportsIndex = 0,
        c: SupportsIndex | None = None,
    ) -> Plane:
        """Read one plane, and only its chunks.

        Parameters
        ----------
        z, y, x
            The position in pixels along exactly one spatial axis; none for a 2-D image (z=0 is accepted).
        t
            Time point.
        c
            Channel; None for the volume's default. Colour images have no channels to choose from.

        Returns
        -------
        The plane; its rows and columns follow the order z, y, x.

        Raises
        ------
        VolumeError
            Not exactly one position, an index out of range (negative ones included), or data that cannot be
            decoded.
        """
        axis, position = self._one_position({"z": z, "y": y, "x": x})
        plane = self.plane_at(PlaneRef(axis, position, self._checked(t, "t")), c)
        _ = plane.pixels  # damage shows here
        return plane

    def plane_at(self, where: PlaneRef, c: SupportsIndex | None = None) -> Plane:
        """Return a plane of which nothing is read yet: `Plane.rgb8_part` reads parts, `Plane.pixels` all.

        Parameters
        ----------
        where
            The spatial axis it is perpendicular to, the position along it and the time point; the axis is None
            or "z" for a 2-D image.
        c
            As in `plane`.

        Raises
        ------
        VolumeError
            There is no such plane.
        """
        axis = self._plane_axis(where.axis)
        position = self._checked(where.index, axis or "z")
        time = self._checked(where.t, "t")
        channel = self.channel if c is None else self._checked(c, "c")
        row, column = self.plane_axes(axis)
        fixed = {axis: position, "t": time} | ({} if self.rgb else {"c": channel})
        reader = PlaneReader(
            arrays=self.arrays[self.level :],
            axes=self.axes,
            fixed={a: fixed[a] for a in self.axes if a in fixed},
            rows=row,
            columns=column,
            name=self.name,
        )
        return Plane(
            reader=reader,
            axis=axis,
            index=position,
            row_axis=row,
            column_axis=column,
            t=time,
            c=channel,
            scale_yx=(self.scale[row], self.scale[column]),
            limits=lambda: self.contrast_limits_of(channel),
        )

    def contrast_limits_of(self, c: SupportsIndex | None = None) -> Limits:
        """Return the values (low, high) shown as black and white, the same for every plane of a channel.

        The caller's limits if given to `open_volume`; otherwise the 0.5 and 99.8 percentiles of at most 64
        chunks spread over the coarsest pyramid level, read at the first call and kept.

        Parameters
        ----------
        c
            Channel; None for the volume's default.

        Raises
        ------
        VolumeError
            No such channel, or none of the sampled chunks can be read.
        """
        channel = self.channel if c is None else self._checked(c, "c")
        for key in (channel, None):
            if key in self.user_limits:
                return self.user_limits[key]
        if self.rgb and self.dtype == np.uint8:
            return (0.0, 255.0)
        if channel not in self._estimated:
            chosen = None if self.rgb else channel
            array = sampled_level(self.arrays[self.level :], self.axes)
            self._estimated[channel] = estimate_limits(array, self.axes, chosen, self.name)
        return self._estimated[channel]

    def _plane_axis(self, axis: str | None) -> str | None:
        if len(self.spatial_axes) == 2 and axis in (None, "z"):
            return None
        if axis is None or axis not in self.spatial_axes or len(self.spatial_axes) == 2:
            raise VolumeError(
                f"{self.name} has no planes along {axis!r}; expected one of {', '.join(self.spatial_axes)}"
                if len(self.spatial_axes) == 3
                else f"{self.name} is a 2-D image: it has no planes along {axis!r}, only itself (None or 'z')"
            )
        return axis

    def _one_position(self, given: Mapping[str, SupportsIndex | None]) -> tuple[str | None, int]:
        chosen = {a: i for a, i in given.items() if i is not None}
        if len(self.spatial_axes) == 2:
            if set(chosen) - {"z"}:
                raise VolumeError(f"{self.name} is a 2-D image; call plane() without y or x")
            return (None, self._checked(chosen.get("z", 0), "z"))
        if not chosen and self.sizes["z"] == 1:
            chosen = {"z": 0}
        if len(chosen) != 1:
            raise VolumeError(
                f"plane() of {self.name} takes exactly one of z, y and x, "
                f"got {', '.join(chosen) if chosen else 'none'}"
            )
        ((axis, value),) = chosen.items()
        return (axis, self._checked(value, axis))

    def _checked(self, value: SupportsIndex, axis: str) -> int:
        size = self.sizes.get(axis, 1)
        if axis == "c" and self.rgb:
            size = 1
        try:
            index = operator.index(value)
        except TypeError as error:
            raise VolumeError(f"{axis} must be an integer from 0 to {size - 1}, got {value!r}") from error
        if not 0 <= index < size:
            there = "" if axis in self.axes else f" ({self.name} has no axis {axis})"
            raise VolumeError(f"{axis}={index} is out of range: expected 0 to {size - 1}{there}")
        return index
