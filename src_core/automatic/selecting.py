"""Which of the masks found are kept: thresholds, then non-maximum suppression of boxes and of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.automatic.records import MaskRecord
from src_core.automatic.settings import Thresholds
from src_core.masks import Mask, PackedMask

MAX_BOX_IOU = 0.7
"""Boxes that agree more are of the same object (paper, appendix B)."""


def select(
    records: Sequence[MaskRecord], thresholds: Thresholds | None = None, usual: float | None = None
) -> list[MaskRecord]:
    """Choose among the masks of one plane, without asking the network.

    Parameters
    ----------
    records
        What a search of the plane found.
    thresholds
        See `Thresholds`.
    usual
        With which contrast masks are compared, that of `usual_contrast` by default: for planes of a stack, of which
        some show nothing, that of `common_contrast`.

    Returns
    -------
    The records kept, best first, each without small holes and pieces. No two claim the same object.
    """
    wanted = thresholds or Thresholds()
    good = _good(records, wanted)
    least = wanted.min_contrast * (_usual(good) if usual is None else usual)
    clear = [r for r in good if least == 0 or r.contrast * np.sign(least) >= abs(least)]
    clear.sort(key=lambda r: -r.score)
    return _unpainted(_without_equal_boxes(clear), wanted.max_overlap)


def usual_contrast(records: Sequence[MaskRecord], thresholds: Thresholds | None = None) -> float:
    """Return the contrast that masks of a plane usually have, of those good enough; 0 if there are none.

    The objects of a picture are nearly always all brighter than what surrounds them, or all darker, which its sign
    says: what has the other sign lies between objects.
    """
    return _usual(_good(records, thresholds or Thresholds()))


def common_contrast(usual: Sequence[float]) -> float:
    """Return the usual contrast of a stack from that of its planes: planes beyond the objects show only their blur."""
    return _of_the_clearer(np.asarray(usual, np.float64), 1.0) if len(usual) else 0.0


def _usual(good: list[MaskRecord]) -> float:
    contrasts = np.array([r.contrast for r in good], np.float64)
    return _of_the_clearer(contrasts, np.array([r.score * r.area**0.5 for r in good])) if good else 0.0


def _of_the_clearer(contrasts: NDArray[np.float64], weights: NDArray[np.float64] | float) -> float:
    """Return the median of the clearer half: where much of what is found is nothing, that is the fainter half."""
    clearer = np.sort(np.abs(contrasts))[len(contrasts) // 2 :]
    return float(np.median(clearer) * (1 if (contrasts * weights).sum() >= 0 else -1))


def _good(records: Sequence[MaskRecord], wanted: Thresholds) -> list[MaskRecord]:
    return [
        cleaned
        for r in records
        if r.score >= wanted.min_score
        and r.stability >= wanted.min_stability
        and r.area >= wanted.min_area_px
        and r.area <= wanted.max_area * r.mask.shape[0] * r.mask.shape[1]
        and (cleaned := without_small_regions(r, int(wanted.min_area_px))) is not None
    ]


def without_small_regions(record: MaskRecord, min_area_px: int) -> MaskRecord | None:
    """Fill holes and drop pieces smaller than `min_area_px`; None if nothing is left (paper, appendix B)."""
    crop = record.mask.crop()
    mask = _without_small_pieces(np.pad(crop, 1), min_area_px)
    mask = ~_without_small_pieces(~mask, min_area_px)
    if not mask.any():
        return None
    if np.array_equal(mask[1:-1, 1:-1], crop):
        return record
    packed = PackedMask.of(mask[1:-1, 1:-1], record.box[:2], record.mask.shape)
    return replace(record, mask=packed, area=int(np.count_nonzero(mask)))


def _without_small_pieces(mask: Mask, min_area_px: int) -> Mask:
    pieces, count = ndi.label(mask)
    if count <= 1:
        return mask
    areas = np.bincount(pieces.ravel())
    kept = areas >= min_area_px
    kept[0] = False
    return np.asarray(kept[pieces])


def _without_equal_boxes(records: list[MaskRecord]) -> list[MaskRecord]:
    boxes = np.array([r.box for r in records], np.float64).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept: list[int] = []
    chosen = np.zeros(len(records), np.int64)
    for i, box in enumerate(boxes):
        others = chosen[: len(kept)]
        shared = (
            (np.minimum(box[2:], boxes[others, 2:]) - np.maximum(box[:2], boxes[others, :2])).clip(0).prod(1)
        )
        if not (shared > MAX_BOX_IOU * (areas[i] + areas[others] - shared)).any():
            chosen[len(kept)] = i
            kept.append(i)
    return [records[i] for i in kept]


def _unpainted(records: list[MaskRecord], max_overlap: float) -> list[MaskRecord]:
    """Drop masks that lie in better ones or swallow them; one label image knows who is where."""
    if not records:
        return []
    owner: NDArray[np.int32] = np.zeros(records[0].mask.shape, np.int32)
    kept: list[MaskRecord] = []
    visible: list[int] = []
    for record in records:
        crop, part = record.mask.crop(), owner[record.mask.where]
        under, shared = np.unique(part[crop], return_counts=True)
        shared, under = shared[under > 0], under[under > 0]
        if shared.sum() > max_overlap * record.area:
            continue
        if any(n > max_overlap * visible[k - 1] for k, n in zip(under, shared, strict=True)):
            continue
        kept.append(record)
        free = crop & (part == 0)
        part[free] = len(kept)
        visible.append(int(np.count_nonzero(free)))
    return kept
