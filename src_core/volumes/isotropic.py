"""Planes with square pixels out of volumes whose slices lie far apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.volumes.arrays import LazyArray
from src_core.volumes.volume import Volume

WORTH_IT = 1.2
"""Pixels that are less oblong than this stay as they are."""
MOST = 32
"""Nothing is stretched more: a size that is a slip of the pen must not make planes of a million pixels' length."""


def isotropic(volume: Volume, axis: str, c: int | None = None) -> Volume:
    """Return a volume whose planes along `axis` have square pixels: the coarser of their axes is stretched.

    What is stretched, up to 32 times, is interpolated when it is read, linearly, at the level of the volume; contrast
    stays the same.
    """
    scales = {a: volume.scale[a] for a in volume.plane_axes(axis)}
    coarse = max(scales, key=lambda a: scales[a])
    factor = min(scales[coarse] / min(scales.values()), MOST)
    if factor < WORTH_IT:
        return volume
    length = max(1, round(volume.sizes[coarse] * factor))
    stretched = Stretched(volume.array, volume.axes.index(coarse), length)
    channel = volume.channel if c is None else c
    return replace(
        volume,
        arrays=(stretched,),
        level=0,
        scale={**volume.scale, coarse: volume.scale[coarse] * volume.sizes[coarse] / length},
        user_limits={channel: volume.contrast_limits_of(channel)},
    )


class Stretched:
    """A lazy array with another length along one dimension, interpolated where it is read.

    Parameters
    ----------
    array
        The array as it is.
    dimension, length
        Which dimension, and how long it shall be.
    """

    def __init__(self, array: LazyArray, dimension: int, length: int) -> None:
        self._array, self._dimension = array, dimension
        self.shape = tuple(length if d == dimension else int(n) for d, n in enumerate(array.shape))
        self.dtype: np.dtype[Any] = np.dtype(array.dtype)

    def __getitem__(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        d = self._dimension
        count = int(self._array.shape[d])
        wanted = np.atleast_1d(np.arange(self.shape[d])[index[d]])
        places = np.clip((wanted + 0.5) * count / self.shape[d] - 0.5, 0, count - 1)
        low = places.astype(np.intp)
        high = np.minimum(low + 1, count - 1)
        first = int(low.min()) if len(low) else 0
        rows = slice(first, int(high.max()) + 1 if len(high) else 0)
        block = np.asarray(self._array[(*index[:d], rows, *index[d + 1 :])])
        axis = sum(isinstance(i, slice) for i in index[:d])
        below, above = (np.take(block, at - first, axis) for at in (low, high))
        shape = [1] * block.ndim
        shape[axis] = -1
        weight = (places - low).reshape(shape)
        if self.dtype == np.bool_:
            mixed = np.where(weight < 0.5, below, above)
        else:
            mixed = below * (1 - weight) + above * weight
            mixed = np.rint(mixed) if self.dtype.kind in "iu" else mixed
        found = mixed.astype(self.dtype)
        return found if isinstance(index[d], slice) else found[(slice(None),) * axis + (0,)]
