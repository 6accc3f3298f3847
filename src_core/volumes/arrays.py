"""What every reader hands over: lazy arrays, checked, and read with errors that say where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError

Index = tuple[int | slice, ...]


class LazyArray(Protocol):
    """Anything with shape, dtype and basic indexing: numpy, dask, zarr, h5py and the like."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        ...

    @property
    def dtype(self) -> Any:
        """A numpy dtype, or something like it."""
        ...

    def __getitem__(self, index: Any, /) -> Any: ...


@dataclass(kw_only=True)
class Source:
    """An opened image before the caller's wishes are applied.

    Attributes
    ----------
    arrays
        The pyramid, finest level first.
    axes
        One name per dimension, or None where the source does not say.
    axes_problem
        Why `axes` is None although the source names them; raised unless the caller names them instead.
    rgb
        True if the axis "c" holds colour samples rather than channels.
    scales, translates
        One tuple per level, one physical number per dimension; None where the source does not say.
    units
        One unit (or None) per dimension.
    files
        All files that the pixels are in, but for arrays that have one for each chunk.
    """

    arrays: list[LazyArray]
    axes: tuple[str, ...] | None = None
    axes_problem: VolumeError | None = None
    rgb: bool = False
    scales: list[tuple[float, ...]] | None = None
    translates: list[tuple[float, ...]] | None = None
    units: tuple[str | None, ...] | None = None
    name: str = "image"
    path: Path | None = None
    files: tuple[Path, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def check_array(array: LazyArray, where: str) -> None:
    """Raise `VolumeError` unless `array` has 2 or more axes, none of them empty, of real numbers or bool."""
    shape, dtype = tuple(array.shape), array.dtype
    kind = getattr(dtype, "kind", "?")
    if kind not in "buif" or (kind == "f" and dtype.itemsize > 8):
        raise VolumeError(
            f"{where} has dtype {dtype}; expected bool, (u)int8 to 64 or float16 to 64. "
            + ("Pass its magnitude or real part instead" if kind == "c" else "Convert it first")
        )
    if len(shape) < 2:
        raise VolumeError(f"{where} has shape {shape}; an image needs at least the axes y and x")
    if 0 in shape:
        raise VolumeError(f"{where} has shape {shape}: an axis of length 0 leaves no pixels to show")


def chunk_side(array: LazyArray, dimension: int) -> int:
    """Return the length of a chunk along a dimension; 0 where the array has none."""
    chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None)  # dask, then zarr and h5py
    try:
        return int(chunks[dimension]) if chunks is not None else 0
    except (TypeError, ValueError, IndexError):
        return 0


def read_block(array: LazyArray, index: Index, where: str) -> NDArray[Any]:
    """Read `array[index]` as a native-endian numpy array.

    Raises
    ------
    VolumeError
        The stored data cannot be decoded, for instance because a chunk is truncated.
    """
    try:
        block = np.asarray(array[index])
    except MemoryError:
        raise
    except Exception as error:  # codecs, stores and lazy graphs raise whatever they like
        hint = ""
        if "imagecodecs" in str(error):
            hint = "; install the package imagecodecs, which decodes this compression"
        raise VolumeError(
            f"cannot read {where}: {type(error).__name__}: {error}. "
            f"A chunk of the file may be truncated or damaged{hint}"
        ) from error
    pairs = zip(index, array.shape, strict=True)
    expected = tuple(len(range(*i.indices(n))) for i, n in pairs if isinstance(i, slice))
    if block.shape != expected:
        raise VolumeError(f"cannot read {where}: expected a block of shape {expected}, got {block.shape}")
    return block.astype(block.dtype.newbyteorder("="), copy=False)
