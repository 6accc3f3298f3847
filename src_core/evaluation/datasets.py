"""Fixed test subsets, set by the sorted file names and a seed alone.

2D: a folder of .npz files with `image` (H, W[, C]) and instance `labels` (H, W). 3D: OME-Zarr volumes
(Z, Y, X[, C]) with `labels/ground_truth`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.errors import VolumeError
from src_core.masks import Mask
from src_core.volumes import open_volume
from src_core.volumes.ome_zarr import open_node

SEED = 0
N_IMAGES = 60


Planes = Iterator[tuple[NDArray[Any], NDArray[Any]]]
"""Images, and the labels of their objects."""


@dataclass(frozen=True, eq=False)
class Sample2D:
    """An image and the objects of it to be tested.

    `image` (H, W) or (H, W, C); `labels` (H, W) integers, 0 is background; `ids` the objects, ascending.
    """

    path: Path
    image: NDArray[Any]
    labels: NDArray[Any]
    ids: tuple[int, ...]

    def truth(self, object_id: int) -> Mask:
        """(H, W) bool mask of one object."""
        return np.asarray(self.labels == object_id)


@dataclass(frozen=True, eq=False)
class Sample3D:
    """One object of a volume: `volume` (Z, Y, X[, C]), `labels` (Z, Y, X) int32 and the object's id.

    `scale` has the size of a voxel along z, y and x in micrometers, None where the file does not say.
    """

    path: Path
    volume: NDArray[Any]
    labels: NDArray[np.int32]
    object_id: int
    scale: dict[str, float] | None = None

    @property
    def truth(self) -> Mask:
        """(Z, Y, X) bool mask of the object."""
        return np.asarray(self.labels == self.object_id)


def test_files(folder: str | Path, n_images: int = N_IMAGES, seed: int = SEED) -> tuple[str, ...]:
    """Names of the files that `subset_2d` draws from, sorted: what training must not see.

    Raises
    ------
    VolumeError
        There are no .npz files in the folder.
    """
    return tuple(path.name for path in _draw(Path(folder), n_images, np.random.default_rng(seed)))


# pytest would collect a function of this name from any test module that imports it.
test_files.__test__ = False  # type: ignore[attr-defined]


def outside_the_protocol(folder: Path, rng: np.random.Generator, count: int | None = None) -> Planes:
    """Yield image and labels of the folder's .npz files that are not of `test_files`, at random, at most `count`."""
    kept_back = set(test_files(folder))
    files = [f for f in sorted(folder.glob("*.npz")) if f.name not in kept_back]
    for file in rng.permutation(np.array(files, object))[:count]:
        yield read_labelled(file)


def some_objects(
    rng: np.random.Generator, labels: NDArray[Any], least_px: int, most: int
) -> NDArray[np.intp]:
    """Draw ids of at most `most` objects of a label plane that have at least `least_px` pixels."""
    areas = np.bincount(labels.ravel().astype(np.int64))
    areas[0] = 0
    return rng.permutation(np.nonzero(areas >= least_px)[0])[:most]


