"""Labels into other formats: COCO run lengths, one JSON a slice, and label TIFF; and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.automatic.coco import read_coco, write_coco
from src_core.automatic.records import MaskRecord, label_image
from src_core.errors import PromptError, VolumeError
from src_core.files import remove_others, write_atomically
from src_core.labels import LabelVolume
from src_core.labels.files import disk_errors
from src_core.labels.planes import plane_axes
from src_core.locks import sole_writer
from src_core.masks import PackedMask
from src_core.volumes import Volume
from src_core.volumes.units import OME_SYMBOLS

Scores = Callable[[int, int], float]
"""Returns the confidence of an object on a slice: scores(slice, id)."""


def records_of(labels: NDArray[Any], scores: Mapping[int, float] | None = None) -> dict[int, MaskRecord]:
    """Return the objects of a (H, W) label image by id, with scores of 1 where none are given."""
    ids, places = np.unique(labels, return_inverse=True)
    # Numbered without gaps: ids may be as large as uint32 holds.
    numbered = places.reshape(labels.shape) + 1
    found = {}
    for n, where in enumerate(ndi.find_objects(numbered), start=1):
        identity = int(ids[n - 1])
        if where is None or identity == 0:
            continue
        crop = numbered[where] == n
        mask = PackedMask.of(crop, (where[0].start, where[1].start), (labels.shape[0], labels.shape[1]))
        y, x = np.argwhere(crop).mean(0) + mask.box[:2]
        score = 1.0 if scores is None else scores.get(identity, 1.0)
        found[identity] = MaskRecord(mask, int(np.count_nonzero(crop)), score, 1.0, (float(y), float(x)))
    return found


def labels_to_coco(
    labels: LabelVolume, folder: str | Path, *, axis: str = "z", t: int = 0, scores: Scores | None = None
) -> list[Path]:
    """Write the objects of each slice to `<folder>/<axis><slice>.json`, in the format of SA-1B.

    Slices without objects have no file; files that earlier labels have left there are removed.

    Raises
    ------
    VolumeError
        The labels have no such axis.
    SessionError
        The disk refuses.
    """
    folder = Path(folder)
    _check_axis(labels, axis)
    with sole_writer(folder), disk_errors(f"write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        written = _write_slices(labels, folder, axis, t, scores)
        remove_others(folder, rf"{axis}\d+\.json", written)
    return written


def _write_slices(labels: LabelVolume, folder: Path, axis: str, t: int, scores: Scores | None) -> list[Path]:
    written = []
    for index in range(labels.shape[labels.axes.index(axis)]):
        plane = labels.read_plane(axis, index, t)
        ids = [int(k) for k in np.unique(plane) if k]
        if ids:
            own = None if scores is None else {k: scores(index, k) for k in ids}
            found = records_of(plane, own)
            path = folder / f"{axis}{index:05d}.json"
            write_coco(
                path,
                list(found.values()),
                (plane.shape[0], plane.shape[1]),
                file_name=f"{labels.name} {axis}={index}",
                image_id=index,
                ids=list(found),
            )
            written.append(path)
    return written


def coco_to_labels(folder: str | Path, labels: LabelVolume, *, axis: str = "z", t: int = 0) -> int:
    """Read what `labels_to_coco` has written into a label volume; returns how many slices had objects.

    Raises
    ------
    PromptError
        A file is damaged, is not named after a slice, or is of a plane of another shape; or there is none.
    VolumeError
        An id is too large for the labels' type.
    """
    paths = sorted(Path(folder).glob(f"{axis}*.json"))
    if not paths:
        raise PromptError(f"{folder} has no masks of slices along {axis}, such as {axis}00012.json")
    for path in paths:
        try:
            index = int(path.stem.removeprefix(axis))
        except ValueError:
            raise PromptError(f"{path} is not named after a slice, such as {axis}00012.json") from None
        found, shape = read_coco(path)
        there = labels.read_plane(axis, index, t).shape
        if there != shape:
            raise PromptError(f"{path} is of a plane of {shape}, the labels have {there}")
        drawing = label_image(list(found.values()), shape, list(found))
        labels.write_box(axis, index, (0, 0, *shape), drawing, t=t)
    return len(paths)


def labels_to_tiff(labels: LabelVolume, path: str | Path, *, t: int = 0) -> None:
    """Write a label volume as an OME-TIFF (z, y, x), with its scale: uint16, or uint32 where ids need it.

    Raises
    ------
    VolumeError
        The labels have no slices.
    """
    import tifffile

    _check_axis(labels, "z")
    count = labels.shape[labels.axes.index("z")]
    largest = max((int(labels.read_plane("z", k, t).max(initial=0)) for k in range(count)), default=0)
    dtype = tiff_dtype(largest)
    shape = labels.read_plane("z", 0, t).shape

    def planes() -> Iterator[NDArray[Any]]:
        for index in range(count):
            yield labels.read_plane("z", index, t).astype(dtype)

    # tifffile cannot take the planes of a volume one pixel wide one by one.
    pixels = planes() if shape[1] > 1 else np.stack(list(planes()))
    write_atomically(
        Path(path),
        lambda part: tifffile.imwrite(
            part,
            pixels,
            shape=(count, *shape),
            dtype=dtype,
            photometric="minisblack",
            compression="zlib",
            ome=True,
            metadata=_ome_metadata("zyx", labels.scale, labels.units),
        ),
    )


def plane_to_tiff(pixels: NDArray[Any], path: str | Path, volume: Volume, axis: str | None) -> None:
    """Write (H, W) pixels of a plane perpendicular to `axis` as an OME-TIFF (y, x), with the image's scale.

    Raises
    ------
    VolumeError
        The image has no such axis.
    """
    import tifffile

    metadata = _ome_metadata("".join(plane_axes(volume.axes, axis)), volume.scale, volume.units)
    tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib", ome=True, metadata=metadata)


def _ome_metadata(axes: str, scale: Mapping[str, float], units: Mapping[str, str | None]) -> dict[str, Any]:
    """Describe pixels with these axes of an image to tifffile; the last two are y and x of the file."""
    names = "ZYX"[-len(axes) :]
    metadata: dict[str, Any] = {"axes": names}
    for name, axis in zip(names, axes, strict=True):
        unit = OME_SYMBOLS.get(units.get(axis) or "")
        if unit is not None:
            metadata |= {f"PhysicalSize{name}": scale[axis], f"PhysicalSize{name}Unit": unit}
    return metadata


def tiff_dtype(largest: int) -> type[np.unsignedinteger[Any]]:
    """Return the type of label TIFFs with ids up to `largest`: many programs know 16 bits only."""
    return np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32


def _check_axis(labels: LabelVolume, axis: str) -> None:
    if axis not in labels.axes:
        raise VolumeError(f"{labels.path} has no axis {axis}: its axes are {', '.join(labels.axes)}")
