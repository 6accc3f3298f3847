"""What the walks across a block say about one object, voxel by voxel, and all that is said about a slice of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from src_core.masks import Box, Mask
from src_core.propagation.blocks import Block, Span
from src_core.propagation.tracks import Slabs

AWAY = 0.55
"""How sure a walk is of a plane that it did not reach; of one that it did reach it says itself."""


@dataclass(frozen=True, eq=False)
class Ballot:
    """The votes of the walks across on one object.

    Attributes
    ----------
    block, span
        The part of a block that they are about.
    votes
        (Z, h, w) float32, the sum of all walks.
    count
        How many walks; the slices count as much as all of them.
    """

    block: Block
    span: Span
    votes: NDArray[np.float32]
    count: int

    @classmethod
    def of(cls, block: Block, own: Mask, across: Mapping[str, Slabs]) -> Ballot:
        """Count what walks along "y" and "x" have found of an object that is at `own`, (Z, h, w), on the slices.

        `own` is not empty; who has walked and found nothing is in `across` with nothing.
        """
        span = _span(own, block, across)
        votes = np.zeros([stop - first for first, stop in span], np.float32)
        for axis, slabs in across.items():
            votes += _votes(slabs, "zyx".index(axis), span, block)
        return cls(block, span, votes, len(across))

    @property
    def box(self) -> Box:
        """The rectangle of the slices of the volume that it is about."""
        (y0, y1), (x0, x1) = (
            (low + round(first * f), low + round(stop * f))
            for (low, _), (first, stop), f in zip(
                self.block.span[1:], self.span[1:], self.block.reduced, strict=True
            )
        )
        return y0, x0, y1, x1

    def shows(self, index: int) -> bool:
        """Say whether a slice of the volume is in the block."""
        low, high = self.block.span[0]
        return low <= index < high

    def on(self, index: int, mask: Mask | None, score: float) -> NDArray[np.float32]:
        """Return the votes of all on the pixels in `box` on a slice of the volume, (h, w), above 0 for the object.

        Parameters
        ----------
        index
            The slice; it must be in the block.
        mask, score
            What was found there, (h, w) in `box`, None for nothing, and how sure that is.
        """
        (z0, z1), (y0, x0, y1, x1) = self.span[0], self.box
        at, shape = index - self.block.span[0][0], (y1 - y0, x1 - x0)
        if z0 <= at < z1:
            part = torch.from_numpy(self.votes[at - z0])[None, None]
            if part.shape[2:] != shape:
                part = F.interpolate(part, shape, mode="bilinear", align_corners=False)
            across = np.array(part[0, 0].numpy())
        else:
            across = np.full(shape, -AWAY * self.count, np.float32)
        if mask is None:
            return across - np.float32(AWAY * self.count)
        sure = np.float32(score * self.count)
        return across + np.where(mask, sure, -sure)

    def support(self, index: int, part: Mask) -> float:
        """Return how sure the walks are that pixels (h, w) in `box` of a slice are the object's; 0.5 is undecided."""
        votes = self.on(index, None, 0.0)[part].mean() + AWAY * self.count
        return float(np.clip(0.5 + votes / (2 * self.count), 0, 1))


def _span(own: Mask, block: Block, across: Mapping[str, Slabs]) -> Span:
    """Return the part of the block in which anybody has found the object."""
    there = [np.flatnonzero(own.any(tuple({0, 1, 2} - {d}))) for d in range(3)]
    low, high = [int(n[0]) for n in there], [int(n[-1]) + 1 for n in there]
    for d, axis in enumerate("yx", start=1):
        for i, (mask, _) in across.get(axis, {}).items():
            z0, other0, z1, other1 = mask.box
            e = 3 - d
            low[0], high[0] = min(low[0], z0), max(high[0], z1)
            low[e], high[e] = min(low[e], other0), max(high[e], other1)
            low[d] = min(low[d], max(0, (i - 1) * block.stride + 1))
            high[d] = max(high[d], min(block.shape[d], (i + 1) * block.stride))
    return (low[0], high[0]), (low[1], high[1]), (low[2], high[2])


def _votes(slabs: Slabs, d: int, span: Span, block: Block) -> NDArray[np.float32]:
    """Return the votes of a walk along rows (d is 1) or columns (2); between its planes they are interpolated."""
    first, stop = span[d]
    planes = range(first // block.stride, (stop - 1) // block.stride + 2)
    (z0, z1), (other0, other1) = span[0], span[3 - d]
    votes = np.full((len(planes), z1 - z0, other1 - other0), -AWAY, np.float32)
    rim = (block.shape[d] - 1) // block.stride
    for n, i in enumerate(planes):
        if (slab := slabs.get(min(i, rim))) is not None:  # beyond its last plane, a block is as on it
            mask, score = slab
            votes[n] = np.where(mask.unpack()[z0:z1, other0:other1], score, -score)
    places = np.arange(first, stop) / block.stride - planes[0]
    low = places.astype(np.intp)
    weight = (places - low).astype(np.float32)[:, None, None]
    between = votes[low] * (1 - weight) + votes[low + 1] * weight
    return np.moveaxis(between, 0, d)
