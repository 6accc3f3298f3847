"""Masks as data: what the automatic generator says about one object of a plane, and all of them as a label image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.errors import PromptError
from src_core.masks import Box, PackedMask

STABILITY_OFFSET = 1.0
"""The logit up and down by which a mask is cut when its stability is measured (paper, appendix B)."""
RIM_PX = 3
"""How far from its outline, to either side, the contrast of a mask is measured."""


@dataclass(frozen=True, eq=False)
class MaskRecord:
    """One mask of a plane.

    Attributes
    ----------
    mask
        The pixels, kept as the bits of their bounding box.
    area
        How many they are.
    score
        The IoU with the true mask that the network predicts, times the probability that there is an object.
    stability
        IoU of the masks cut at a logit of +1 and of -1: 1 for an outline that leaves no doubt.
    point_yx
        The point that was asked about, in pixels of the plane.
    contrast
        How much brighter it is at its outline than what surrounds it, negative if darker; in parts of the picture's
        range, to be compared with other masks of the same plane.
    """

    mask: PackedMask
    area: int
    score: float
    stability: float
    point_yx: tuple[float, float]
    contrast: float = 1.0

    @property
    def box(self) -> Box:
        """(y0, x0, y1, x1) in pixels of the plane, half-open."""
        return self.mask.box


def stability(logits: NDArray[np.float32], offset: float = STABILITY_OFFSET) -> float:
    """Return how little the mask of (h, w) logits depends on where they are cut, 0 to 1; 0 if it is empty."""
    loose = int(np.count_nonzero(logits > -offset))
    return int(np.count_nonzero(logits > offset)) / loose if loose else 0.0


def contrast(grey: NDArray[np.float32], mask: PackedMask) -> float:
    """Return how much brighter a mask is just inside its outline than just outside, 0 if it is all of the plane.

    Parameters
    ----------
    grey
        (H, W), the plane, 0 to 1.
    mask
        A mask on it.
    """
    y0, x0, y1, x1 = mask.box
    top, left = max(0, y0 - RIM_PX), max(0, x0 - RIM_PX)
    here = grey[top : y1 + RIM_PX, left : x1 + RIM_PX]
    inside = np.zeros(here.shape, np.bool_)
    inside[y0 - top : y1 - top, x0 - left : x1 - left] = mask.crop()
    outer = ndi.binary_dilation(inside, iterations=RIM_PX) & ~inside
    if not outer.any():
        return 0.0
    # What is beyond the plane counts as inside: a mask that the plane cuts has no outline there.
    inner = inside & ~ndi.binary_erosion(inside, iterations=RIM_PX, border_value=1)
    return float(here[inner].mean() - here[outer].mean())


def moved_record(record: MaskRecord, corner_yx: tuple[int, int], shape: tuple[int, int]) -> MaskRecord:
    """Return a record of a crop at `corner_yx` as one of the whole plane of `shape`."""
    (top, left), (y0, x0, y1, x1), (y, x) = corner_yx, record.box, record.point_yx
    mask = PackedMask(record.mask.bits, (y0 + top, x0 + left, y1 + top, x1 + left), shape)
    return replace(record, mask=mask, point_yx=(y + top, x + left))


def label_image(
    records: Sequence[MaskRecord], shape: tuple[int, int], ids: Sequence[int] | None = None
) -> NDArray[np.uint32]:
    """Draw records into one label image; where masks overlap, the one with the higher score is seen.

    Parameters
    ----------
    records
        The masks, of a plane of `shape`.
    shape
        (H, W) of the plane.
    ids
        The label of each record; by default 1 for the first, 2 for the second, ...

    Returns
    -------
    (H, W) uint32, 0 is background. Of equal scores, the first record is seen.

    Raises
    ------
    PromptError
        A record is of a plane of another shape, or there is not one id for each.
    """
    ids = range(1, len(records) + 1) if ids is None else ids
    if len(ids) != len(records):
        raise PromptError(f"{len(records)} masks but {len(ids)} ids: give one id per mask")
    labels = np.zeros(shape, np.uint32)
    for i in sorted(range(len(records)), key=lambda i: (records[i].score, -i)):
        mask = records[i].mask
        if mask.shape != shape:
            raise PromptError(f"a mask is of a plane of {mask.shape}, the label image of {shape}")
        labels[mask.where][mask.crop()] = ids[i]
    return labels
