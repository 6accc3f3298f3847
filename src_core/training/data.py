"""Training samples: crops with instances, from synthetic stacks and from a folder of labelled images.

Everything is drawn from (seed, step), so a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.transform import resize

from src_core.evaluation.datasets import read_labelled
from src_core.files import write_atomically
from src_core.synthetic import drawn_family, make_stack
from src_core.training.pasting import with_neighbours

MIN_AREA_PX = 50
STACK_SHAPE = (12, 256, 256)
DRAWN_GRAIN, REAL_GRAIN = (0.5, 0.3), (0.25, 0.1)
"""How often noise is added, and how much of the range at most: real images have theirs already."""
TOUCHING = 6.0
"""How much likelier an object that touches another is drawn: of those that stand alone little is left to learn."""
CONTACT_PX = 2
"""Labels keep a pixel or two between objects that touch."""
CROWDED = 0.75
"""How often a crop of a plane is laid around such an object, if there are any."""
PASTED, MOST_PASTED = 0.5, 5
"""How often objects of a plane are pasted beside others on a crop, and how many at most."""
MOST_SQUEEZED = 0.25
"""Logarithm of how much crops of planes are squeezed at most, before they become squares."""
COMPLETE = ("nuclei", "tubes", "phase")
"""Families of stacks in which all that is not an object is background, and looks like it."""


@dataclass(frozen=True, eq=False)
class Crop:
    """Images (n, S, S, 3) uint8 and labels (n, S, S) int32: one crop, or the same crop of n slices."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]


