"""One training step's worth of data, drawn from (seed, step) alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch.utils.data import Dataset

from src_core.errors import SamError
from src_core.model.affinity import CELL_PX
from src_core.model.nano_encoder import LOW_RES_PX, SIZE_MULTIPLE_PX, STRIDE_PX, TILE_PX
from src_core.training.data import (
    MIN_AREA_PX,
    REAL_GRAIN,
    STACK_SHAPE,
    Crop,
    ImageSource,
    StackSource,
    crowding,
    image_crop,
    stack_crop,
)

SCENES = 0.2
"""How often scenes stand in for stacks."""
NEAR_PX = 8
"""On crops, which may be enlarged, so close objects touch."""
CLEAR = 2
"""So many low-resolution pixels from any object begins the background."""
QUERIES, MIN_CELLS = 6, 3
"""Objects of an image whose affinity is looked at in one step, and how large they are at least."""
AROUND, MOST_AROUND_PX, FRAMES_AROUND = 0.4, 192, 4
"""How often the encoder sees more than what is asked about, how much at most, and on so few slices of a stack then:
what it makes of an object must not depend on how far away the picture ends."""
OPTIONS = ("side", "crops", "objects_per_crop", "stacks", "frames", "objects_per_stack")


@dataclass(frozen=True)
class Sample:
    """Crops for one step.

    Attributes
    ----------
    images
        (G + W T, S, S, 3) uint8: G single crops, then T slices of each of W stacks.
    window_yxyx
        What of them is asked about, in pixels: multiples of the embedding's cells, s low-resolution pixels a side.
    image_masks
        (G, n, s, s) bool at low resolution: n objects a crop.
    stack_masks
        (W, T, m, s, s) bool: m objects followed through the slices of each stack; all are on the first.
    background
        (G, s, s) bool: where on the single crops there is surely no object; nowhere if that is not known.
    labels
        (G + W T, S / 4, S / 4) int32: all objects of the images, on the grid of the affinity maps.
    queries
        Pixels (G + W T, Q) of objects, as indices into the flattened `labels`, and the ids (G + W T, Q) of their
        objects, 0 where there are fewer.
    complete
        (G + W T,) bool: whether whatever has no label is background.
    """

    images: NDArray[np.uint8]
    window_yxyx: tuple[int, int, int, int]
    image_masks: NDArray[np.bool_]
    stack_masks: NDArray[np.bool_]
    background: NDArray[np.bool_]
    labels: NDArray[np.int32]
    queries: tuple[NDArray[np.int64], NDArray[np.int64]]
    complete: NDArray[np.bool_]


_Single = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_], bool]
"""Image, labels, masks at low resolution, background, and whether all objects are known."""


def check_options(options: Mapping[str, int]) -> None:
    """Raise `SamError` unless these are options of `Samples` that go together."""
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise SamError(f"unknown options of samples {', '.join(unknown)}; known are {', '.join(OPTIONS)}")
    for name, value in options.items():
        if type(value) is not int or value < 1:
            raise SamError(f"samples: {name} must be a whole number from 1, got {value!r}")
    if (side := options.get("side", SIZE_MULTIPLE_PX)) % SIZE_MULTIPLE_PX or side > TILE_PX:
        raise SamError(f"samples: side must be a multiple of {SIZE_MULTIPLE_PX} up to {TILE_PX}, got {side}")
    if options.get("frames", 1) > STACK_SHAPE[0]:
        raise SamError(f"samples: drawn stacks have {STACK_SHAPE[0]} slices, frames asks for more")


class Samples(Dataset[Sample]):
    """Map from the step's number to its sample.

    Parameters
    ----------
    source, images
        Where crops come from: every other single crop from the images, if there are any.
    scenes
        Stacks that stand in for one in five of `source`, if there are any.
    seed, steps
        What is drawn, and for how many steps.
    side
        Of a crop in network pixels at most; every sample draws its own, from 5/8 of it.
    crops, objects_per_crop
        Single crops in a sample, and objects on each.
    stacks, frames, objects_per_stack
        Stacks in a sample, slices of each, and objects followed through them.
    """

    def __init__(
        self,
        source: StackSource,
        images: ImageSource | None,
        *,
        seed: int,
        steps: int,
        side: int = 256,
        crops: int = 4,
        objects_per_crop: int = 2,
        stacks: int = 1,
        frames: int = 6,
        objects_per_stack: int = 3,
        scenes: StackSource | None = None,
    ) -> None:
        self.source, self.images, self.scenes = source, images, scenes
        self.seed, self.steps, self.side = seed, steps, side
        self.crops, self.objects_per_crop = crops, objects_per_crop
        self.stacks, self.frames, self.objects_per_stack = stacks, frames, objects_per_stack

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Sample:
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, step))
        size, window, frames = self._sizes(rng)
        y0, x0, y1, x1 = window
        asked = (slice(y0, y1), slice(x0, x1))
        singles: list[_Single] = []
        while len(singles) < self.crops:
            real = self.images is not None and len(singles) % 2 == 1
            singles.append(self._single(rng, real, size, asked))
        images, labels, masks, background, complete = (np.stack(part) for part in zip(*singles, strict=True))
        walks = [self._walk(rng, size, asked, frames) for _ in range(self.stacks)]
        crops, followed, all_known = zip(*walks, strict=True)
        every = slice(CELL_PX // 2, None, CELL_PX)
        planes = np.concatenate([labels, *(crop.labels for crop in crops)])[:, every, every]
        return Sample(
            images=np.concatenate([images, *(crop.images for crop in crops)]),
            window_yxyx=window,
            image_masks=masks,
            stack_masks=np.stack(followed),
            background=background,
            labels=planes,
            queries=affinity_queries(rng, planes),
            complete=np.append(complete, np.repeat(all_known, frames)),
        )

    def _sizes(self, rng: np.random.Generator) -> tuple[int, tuple[int, int, int, int], int]:
        """Draw the side of the images, the window that is asked about, and how many slices are walked through."""
        unit = SIZE_MULTIPLE_PX
        side = unit * int(rng.integers(math.ceil(0.625 * self.side / unit), self.side // unit + 1))
        around, frames = 0, self.frames
        if rng.random() < AROUND:
            around = unit * int(rng.integers(2, MOST_AROUND_PX // unit + 1))
            frames = min(self.frames, FRAMES_AROUND)
        y, x = (STRIDE_PX * int(k) for k in rng.integers(0, around // STRIDE_PX + 1, 2))
        return side + around, (y, x, y + side, x + side), frames

    def _single(self, rng: np.random.Generator, real: bool, size: int, asked: tuple[slice, slice]) -> _Single:
        while True:
            crop, complete = self._image(rng, real, size)
            if crop is None:
                continue
            shown = crop.labels[0][asked]
            chosen = _choose(rng, shown, self.objects_per_crop)
            if chosen is not None:
                masks, background = low_res_masks(shown, chosen), _background(shown, complete)
                return crop.images[0], crop.labels[0], masks, background, complete

    def _walk(
        self, rng: np.random.Generator, size: int, asked: tuple[slice, slice], frames: int
    ) -> tuple[Crop, NDArray[np.bool_], bool]:
        """Return slices of a stack, the masks of the objects followed through them, and whether all are known."""
        while True:
            crop, complete = self._stack(rng, size, frames)
            walked = crop.labels[:, *asked]
            chosen = _choose(rng, walked[0], self.objects_per_stack, last=walked[-1])
            if chosen is not None:
                return crop, np.stack([low_res_masks(plane, chosen) for plane in walked]), complete

    def _image(self, rng: np.random.Generator, real: bool, side: int) -> tuple[Crop | None, bool]:
        if real and self.images is not None:
            image, known = self.images.get(int(rng.integers(1 << 30)))
            return image_crop(rng, image, known, side, REAL_GRAIN, complete=True), True
        source = self._source(rng)
        index = int(rng.integers(source.count))
        image, labels = source.get(index)
        z, complete = int(rng.integers(len(image))), source.is_complete(index)
        return image_crop(rng, image[z], labels[z], side, complete=complete), complete

    def _stack(self, rng: np.random.Generator, side: int, frames: int) -> tuple[Crop, bool]:
        source = self._source(rng)
        index = int(rng.integers(source.count))
        return stack_crop(rng, *source.get(index), side, frames), source.is_complete(index)

    def _source(self, rng: np.random.Generator) -> StackSource:
        return self.scenes if self.scenes is not None and rng.random() < SCENES else self.source


def _choose(
    rng: np.random.Generator, labels: NDArray[np.int32], count: int, last: NDArray[np.int32] | None = None
) -> NDArray[np.int64] | None:
    """Draw object ids on a plane, rather those that touch others and, in stacks, that end before the last plane."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    ids = np.nonzero((areas >= MIN_AREA_PX) & (areas < 0.8 * labels.size))[0]
    if not len(ids):
        return None
    weights = crowding(labels, NEAR_PX)[ids]
    if last is not None:
        weights[~np.isin(ids, last)] *= 2.0
    return rng.choice(ids, count, replace=len(ids) < count, p=weights / weights.sum())


