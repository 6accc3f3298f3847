"""Held-out synthetic stacks with what makes propagation hard: lost sections, jumps, ends close by.

Seeds begin where no training draws from; defaults may be chosen on these stacks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_core.synthetic import FAMILIES, make_stack
from src_core.volumes import Volume, open_volume

FIRST_SEED = 8_000_000
SHAPE = (24, 160, 160)
ROAM_PX = 16
"""How far the field of view of a jumpy stack strays to either side."""
MIN_SLICES, MIN_AREA_PX = 5, 60
FLAVOURS = ("plain", "missing", "jumps", "ends")
FINE, FINE_SEED, FINE_SHAPE = (0.7, 1.5), 8_060_000, (24, 160, 160)
"""How long voxels of fine stacks are across the slices: their sides are not looked at."""


@dataclass(frozen=True, eq=False)
class Placed:
    """A volume, its true labels (Z, Y, X), and where objects start: id -> slice.

    `lost` has the slices on which nothing can be seen; they are not scored.
    """

    name: str
    volume: Volume
    labels: NDArray[np.integer]
    starts: dict[int, int]
    lost: frozenset[int] = frozenset()


def placed(flavour: str, count: int, objects: int, shape: tuple[int, int, int] = SHAPE) -> Iterator[Placed]:
    """Yield `count` stacks of a flavour with up to so many objects each; families take turns."""
    families = itertools.cycle(FAMILIES)
    number = FIRST_SEED + 1000 * FLAVOURS.index(flavour)
    found = 0
    while found < count:
        seed, number = number, number + 1
        stack = _stack(flavour, seed, next(families), objects, shape)
        if stack.starts:
            found += 1
            yield stack


def fine(count: int, objects: int) -> Iterator[Placed]:
    """Yield `count` stacks whose voxels are nearly cubes; objects start in their middle, or near an end, in turns."""
    found = 0
    for i, family in enumerate(itertools.cycle(FAMILIES)):
        stack = _stack("ends" if i % 4 // 2 else "plain", FINE_SEED + i, family, objects, FINE_SHAPE)
        if FINE[0] < stack.volume.scale["z"] < FINE[1]:
            yield stack
            found += 1
        if found == count:
            return


def _stack(flavour: str, seed: int, family: str, objects: int, shape: tuple[int, int, int]) -> Placed:
    rng = np.random.default_rng(seed)
    side = shape[1] + (2 * ROAM_PX if flavour == "jumps" else 0)
    drawn = make_stack(seed, (shape[0], side, side), family=family)
    image, labels = drawn.image, drawn.labels
    if flavour == "jumps":
        image, labels = _jumping(rng, image, labels, shape[1])
    starts = _starts(rng, labels, objects, close=flavour == "ends")
    lost: frozenset[int] = frozenset()
    if flavour == "missing":
        image, lost = _with_lost_sections(rng, image, starts)
    axes = "zyxc" if image.ndim == 4 else "zyx"
    scale = {"z": drawn.z_step_px, "y": 1.0, "x": 1.0}
    return Placed(f"{flavour} {seed}", open_volume(image, axes=axes, scale=scale), labels, starts, lost)


def _starts(
    rng: np.random.Generator, labels: NDArray[np.uint16], objects: int, *, close: bool
) -> dict[int, int]:
    """Choose objects that begin and end within the stack, from their middle or two slices before an end."""
    chosen: dict[int, int] = {}
    for k in rng.permutation(np.unique(labels)[1:]):
        planes = np.nonzero((labels == k).any((1, 2)))[0]
        if len(planes) < MIN_SLICES or planes[0] == 0 or planes[-1] == len(labels) - 1:
            continue
        start = int(planes[2 if rng.random() < 0.5 else -3]) if close else int(planes[len(planes) // 2])
        if np.count_nonzero(labels[start] == k) >= MIN_AREA_PX:
            chosen[int(k)] = start
        if len(chosen) == objects:
            break
    return chosen


def _jumping(
    rng: np.random.Generator, image: NDArray[np.uint8], labels: NDArray[np.uint16], side: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Cut every slice out of a larger one; now and then the place jumps by 4 to 12 pixels."""
    y = x = ROAM_PX
    seen, true = [], []
    for picture, ids in zip(image, labels, strict=True):
        if rng.random() < 0.35:
            angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(4, 12)
            y = int(np.clip(y + round(far * np.sin(angle)), 0, 2 * ROAM_PX))
            x = int(np.clip(x + round(far * np.cos(angle)), 0, 2 * ROAM_PX))
        seen.append(picture[y : y + side, x : x + side])
        true.append(ids[y : y + side, x : x + side])
    return np.array(seen), np.array(true)


def _with_lost_sections(
    rng: np.random.Generator, image: NDArray[np.uint8], starts: dict[int, int]
) -> tuple[NDArray[np.uint8], frozenset[int]]:
    """Black out three slices, none of them next to another or a start."""
    image, lost = image.copy(), set[int]()
    for z in rng.permutation(len(image)):
        if len(lost) < 3 and z not in starts.values() and not lost & {z - 1, z + 1}:
            image[z] = rng.integers(0, 6, image[z].shape)
            lost.add(int(z))
    return image, frozenset(lost)
