"""Reading label images: OME-Zarr groups whose pixels are the ids of objects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, SupportsIndex, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.labels.planes import MAX_ID, checked_id, plane_index
from src_core.labels.pyramid import is_ours
from src_core.labels.scanning import Box, bounding_box, object_ids, stored_blocks
from src_core.volumes.arrays import LazyArray, read_block
from src_core.volumes.axes import SPATIAL
from src_core.volumes.ome_zarr import local_path, open_node, read_image_group


class LabelReader:
    """What `LabelVolume` has without writing: one plane, one box of it, or all ids, chunk by chunk."""

    def __init__(self, path: Path, levels: tuple[zarr.Array[Any], ...], axes: tuple[str, ...]) -> None:
        self.path = path
        self.name = path.name
        self.levels = levels
        self.array = array = levels[0]
        self._folder = local_path(array) or path
        self.axes = axes
        self.scale: dict[str, float] = dict.fromkeys(axes, 1.0)
        self.translate: dict[str, float] = dict.fromkeys(axes, 0.0)
        self.units: dict[str, str | None] = dict.fromkeys(axes)

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: Literal["r", "r+"] = "r+") -> Self:
        """Open an existing label image (OME-Zarr 0.4 or 0.5), "r" for reading only.

        Raises
        ------
        VolumeError
            There is no label image at `path`, it is damaged, or it has pyramid levels that others made and
            `mode` is "r+" (only the finest would be updated).
        """
        path = Path(path)
        if mode not in ("r", "r+"):
            raise VolumeError(f"mode must be 'r' or 'r+', got {mode!r}")
        node = open_node(path, mode)
        if not isinstance(node, zarr.Group):
            raise VolumeError(f"{path} is a bare array; expected an OME label image (a group)")
        source = read_image_group(node)
        if source.axes_problem is not None:
            raise source.axes_problem
        levels = cast("tuple[zarr.Array[Any], ...]", tuple(source.arrays))
        array = levels[0]
        if "image-label" not in source.attributes:
            raise VolumeError(f"{path} is an image, not a label image (no image-label metadata)")
        if array.dtype.kind not in "ui" or source.axes is None or "c" in source.axes:
            raise VolumeError(
                f"{path} has dtype {array.dtype} and axes {source.axes}; expected integers and no channels"
            )
        method = source.attributes["multiscales"][0].get("type")
        if mode == "r+" and not is_ours(method, [a.shape for a in levels], source.axes):
            raise VolumeError(
                f"{path} has {len(source.arrays)} pyramid levels, of which only the finest could be updated; "
                "open it with mode='r', or create a label volume of your own"
            )
        labels = cls(path, levels, source.axes)
        if source.scales is not None and source.translates is not None:
            labels.scale.update(zip(source.axes, source.scales[0], strict=True))
            labels.translate.update(zip(source.axes, source.translates[0], strict=True))
        labels.units.update(zip(source.axes, source.units or (None,) * len(source.axes), strict=True))
        return labels

    def __repr__(self) -> str:
        sizes = ", ".join(f"{a}={n}" for a, n in zip(self.axes, self.shape, strict=True))
        return f"LabelVolume({str(self.path)!r}, {sizes}, {self.dtype})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis in pixels, in the order of `axes`."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The stored integer type."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def spatial_axes(self) -> tuple[str, ...]:
        """("z", "y", "x"), or ("y", "x") for a 2-D image."""
        return tuple(a for a in SPATIAL if a in self.axes)

    def read_plane(self, axis: str | None, index: SupportsIndex, t: SupportsIndex = 0) -> NDArray[np.uint32]:
        """Read the ids on one plane.

        Parameters
        ----------
        axis, index
            The spatial axis the plane is perpendicular to, and the position along it; None and 0 for 2-D.
        t
            Time point.

        Returns
        -------
        (H, W) uint32, rows and columns in the order z, y, x.

        Raises
        ------
        VolumeError
            No such plane, or a chunk that cannot be decoded.
        """
        where, rows_first = plane_index(self.axes, self.shape, axis, index, t)
        block = read_block(cast(LazyArray, self.array), where, f"{self.path}, {axis or 'plane'}={index}")
        plane = block if rows_first else block.T
        if plane.dtype.itemsize > 4 or plane.dtype.kind == "i":
            if plane.size and not 0 <= int(plane.min()) <= int(plane.max()) <= MAX_ID:
                raise VolumeError(f"{self.path} holds ids outside 0 to {MAX_ID} on {axis}={index}")
        return plane.astype(np.uint32)

    def read_box(
        self,
        axis: str | None,
        index: SupportsIndex,
        box_yxyx: tuple[int, int, int, int],
        *,
        t: SupportsIndex = 0,
    ) -> NDArray[np.uint32]:
        """Read the (h, w) ids in a box of one plane; only the chunks under it are read."""
        y0, x0, y1, x1 = box_yxyx
        where, rows_first = plane_index(self.axes, self.shape, axis, index, t, (slice(y0, y1), slice(x0, x1)))
        block = read_block(cast(LazyArray, self.array), where, f"{self.path}, {axis or 'plane'}={index}")
        return (block if rows_first else block.T).astype(np.uint32)

    def object_ids(self) -> list[int]:
        """Return the ids present anywhere in the volume, in ascending order, reading one chunk at a time."""
        return object_ids(self.array, self._folder)

    def stored(self) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
        """Yield (start, ids) of every chunk that may hold labels, axes as in `axes`."""
        return stored_blocks(self.array, self._folder)

    def bounding_box(self, object_id: int) -> Box | None:
        """Return the smallest box around an object, reading one chunk at a time.

        Returns
        -------
        (start, stop), each with one pixel position per axis of `axes`, half-open; None if the object has no
        pixel.

        Raises
        ------
        VolumeError
            `object_id` is not a valid id.
        """
        return bounding_box(self.array, self._folder, checked_id(object_id, self.dtype))
