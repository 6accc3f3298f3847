"""Where a mask lies on its plane, and masks kept small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""(y0, x0, y1, x1) in pixels, half-open."""


def bounds(mask: Mask) -> Box:
    """Return the smallest box around a non-empty (H, W) bool mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def innermost(mask: Mask) -> tuple[int, int]:
    """Return the pixel (y, x) of a (H, W) bool mask farthest from its outline, which the plane's rim closes.

    Of equally far pixels the first; (0, 0) if the mask is empty.
    """
    distance = ndi.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    return int(y), int(x)


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two bool masks of the same shape; 1 if both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def resized(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Return a mask (H, W) with other numbers of rows and columns, each that of its middle."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(np.intp), m - 1)
        for n, m in zip(shape, mask.shape, strict=True)
    )
    return np.asarray(mask[rows][:, columns])


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A non-empty mask as the bits of its bounding box (y0, x0, y1, x1) on a plane of `shape`."""

    bits: NDArray[np.uint8]
    box: Box
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, mask: Mask, corner_yx: tuple[int, int] = (0, 0), shape: tuple[int, int] | None = None
    ) -> PackedMask:
        """Pack a (h, w) bool mask that lies at `corner_yx` of a plane of `shape`; by default it is the plane."""
        y0, x0, y1, x1 = bounds(mask)
        top, left = corner_yx
        return cls(
            np.packbits(mask[y0:y1, x0:x1]),
            (y0 + top, x0 + left, y1 + top, x1 + left),
            (mask.shape[0], mask.shape[1]) if shape is None else shape,
        )

    @property
    def area(self) -> int:
        """How many pixels it has."""
        return int(np.bitwise_count(self.bits).sum())

    @property
    def where(self) -> tuple[slice, slice]:
        """The bounding box as an index of the plane."""
        y0, x0, y1, x1 = self.box
        return slice(y0, y1), slice(x0, x1)

    def crop(self) -> Mask:
        """Return the (h, w) bool mask within the bounding box."""
        y0, x0, y1, x1 = self.box
        inside = np.unpackbits(self.bits, count=(y1 - y0) * (x1 - x0))
        return inside.astype(np.bool_).reshape(y1 - y0, x1 - x0)

    def unpack(self) -> Mask:
        """Return the (H, W) bool mask of the plane."""
        mask = np.zeros(self.shape, np.bool_)
        mask[self.where] = self.crop()
        return mask

    def within(self, box: Box) -> Mask:
        """Return what lies in a box of the plane, (h, w) bool."""
        (y0, x0, y1, x1), (top, left, bottom, right) = self.box, box
        part = np.zeros((bottom - top, right - left), np.bool_)
        rows, columns = slice(max(y0, top), min(y1, bottom)), slice(max(x0, left), min(x1, right))
        if rows.start < rows.stop and columns.start < columns.stop:
            seen = self.crop()[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
            part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = seen
        return part
