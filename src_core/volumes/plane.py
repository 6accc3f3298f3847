"""One 2-D slice of a volume, and how it becomes an 8-bit picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.volumes.reading import Box, PlaneReader, outwards

Extent = tuple[float, float, float, float]
Limits = tuple[float, float]
MUCH = 0.5
"""Where a rectangle decodes more than this part of the plane, the plane is read once and kept."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plane:
    """One 2-D slice of a volume.

    Attributes
    ----------
    reader
        Reads its pixels, all or some.
    axis
        The spatial axis the plane is perpendicular to, "z", "y" or "x"; None for a 2-D image.
    index
        Position along `axis` in pixels; 0 for a 2-D image.
    row_axis, column_axis
        The spatial axes along H and W.
    t, c
        The time point and the channel; 0 where the volume has no such axis.
    scale_yx
        Physical size of a pixel along rows and columns, in the volume's units.
    limits
        (low, high), or a function that returns them: estimating contrast reads more than this plane, so it
        waits until somebody asks.
    """

    reader: PlaneReader
    axis: str | None
    index: int
    row_axis: str
    column_axis: str
    t: int
    c: int
    scale_yx: tuple[float, float]
    limits: Limits | Callable[[], Limits]

    @cached_property
    def pixels(self) -> NDArray[Any]:
        """(H, W), or (H, W, 3) for colour, in the volume's dtype (native byte order); read once and kept."""
        return self.reader.read()

    @property
    def nbytes(self) -> int:
        """Memory of the pixels, 0 until all of them were read."""
        kept = self.__dict__.get("pixels")
        return 0 if kept is None else int(kept.nbytes)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.reader.shape()

    @property
    def contrast_limits(self) -> Limits:
        """The values (low, high) shown as black and white."""
        return self.limits() if callable(self.limits) else self.limits

    def rgb8(self) -> NDArray[np.uint8]:
        """Return the plane as a picture: (H, W, 3) uint8, low limit at 0 and high limit at 255.

        bool becomes 0 and 255, NaN counts as the low limit. uint8 colour has the limits (0, 255), and passes
        unchanged, unless the caller of `open_volume` gave others.
        """
        return self._seen(self.pixels)

    def rgb8_part(self, box: Box, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], Extent]:
        """Return the picture of a rectangle, for whoever then resizes it to `shape` (h, w).

        It is read from the coarsest pyramid level that has that many pixels, and only the chunks it lies in,
        unless these are most of the plane.

        Parameters
        ----------
        box
            (y0, x0, y1, x1) in pixels of the plane, half-open.
        shape
            (height, width) the rectangle will have.

        Returns
        -------
        (h, w, 3) uint8, and where the rectangle lies in it, (y0, x0, y1, x1): pixels of a coarse level may
        reach beyond the rectangle.

        Raises
        ------
        VolumeError
            The data cannot be decoded.
        """
        level = self.reader.level_for(box, shape)
        extent = self.reader.in_level(box, level)
        if level:
            rows = outwards(extent, self.reader.shape(level))
            part = self.reader.read(level, rows)
        else:
            rows = box
            whole = self.nbytes or self.reader.share(box) > MUCH
            part = self.pixels[box[0] : box[2], box[1] : box[3]] if whole else self.reader.read(0, box)
        y0, x0 = rows[:2]
        return self._seen(part), (extent[0] - y0, extent[1] - x0, extent[2] - y0, extent[3] - x0)

    def _seen(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if pixels.ndim == 3 and pixels.dtype == np.uint8 and self.contrast_limits == (0, 255):
            return pixels.copy()
        if pixels.dtype == np.bool_:
            grey = pixels.astype(np.uint8) * np.uint8(255)
        else:
            grey = _to_uint8(pixels, self.contrast_limits)
        return grey if grey.ndim == 3 else np.repeat(grey[:, :, None], 3, axis=2)


def _to_uint8(pixels: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    low, high = limits
    # float32 holds 8- and 16-bit pixels exactly and halves the memory; anything else needs float64.
    small = pixels.dtype.itemsize <= 2 and high - low > 1e-30 and max(abs(low), abs(high)) < 1e30
    values: NDArray[Any] = pixels.astype(np.float32 if small else np.float64)
    values = np.clip(np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low), low, high)
    # Halved, the difference of two finite float64 cannot overflow.
    width = max(high * 0.5 - low * 0.5, np.finfo(np.float64).tiny)
    grey: NDArray[np.uint8] = np.rint((values * 0.5 - low * 0.5) * (255 / width)).astype(np.uint8)
    return grey
