"""Label volumes: OME-Zarr label images written plane by plane."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from src_core.errors import SessionError, VolumeError
from src_core.labels.files import Prepare, create_in_image, create_label_group, disk_errors
from src_core.labels.planes import checked_id, plane_axes, plane_index
from src_core.labels.pyramid import update
from src_core.labels.reading import LabelReader
from src_core.masks import bounds
from src_core.volumes import Volume


@dataclass(frozen=True)
class Change:
    """What one `LabelVolume.write_plane` did.

    Attributes
    ----------
    n_pixels
        How many pixels have another value than before.
    box_yxyx
        The smallest half-open box (row0, column0, row1, column1) around them on the plane; None if none.
    before, after
        (h, w) uint32, the ids in that box before and after: what undo and redo need. None if nothing changed.
    """

    n_pixels: int
    box_yxyx: tuple[int, int, int, int] | None
    before: NDArray[np.uint32] | None = field(default=None, compare=False, repr=False)
    after: NDArray[np.uint32] | None = field(default=None, compare=False, repr=False)


class LabelVolume(LabelReader):
    """An OME-Zarr label image: 0 is background, every other value is the id of an object.

    Make one with `create`, `create_in` or `open`. A chunk on disk is replaced as a whole: a process
    that is killed leaves every chunk either as it was or as it was to be. Threads take turns at
    writing; only one process may write to a label volume at a time.

    Attributes
    ----------
    array
        The zarr array, axes as in `axes`.
    levels
        It and the coarser ones of a pyramid, which `write_plane` and `write_box` keep up to date.
    axes
        Names of its dimensions, among t, z, y, x.
    scale, translate, units
        Physical size per pixel, position of pixel 0 and unit for every axis.
    path, name
        The folder of the label image, and its last part.
    """

    def __init__(self, path: Path, levels: tuple[zarr.Array[Any], ...], axes: tuple[str, ...]) -> None:
        super().__init__(path, levels, axes)
        self._lock = threading.RLock()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        volume: Volume,
        *,
        name: str = "labels",
        overwrite: bool = False,
        dtype: DTypeLike = np.uint32,
        pyramid: bool = False,
        prepare: Prepare | None = None,
    ) -> LabelVolume:
        """Create an empty label image for `volume` at `path` and open it for writing.

        Parameters
        ----------
        path
            The new folder.
        volume
            The image to label: axes (without c), scale and units are taken from it.
        name
            What viewers call it.
        overwrite
            Replace a label image that is already there. Anything else there is never touched.
        dtype
            An unsigned integer type, large enough for the ids.
        pyramid
            Make coarser levels, too, for viewers.
        prepare
            Called with the folder before it gets its name, to put more into it.

        Raises
        ------
        SessionError
            `path` exists, or the disk is full or read-only.
        VolumeError
            `dtype` is not an unsigned integer type.
        """
        path = Path(path)
        image = None if volume.path is None else _relative(volume.path, path)
        create_label_group(
            path,
            volume,
            name=name,
            overwrite=overwrite,
            dtype=_label_dtype(dtype),
            image=image,
            prepare=prepare,
            levels=None if pyramid else 1,
        )
        return cls.open(path)

    @classmethod
    def create_in(
        cls,
        volume: Volume,
        name: str = "labels",
        *,
        overwrite: bool = False,
        dtype: DTypeLike = np.uint32,
        pyramid: bool = False,
        prepare: Prepare | None = None,
    ) -> LabelVolume:
        """Create an empty label image inside the volume's own OME-Zarr 0.5 image, under labels/`name`.

        Raises
        ------
        SessionError
            There are labels of this name already, or the disk is full or read-only.
        VolumeError
            The volume is no OME-Zarr 0.5 image on disk, or `name` or `dtype` cannot be used.
        """
        if not name or name.startswith((".", "__")) or set(name) & set('/\\:*?"<>|'):
            raise VolumeError(f"{name!r} cannot name a label image; use letters, digits, - and _")
        path = create_in_image(
            volume,
            name,
            overwrite=overwrite,
            dtype=_label_dtype(dtype),
            prepare=prepare,
            levels=None if pyramid else 1,
        )
        return cls.open(path)

    def write_plane(
        self,
        axis: str | None,
        index: SupportsIndex,
        masks: Mapping[int, NDArray[np.bool_]],
        *,
        t: SupportsIndex = 0,
        replace: bool = True,
        protect: Collection[int] = (),
        announce: Callable[[Change], None] | None = None,
    ) -> Change:
        """Put the masks of some objects on one plane.

        Parameters
        ----------
        axis, index
            The spatial axis the plane is perpendicular to, and the position along it; None and 0 for 2-D.
        masks
            For each object id, its (H, W) bool mask. Where masks overlap, the later one wins.
        t
            Time point.
        replace
            Clear what these objects had on the plane before; False adds to it.
        protect
            Ids of finished objects, whose pixels are left alone.
        announce
            Called with a change right before it is written; not called if there is none.

        Returns
        -------
        How many pixels changed and where.

        Raises
        ------
        VolumeError
            No such plane, a mask of the wrong shape or type, or an id that is not valid for the dtype.
        SessionError
            An object is both written and protected, the labels are open for reading only, or the disk
            is full.
        """
        shape = tuple(self.shape[self.axes.index(a)] for a in plane_axes(self.axes, axis))
        ids = [checked_id(i, self.dtype) for i in masks]
        for i, mask in masks.items():
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != shape:
                given = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
                raise VolumeError(
                    f"the mask of object {i} must be a bool array of shape {shape}, got {given}"
                )
        if locked := sorted(set(ids) & set(protect)):
            raise SessionError(f"objects {locked} are protected and cannot be written; unlock them first")
        protected = np.asarray(sorted(protect), np.uint32)

        def painted(before: NDArray[np.uint32]) -> NDArray[np.uint32]:
            after = before.copy()
            if replace:
                after[np.isin(before, np.asarray(ids, np.uint32))] = 0
            free = ~np.isin(before, protected)
            for i, mask in zip(ids, masks.values(), strict=True):
                after[mask & free] = i
            return after

        return self.change_plane(axis, index, painted, t=t, announce=announce)

    def change_plane(
        self,
        axis: str | None,
        index: SupportsIndex,
        make: Callable[[NDArray[np.uint32]], NDArray[np.uint32]],
        *,
        t: SupportsIndex = 0,
        announce: Callable[[Change], None] | None = None,
    ) -> Change:
        """Replace the (H, W) uint32 ids of one plane by `make(ids)`, a new array.

        The other parameters, the result and the errors are those of `write_plane`.
        """
        if self.array.read_only:
            raise SessionError(f"{self.path} is open for reading only; open it with mode='r+'")
        with self._lock:
            before = self.read_plane(axis, index, t)
            after = make(before)
            changed = after != before
            if not changed.any():
                return Change(0, None)
            # Only the chunks under the change are read and written again.
            y0, x0, y1, x1 = box = bounds(changed)
            old, new = before[y0:y1, x0:x1].copy(), after[y0:y1, x0:x1].copy()
            change = Change(int(np.count_nonzero(changed)), box, old, new)
            if announce is not None:
                announce(change)
            self.write_box(axis, index, box, new, t=t)
            return change

    def write_box(
        self,
        axis: str | None,
        index: SupportsIndex,
        box_yxyx: tuple[int, int, int, int],
        ids: NDArray[np.uint32],
        *,
        t: SupportsIndex = 0,
    ) -> None:
        """Put (h, w) ids back into a box of one plane, as `Change` describes it.

        Raises
        ------
        VolumeError
            No such plane, or an id is too large for the labels' type.
        SessionError
            The labels are open for reading only, or the disk is full.
        """
        if self.array.read_only:
            raise SessionError(f"{self.path} is open for reading only; open it with mode='r+'")
        y0, x0, y1, x1 = box_yxyx
        where, rows_first = plane_index(self.axes, self.shape, axis, index, t, (slice(y0, y1), slice(x0, x1)))
        if (largest := int(ids.max(initial=0))) > np.iinfo(self.dtype).max:
            raise VolumeError(f"{self.path} holds ids of {self.dtype}: {largest} is too large for it")
        part = ids.astype(self.dtype)
        with self._lock, disk_errors(f"write labels to {self.path}"):
            self.array[where] = part if rows_first else part.T
            update(self.levels, self.axes, where)


def _label_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        checked: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise VolumeError(f"dtype must be an unsigned integer type, got {dtype!r}") from error
    if checked.kind != "u":
        raise VolumeError(f"labels need an unsigned integer dtype such as uint32, got {checked}")
    return checked


def _relative(image: Path, label: Path) -> str:
    try:
        return Path(os.path.relpath(image.absolute(), label.absolute())).as_posix()
    except ValueError:  # another drive
        return image.absolute().as_posix()
