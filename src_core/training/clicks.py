"""Simulated prompts for training (paper, appendix A, "Interactive training"), on low-resolution masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.masks import Mask, bounds, innermost

Box = tuple[float, float, float, float]
CHUNK = 8
"""Objects that are handed to another process together."""
LOOSE, NOISY = 0.35, 0.25
"""How often a box leaves room on every side, and how often its sides are off either way; else it is exact."""
MOST_LOOSE = 0.25
"""The room a loose box leaves at most, of the object's side."""
OUTWARDS = np.array([-1.0, -1.0, 1.0, 1.0])
T = TypeVar("T")


def each(
    draw: Callable[..., T], rng: np.random.Generator, *masks: NDArray[np.bool_], pool: Executor | None = None
) -> Iterator[T]:
    """Give draw(rng, *masks of one object) for every object of (B, h, w); a pool begins with them at once.

    Each has random numbers of its own, so that they are the same in any process.
    """
    sources = rng.spawn(len(masks[0]))
    if pool is not None:
        return pool.map(draw, sources, *masks, chunksize=CHUNK)
    return map(draw, sources, *masks)


def first_click(rng: np.random.Generator, mask: Mask) -> tuple[float, float, int]:
    """Return (x, y, 1) inside `mask`: with a probability of 0.7 its innermost pixel, else any."""
    return *_pick(rng, mask), 1


def beside(rng: np.random.Generator, mask: Mask) -> tuple[float, float, int]:
    """Return (x, y, label) of a background click within an object's diameter of `mask`; label -1 without an object."""
    if not mask.any():
        return 0.0, 0.0, -1
    reach = 2 * math.sqrt(np.count_nonzero(mask) / math.pi) + 1
    away = ndi.distance_transform_edt(~mask)
    near = (away > 1) & (away <= reach)
    return (*_pick(rng, near), 0) if near.any() else (0.0, 0.0, -1)


def correction(rng: np.random.Generator, truth: Mask, guess: Mask) -> tuple[float, float, int]:
    """Return (x, y, label) of a click on the largest error region; label -1 where the guess has no error."""
    best: tuple[int, Mask, int] | None = None
    for label, error in ((1, truth & ~guess), (0, guess & ~truth)):
        regions, n = ndi.label(error)
        if n:
            areas = np.bincount(regions.ravel())
            areas[0] = 0
            largest = int(areas.argmax())
            if best is None or areas[largest] > best[0]:
                best = (int(areas[largest]), regions == largest, label)
    if best is None:
        return 0.0, 0.0, -1
    return *_pick(rng, best[1]), best[2]


def drawn_box(rng: np.random.Generator, mask: Mask) -> Box:
    """Return the (x0, y0, x1, y1) box around `mask`: exact, with noise on each side, or loose, as hands draw it."""
    top, left, bottom, right = bounds(mask)
    box = np.array([left, top, right, bottom], np.float64)
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    how = rng.random()
    if how < LOOSE:
        box += OUTWARDS * rng.uniform(0, MOST_LOOSE, 4) * sides
    elif how < LOOSE + NOISY:
        box += np.clip(rng.normal(0, 0.1, 4) * sides, -10, 10)
    x0, y0, x1, y1 = (float(v) for v in box)
    return min(x0, x1 - 1), min(y0, y1 - 1), x1, y1


def neighbour_mask(rng: np.random.Generator, mask: Mask) -> Mask:
    """Return what the mask of a neighbouring slice could look like: shifted, bent, grown or shrunk."""
    height, width = mask.shape
    size = math.sqrt(max(int(np.count_nonzero(mask)), 1))
    bend = ndi.zoom(rng.normal(0, 0.06 * size, (2, 4, 4)), (1, height / 4, width / 4), order=1)
    shift = rng.normal(0, 0.06 * size, (2, 1, 1))
    scale = np.exp(rng.normal(0, 0.12))
    centre = np.array(ndi.center_of_mass(mask)).reshape(2, 1, 1) if mask.any() else np.zeros((2, 1, 1))
    where = (np.indices(mask.shape) - centre) * scale + centre + bend + shift
    return np.asarray(ndi.map_coordinates(mask.astype(np.float32), where, order=1) > 0.5)


def _pick(rng: np.random.Generator, region: Mask) -> tuple[float, float]:
    if rng.random() < 0.7:
        y, x = innermost(region)
    else:
        ys, xs = np.nonzero(region)
        k = int(rng.integers(len(ys)))
        y, x = ys[k], xs[k]
    return float(x), float(y)