class StackSource:
    """Synthetic stacks, drawn once and kept on disk; of one family, or by default of any."""

    def __init__(self, folder: Path, count: int, first_seed: int, family: str | None = None) -> None:
        self.folder, self.count, self.first_seed, self.family = folder, count, first_seed, family
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return image (z, y, x[, 3]) and labels of stack `index`, modulo the number of stacks."""
        seed = self.first_seed + index % self.count
        path = self.folder / f"{seed}.npz"
        if not path.exists():
            stack = make_stack(seed, STACK_SHAPE, self.family)
            write_atomically(
                path, lambda part: np.savez_compressed(part, image=stack.image, labels=stack.labels)
            )
        with np.load(path) as kept:
            return kept["image"], kept["labels"].astype(np.int32)

    def is_complete(self, index: int) -> bool:
        """Say whether all that is not an object of stack `index` is background."""
        return (self.family or drawn_family(self.first_seed + index % self.count)) in COMPLETE


class ImageSource:
    """Labelled 2-D images, as `read_labelled` takes them; raises its `VolumeError`."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.pairs = [(stretch(i), m.astype(np.int32)) for i, m in map(read_labelled, files)]

    def get(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Return image (H, W[, 3]) uint8 and labels."""
        return self.pairs[index % len(self.pairs)]


def stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Map an image to uint8 between its extreme percentiles; colour stays as it is."""
    if image.ndim == 3 and image.dtype == np.uint8:
        return np.asarray(image[..., :3], np.uint8)
    low, high = np.percentile(image, (0.5, 99.8))
    scaled = np.clip((image.astype(np.float32) - low) / max(float(high - low), 1e-6), 0, 1)
    return np.asarray(np.rint(255 * scaled), np.uint8)


def crowding(labels: NDArray[np.int32], reach: int) -> NDArray[np.float64]:
    """Return how likely each id of a (H, W) label plane is to be drawn: `TOUCHING` or 1, and 0 for those not there.

    An object touches another where that is within `reach` pixels of a good part of its outline.
    """
    areas = np.bincount(labels.ravel())
    contact = np.zeros(len(areas))
    for one, other in ((labels[reach:], labels[:-reach]), (labels[:, reach:], labels[:, :-reach])):
        meet = (one != other) & (one > 0) & (other > 0)
        for side in (one, other):
            contact += np.bincount(side[meet], minlength=len(areas))
    weights = np.where(contact > reach * np.sqrt(areas) / 4, TOUCHING, 1.0)
    weights[0] = 0
    return np.where(areas > 0, weights, 0.0)


def image_crop(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    labels: NDArray[np.int32],
    side: int,
    grain: tuple[float, float] = DRAWN_GRAIN,
    complete: bool = False,
) -> Crop | None:
    """Cut a random rectangle out of a plane and resize it to a square of `side`; None where it shows no object.

    Where the labels are complete, copies of objects are pasted beside some of those it shows.
    """
    height, width = labels.shape
    zoom = float(np.exp(rng.uniform(np.log(0.7), np.log(4.0))))
    aspect = float(np.exp(rng.uniform(-MOST_SQUEEZED, MOST_SQUEEZED))) if rng.random() < 0.5 else 1.0
    tall, wide = (int(np.clip(side / zoom * a, 24, n)) for a, n in ((aspect, height), (1 / aspect, width)))
    crowded = np.flatnonzero(crowding(labels, CONTACT_PX) == TOUCHING)
    for _ in range(4):
        y, x = (int(rng.integers(0, n - span + 1)) for n, span in ((height, tall), (width, wide)))
        if len(crowded) and rng.random() < CROWDED:
            ys, xs = np.nonzero(labels == rng.choice(crowded))
            k = int(rng.integers(len(ys)))
            y, x = (
                int(np.clip(at - rng.uniform(0.2, 0.8) * span, 0, n - span))
                for at, n, span in ((ys[k], height, tall), (xs[k], width, wide))
            )
        part = (slice(y, y + tall), slice(x, x + wide))
        if np.count_nonzero(labels[part]) > 0:
            if complete and rng.random() < PASTED:
                count = int(rng.integers(1, MOST_PASTED + 1))
                image, labels = with_neighbours(rng, image, labels, count, part)
            return _augmented(rng, image[part][None], labels[part][None], side, grain)
    return None


def stack_crop(
    rng: np.random.Generator, image: NDArray[np.uint8], labels: NDArray[np.int32], side: int, frames: int
) -> Crop:
    """Take `frames` slices a constant step apart, in either direction, with one augmentation for all."""
    step = int(rng.choice([1, 1, 1, 2])) if len(image) > 2 * (frames - 1) else 1
    reach = step * (frames - 1)
    first = int(rng.integers(0, len(image) - reach))
    order = first + step * np.arange(frames)
    if rng.random() < 0.5:
        order = order[::-1]
    image, labels = image[order], labels[order]
    full = labels.shape[1]
    span = int(full / rng.uniform(1.0, 2.0)) if rng.random() < 0.4 else min(side, full)
    y, x = (int(rng.integers(0, full - span + 1)) for _ in range(2))
    image, labels = image[:, y : y + span, x : x + span], labels[:, y : y + span, x : x + span]
    return _augmented(rng, image, labels, side)


def _augmented(
    rng: np.random.Generator,
    images: NDArray[np.uint8],
    labels: NDArray[np.int32],
    side: int,
    grain: tuple[float, float] = DRAWN_GRAIN,
) -> Crop:
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    images, labels = np.rot90(images, turns, (1, 2)), np.rot90(labels, turns, (1, 2))
    if flip:
        images, labels = images[:, ::-1], labels[:, ::-1]
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    if labels.shape[1:] != (side, side):
        images = np.stack([_resized(i, side) for i in images])
        labels = np.stack(
            [resize(m, (side, side), order=0, preserve_range=True, anti_aliasing=False) for m in labels]
        ).astype(np.int32)
    return Crop(_intensity(rng, images, grain), np.ascontiguousarray(labels))


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    out = resize(image, (side, side), order=1, preserve_range=True, anti_aliasing=side < min(image.shape[:2]))
    return np.asarray(np.rint(out), np.uint8)


def _intensity(
    rng: np.random.Generator, images: NDArray[np.uint8], grain: tuple[float, float]
) -> NDArray[np.uint8]:
    out = images.astype(np.float32) / 255
    if rng.random() < 0.12:
        out = 1 - out
    out = out ** np.exp(rng.normal(0, 0.3))
    if rng.random() < 0.25:  # something bright elsewhere in the volume has set the contrast
        out = out * rng.uniform(0.2, 0.8)
    out = (out - 0.5) * np.exp(rng.normal(0, 0.2)) + 0.5 + rng.normal(0, 0.08)
    if rng.random() < 0.2:
        out = ndi.gaussian_filter(out, (0, *2 * [float(rng.uniform(0.5, 2.5))], 0))
    often, strongest = grain
    if rng.random() < often:
        out = out + _grain(rng, out.shape[:-1], strongest)
    if rng.random() < 0.2:
        out = out * rng.uniform(0.75, 1.15, 3)
    if rng.random() < 0.2:  # another stain, or none
        out = (
            out[..., rng.permutation(3)]
            if rng.random() < 0.5
            else np.repeat(out.mean(-1, keepdims=True), 3, -1)
        )
    return np.asarray(np.rint(255 * np.clip(out, 0, 1)), np.uint8)


def _grain(rng: np.random.Generator, shape: tuple[int, ...], strongest: float) -> NDArray[np.float32]:
    """Noise (n, S, S, 1) of pixels that may be larger than the network's, as in an enlarged image."""
    n, height, width = shape
    pixel = int(rng.choice([1, 1, 2, 3, 4]))
    sigma = math.exp(rng.uniform(math.log(0.01), math.log(strongest)))
    coarse = rng.normal(0, sigma, (n, -(-height // pixel), -(-width // pixel)))
    if pixel > 1:
        coarse = ndi.zoom(coarse, (1, pixel, pixel), order=1, grid_mode=True, mode="nearest")
    return np.asarray(coarse[:, :height, :width, None], np.float32)
