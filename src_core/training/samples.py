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
from src_core.model.nano_encoder import LOW_RES_PX, SIZE_MULTIPLE_PX, TILE_PX
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
OPTIONS = ("side", "crops", "objects_per_crop", "frames", "objects_per_stack")


@dataclass(frozen=True)
class Sample:
    """Crops for one step.

    Attributes
    ----------
    images
        (G + T, S, S, 3) uint8: G single crops, then T slices of one stack.
    image_masks
        (G, n, s, s) bool at low resolution: n objects a crop.
    stack_masks
        (T, m, s, s) bool: m objects followed through the slices; all are on the first.
    background
        (G, s, s) bool: where on the single crops there is surely no object; nowhere if that is not known.
    labels
        (G + T, S / 4, S / 4) int32: all objects of the images, on the grid of the affinity maps.
    complete
        (G + T,) bool: whether whatever has no label is background.
    """

    images: NDArray[np.uint8]
    image_masks: NDArray[np.bool_]
    stack_masks: NDArray[np.bool_]
    background: NDArray[np.bool_]
    labels: NDArray[np.int32]
    complete: NDArray[np.bool_]


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
    stacks, images
        Where crops come from: every other single crop from the images, if there are any.
    scenes
        Stacks that stand in for one in five of `stacks`, if there are any.
    seed, steps
        What is drawn, and for how many steps.
    side
        Of a crop in network pixels at most; every sample draws its own, from 5/8 of it.
    crops, objects_per_crop
        Single crops in a sample, and objects on each.
    frames, objects_per_stack
        Slices of the one stack in a sample, and objects followed through them.
    """

    def __init__(
        self,
        stacks: StackSource,
        images: ImageSource | None,
        *,
        seed: int,
        steps: int,
        side: int = 256,
        crops: int = 4,
        objects_per_crop: int = 2,
        frames: int = 6,
        objects_per_stack: int = 3,
        scenes: StackSource | None = None,
    ) -> None:
        self.stacks, self.images, self.scenes = stacks, images, scenes
        self.seed, self.steps, self.side = seed, steps, side
        self.crops, self.objects_per_crop = crops, objects_per_crop
        self.frames, self.objects_per_stack = frames, objects_per_stack

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Sample:
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, step))
        unit = SIZE_MULTIPLE_PX
        side = unit * int(rng.integers(math.ceil(0.625 * self.side / unit), self.side // unit + 1))
        images: list[NDArray[np.uint8]] = []
        masks: list[NDArray[np.bool_]] = []
        background: list[NDArray[np.bool_]] = []
        labels: list[NDArray[np.int32]] = []
        complete: list[bool] = []
        while len(images) < self.crops:
            real = self.images is not None and len(images) % 2 == 1
            crop, all_known = self._image(rng, real, side)
            chosen = _choose(rng, crop, self.objects_per_crop) if crop else None
            if crop and chosen is not None:
                images.append(crop.images[0])
                masks.append(low_res_masks(crop.labels[0], chosen))
                background.append(_background(crop.labels[0], all_known))
                labels.append(crop.labels[0])
                complete.append(all_known)
        while True:
            crop, all_known = self._stack(rng, side)
            chosen = _choose(rng, crop, self.objects_per_stack, ends=True)
            if chosen is not None:
                break
        frames = np.stack([low_res_masks(plane, chosen) for plane in crop.labels])
        crops = np.concatenate([np.stack(images), crop.images])
        every = slice(CELL_PX // 2, None, CELL_PX)
        cells = np.concatenate([np.stack(labels), crop.labels])[:, every, every]
        known = np.array(complete + [all_known] * len(crop.images))
        return Sample(crops, np.stack(masks), frames, np.stack(background), cells, known)

    def _image(self, rng: np.random.Generator, real: bool, side: int) -> tuple[Crop | None, bool]:
        if real and self.images is not None:
            image, known = self.images.get(int(rng.integers(1 << 30)))
            return image_crop(rng, image, known, side, REAL_GRAIN), True
        source = self._source(rng)
        index = int(rng.integers(source.count))
        image, labels = source.get(index)
        z = int(rng.integers(len(image)))
        return image_crop(rng, image[z], labels[z], side=side), source.is_complete(index)

    def _stack(self, rng: np.random.Generator, side: int) -> tuple[Crop, bool]:
        source = self._source(rng)
        index = int(rng.integers(source.count))
        return stack_crop(rng, *source.get(index), side, self.frames), source.is_complete(index)

    def _source(self, rng: np.random.Generator) -> StackSource:
        return self.scenes if self.scenes is not None and rng.random() < SCENES else self.stacks


def _choose(rng: np.random.Generator, crop: Crop, count: int, ends: bool = False) -> NDArray[np.int64] | None:
    """Draw object ids on the first plane, rather those that touch others and, in stacks, that end before the last."""
    areas = np.bincount(crop.labels[0].ravel())
    areas[0] = 0
    ids = np.nonzero((areas >= MIN_AREA_PX) & (areas < 0.8 * crop.labels[0].size))[0]
    if not len(ids):
        return None
    weights = crowding(crop.labels[0], NEAR_PX)[ids]
    if ends:
        weights[~np.isin(ids, crop.labels[-1])] *= 2.0
    return rng.choice(ids, count, replace=len(ids) < count, p=weights / weights.sum())


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
