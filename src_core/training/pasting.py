"""Objects of a picture pasted beside others of it: touching pairs, of which labelled images have few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.masks import bounds

MIN_AREA_PX, MAX_SHARE = 20, 0.1
"""Of the objects that are pasted: in pixels, and as a part of the plane."""
SKIRT_PX = 2
"""What lies so close around an object is blurred with it, and pasted with it."""
OVERLAP = 0.12
"""Pasted objects cover at most this part of others."""
TRIES = 6


@dataclass(frozen=True, eq=False)
class _Piece:
    """An object cut out of a plane.

    Attributes
    ----------
    mask
        (h, w) bool.
    stands_out
        (h, w, C) float32: how much it differs from the background around it, fading out around the mask.
    """

    mask: NDArray[np.bool_]
    stands_out: NDArray[np.float32]


def with_neighbours(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    labels: NDArray[np.int32],
    count: int,
    within: tuple[slice, slice],
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Paste turned copies of some objects so that each touches another, or covers a little of it.

    Parameters
    ----------
    rng
        Decides which and where.
    image
        (H, W) or (H, W, 3) uint8; whatever has no label must be background.
    labels
        (H, W) int32.
    count
        How many to paste, if there is room.
    within
        The part of the plane whose objects get neighbours.

    Returns
    -------
    tuple
        Image and labels as before; the pasted objects have ids of their own.
    """
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    fits = (areas >= MIN_AREA_PX) & (areas <= MAX_SHARE * labels.size)
    targets = np.unique(labels[within])
    targets = targets[fits[targets]]
    fits[np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])] = False  # cut by the rim
    pieces, nothing = np.flatnonzero(fits), labels == 0
    if not len(targets) or not len(pieces) or np.count_nonzero(nothing) < MIN_AREA_PX:
        return image, labels
    background = np.median(image[nothing], axis=0)
    pasted, known = image.copy(), labels.copy()
    for _ in range(count):
        beside = known == rng.choice(targets)
        # Of a size like its neighbour's, as two in a clump are.
        alike = pieces[np.abs(np.log(areas[pieces] / max(int(beside.sum()), 1))) < 1]
        piece = _piece(rng, image, labels, int(rng.choice(alike if len(alike) else pieces)), background)
        for _ in range(TRIES):
            corner = _beside(rng, piece.mask, beside, known)
            if corner is not None:
                _paste(rng, pasted, known, piece, corner, background)
                break
    return pasted, known


def _piece(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    labels: NDArray[np.int32],
    k: int,
    background: NDArray[np.float64],
) -> _Piece:
    """Cut object `k` out, turned and mirrored, brighter or darker than it was."""
    own = labels == k
    y0, x0, y1, x1 = (int(v) for v in bounds(own))
    margin = SKIRT_PX + 1
    part = np.s_[max(y0 - margin, 0) : y1 + margin, max(x0 - margin, 0) : x1 + margin]
    mask, others = own[part], (labels[part] != 0) & ~own[part]
    weight = np.clip(1 - (ndi.distance_transform_edt(~mask) - 0.5) / SKIRT_PX, 0, 1)
    weight[others] = 0
    strength = float(np.exp(rng.normal(0, 0.25)))
    differs = (image[part].astype(np.float32) - background) * strength
    stands_out = differs.reshape(*mask.shape, -1) * weight[..., None]
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    mask, stands_out = np.rot90(mask, turns), np.rot90(stands_out, turns)
    if flip:
        mask, stands_out = mask[:, ::-1], stands_out[:, ::-1]
    return _Piece(mask, stands_out.astype(np.float32))


def _beside(
    rng: np.random.Generator, mask: NDArray[np.bool_], beside: NDArray[np.bool_], labels: NDArray[np.int32]
) -> tuple[int, int] | None:
    """Return the corner (y, x) where a piece comes to lie against an object, None where nothing is free."""
    if not beside.any():
        return None
    centre = np.array(ndi.center_of_mass(beside))
    size = np.array(mask.shape)
    allowed = rng.uniform(0, OVERLAP) * np.count_nonzero(mask)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.array([np.sin(angle), np.cos(angle)])
    reach = int(np.hypot(*size) + np.sqrt(np.count_nonzero(beside)) * 2)
    found = None
    for distance in range(reach, 0, -1):
        corner = np.rint(centre + distance * along - size / 2).astype(int)
        if (corner < 0).any() or (corner + size > labels.shape).any():
            continue
        under = labels[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
        if np.count_nonzero((under != 0) & mask) > allowed:
            break
        found = (int(corner[0]), int(corner[1]))
    return found if found is not None and _meets(mask, beside, found) else None


def _meets(mask: NDArray[np.bool_], beside: NDArray[np.bool_], corner: tuple[int, int]) -> bool:
    """Say whether a piece at `corner` touches the object, with no more than a pixel between them."""
    y, x = corner
    height, width = mask.shape
    near = ndi.binary_dilation(beside, iterations=2)[y : y + height, x : x + width]
    return bool((near & mask).any())


def _paste(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    labels: NDArray[np.int32],
    piece: _Piece,
    corner: tuple[int, int],
    background: NDArray[np.float64],
) -> None:
    """Add a piece to what is there, or let the one that stands out more cover the other."""
    y, x = corner
    height, width = piece.mask.shape
    part = np.s_[y : y + height, x : x + width]
    there = image[part].astype(np.float32).reshape(height, width, -1) - background
    light = there + piece.stands_out
    stronger = np.abs(piece.stands_out).sum(-1) > np.abs(there).sum(-1)
    solid = np.where(stronger[..., None], piece.stands_out, there)
    mixed = light if rng.random() < 0.3 else solid
    seen = np.clip(np.rint(mixed + background), 0, 255).astype(np.uint8)
    image[part] = seen.reshape(image[part].shape)
    on_top = piece.mask if rng.random() < 0.5 else piece.mask & (labels[part] == 0)
    labels[part][on_top] = labels.max() + 1