def subset_2d(
    folder: str | Path,
    n_images: int = N_IMAGES,
    n_objects: int = 120,
    min_area_px: int = 30,
    seed: int = SEED,
) -> Iterator[Sample2D]:
    """Draw a fixed random subset of images, and of the objects on each.

    Parameters
    ----------
    folder
        Folder of .npz files.
    n_images
        Images to draw; all if there are fewer.
    n_objects
        Objects to draw in all, spread evenly over the images, rounded up; an image may have fewer.
    min_area_px
        Smaller objects are left out.
    seed
        Another seed, another subset.

    Raises
    ------
    VolumeError
        There are no .npz files in the folder, or one cannot be read by `read_labelled`.
    """
    rng = np.random.default_rng(seed)
    drawn = _draw(Path(folder), n_images, rng)
    per_image = -(-n_objects // len(drawn))
    for path in drawn:
        image, labels = read_labelled(path)
        areas = np.bincount(labels.ravel().astype(np.int64))
        areas[0] = 0
        ids = rng.permutation(np.nonzero(areas >= min_area_px)[0])[:per_image]
        yield Sample2D(path, image, labels, tuple(sorted(int(k) for k in ids)))


def objects_3d(
    folder: str | Path,
    prefix: str = "",
    min_slices: int = 5,
    max_objects: int | None = None,
    seed: int = SEED,
) -> Iterator[Sample3D]:
    """Go through the objects of the OME-Zarr volumes in a folder.

    Parameters
    ----------
    folder
        Where the `<prefix>*.ome.zarr` are.
    prefix
        How their names begin.
    min_slices
        Objects on fewer slices are left out.
    max_objects
        Draw so many at random; None for all.
    seed
        Another seed, another draw.

    Raises
    ------
    VolumeError
        There are no such volumes in the folder, or one cannot be read by `read_truth`.
    """
    paths = sorted(Path(folder).glob(f"{prefix}*.ome.zarr"), key=lambda path: path.name)
    if not paths:
        raise VolumeError(f"no {prefix}*.ome.zarr in {folder}")
    found: list[Sample3D] = []
    for path in paths:
        image, truth = read_truth(path)
        volume, labels = np.asarray(image), np.asarray(truth).astype(np.int32)
        scale = _scale(path)
        for k, where in enumerate(ndi.find_objects(labels), start=1):
            if where is not None and where[0].stop - where[0].start >= min_slices:
                found.append(Sample3D(path, volume, labels, k, scale))
    if max_objects and len(found) > max_objects:
        drawn = np.random.default_rng(seed).permutation(len(found))[:max_objects]
        found = [found[i] for i in sorted(drawn)]
    yield from found


def _scale(path: Path) -> dict[str, float] | None:
    try:
        opened = open_volume(path)
    except VolumeError:  # arrays without OME metadata
        return None
    known = len(opened.spatial_axes) == 3 and opened.is_scaled
    return {axis: opened.scale[axis] for axis in "zyx"} if known else None


def read_labelled(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read a labelled image: an .npz with `image` (H, W[, C]) and instance `labels` (H, W).

    Raises
    ------
    VolumeError
        It cannot be read, lacks one of the two, or their shapes differ.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            image, labels = arrays["image"], arrays["labels"]
    # numpy answers damaged files with whatever zip and header readers trip over; a .npy has no keys
    except Exception as error:
        raise VolumeError(f"{path} is not an .npz with `image` and `labels` ({error})") from error
    whole = labels.dtype.kind in "biu" and labels.min(initial=0) >= 0
    if labels.ndim != 2 or image.shape[:2] != labels.shape or not whole:
        raise VolumeError(
            f"{path}: expected `image` (H, W[, C]) and `labels` (H, W) of whole numbers from 0, got "
            f"{image.dtype} of {image.shape} and {labels.dtype} of {labels.shape}"
        )
    return image, labels


def read_truth(path: Path) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
    """Open an OME-Zarr volume with true instances, (Z, Y, X[, C]) and (Z, Y, X), without reading pixels.

    Raises
    ------
    VolumeError
        It cannot be opened, has no `labels/ground_truth`, or their shapes differ.
    """
    if not (path / "labels" / "ground_truth").is_dir():
        raise VolumeError(f"{path} has no labels/ground_truth to compare with")
    image, truth = open_node(path / "0"), open_node(path / "labels" / "ground_truth" / "0")
    if not isinstance(image, zarr.Array) or not isinstance(truth, zarr.Array):
        raise VolumeError(f"{path}: 0 and labels/ground_truth/0 must be arrays")
    if len(truth.shape) != 3 or image.shape[:3] != truth.shape:
        raise VolumeError(
            f"{path}: expected an image (Z, Y, X[, C]) and labels/ground_truth (Z, Y, X), got {image.shape} "
            f"and {truth.shape}"
        )
    return image, truth


def _draw(folder: Path, n_images: int, rng: np.random.Generator) -> list[Path]:
    paths = sorted(folder.glob("*.npz"), key=lambda path: path.name)
    if not paths:
        raise VolumeError(f"no .npz files in {folder}")
    return [paths[i] for i in sorted(rng.permutation(len(paths))[:n_images])]