def affinity_queries(
    rng: np.random.Generator, planes: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a pixel each of some objects of planes (B, h, w), rather of such as touch others; see `Sample.queries`."""
    pixels, chosen = np.zeros((2, len(planes), QUERIES), np.int64)
    for i, plane in enumerate(planes):
        areas = np.bincount(plane.ravel())
        areas[0] = 0
        ids = np.nonzero(areas >= MIN_CELLS)[0]
        if len(ids):
            weights = crowding(plane, 1)[ids]
            drawn = rng.choice(ids, min(QUERIES, len(ids)), replace=False, p=weights / weights.sum())
            chosen[i, : len(drawn)] = drawn
            pixels[i, : len(drawn)] = [rng.choice(np.flatnonzero(plane == n)) for n in drawn]
    return pixels, chosen


def _background(labels: NDArray[np.int32], complete: bool) -> NDArray[np.bool_]:
    """Return (S / 2, S / 2) bool: what is well outside all objects of a (S, S) label plane."""
    nothing = ~low_res_masks((labels != 0).astype(np.int32), np.array([1]))[0]
    return np.asarray(ndi.binary_erosion(nothing, iterations=CLEAR) if complete else np.zeros_like(nothing))


def low_res_masks(labels: NDArray[np.int32], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (n, S / 2, S / 2) bool masks of `ids` in a (S, S) label plane, by majority."""
    masks = labels[None] == ids[:, None, None]
    n, height, width = masks.shape
    side = LOW_RES_PX
    blocks = masks.reshape(n, height // side, side, width // side, side)
    return np.asarray(blocks.sum((2, 4)) >= side * side / 2)
