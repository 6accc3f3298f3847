"""Label groups on disk: written aside and swapped in, so that a failure leaves what was there before."""

from __future__ import annotations

import glob
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from src_core.errors import SamError, SessionError, VolumeError
from src_core.labels.pyramid import HALVED, METHOD, level_shapes
from src_core.locks import in_turn, sole_writer
from src_core.volumes import Volume
from src_core.volumes.ome_zarr import ome_attributes, open_node

MAX_TILE_PX = 1024
Prepare = Callable[[Path], None]
"""Puts more into the folder of a new label image before anybody can see it there."""
_AXIS_TYPES = {"t": "time", "z": "space", "y": "space", "x": "space"}


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn a full disk, a missing permission and the like into `SessionError`."""
    try:
        yield
    except SamError:
        raise
    except OSError as error:
        raise SessionError(
            f"cannot {doing}: {error.strerror or error}. Check the free space and the "
            "permissions of the folder"
        ) from error


def check_new(path: Path, *, overwrite: bool) -> None:
    """Raise `SessionError` if something is at `path` already and may not be replaced."""
    if not overwrite and (path.exists() or path.is_symlink()):
        raise SessionError(f"{path} already exists: overwrite it (--overwrite), or choose another path")


def is_label_group(path: Path) -> bool:
    """Whether `path` is an OME label image (0.4 or 0.5): the only thing that may be overwritten."""
    try:
        node = open_node(path)
    except VolumeError:
        return False
    return isinstance(node, zarr.Group) and "image-label" in ome_attributes(node)


def label_folders(volume: Volume) -> list[Path]:
    """Return the folders inside an OME-Zarr image that should hold its label images, by name."""
    folder = None if volume.path is None else volume.path / "labels"
    if folder is None or not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def create_label_group(
    path: Path,
    volume: Volume,
    *,
    name: str,
    overwrite: bool,
    dtype: np.dtype[Any],
    image: str | None,
    prepare: Prepare | None = None,
    levels: int | None = 1,
) -> None:
    """Write an empty OME-Zarr 0.5 label image for `volume` at `path`, of `levels` levels, None for a pyramid.

    It is written under another name in the same folder and renamed, so `path` never holds half a group. What a
    killed process has left under such a name is removed first.

    Raises
    ------
    SessionError
        Something is at `path` and may not be replaced, or the disk refuses.
    """

    def write(fresh: Path) -> None:
        _write_group(fresh, volume, name, dtype, image, levels)
        if prepare is not None:
            prepare(fresh)

    with disk_errors(f"create the label volume {path}"):
        _clear_away(path)
        check_new(path, overwrite=overwrite)
        if path.is_symlink() or (path.exists() and not is_label_group(path)):
            raise SessionError(f"{path} is not an OME label image and is never replaced; choose another path")
        missing = [p for p in path.parents if not p.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _swap_in(path, write)
        except BaseException:
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()
            raise


def create_in_image(
    volume: Volume,
    name: str,
    *,
    overwrite: bool,
    dtype: np.dtype[Any],
    prepare: Prepare | None = None,
    levels: int | None = 1,
) -> Path:
    """Write an empty label image into the volume's own OME-Zarr 0.5 image; return its folder.

    Raises
    ------
    SessionError
        There are labels of this name and they may not be replaced, or the disk refuses.
    VolumeError
        The volume is not an OME-Zarr 0.5 image on disk.
    """
    if volume.path is None:
        raise VolumeError(f"{volume.name} is not a file; create the label volume at a path of its own")
    check_image_for_labels(volume.path)
    path = volume.path / "labels" / name
    new = not path.exists()
    create_label_group(
        path,
        volume,
        name=name,
        overwrite=overwrite,
        dtype=dtype,
        image="../../",
        prepare=prepare,
        levels=levels,
    )
    try:
        register_label(volume.path, name)
    except BaseException:
        if new:
            shutil.rmtree(path, ignore_errors=True)
        raise
    return path


def register_label(image: Path, name: str) -> None:
    """Add `name` to the list in `<image>/labels/zarr.json`, which makes that group if need be.

    Runs that write different labels into one image take turns at it.

    Raises
    ------
    SessionError
        The disk refuses.
    VolumeError
        The labels group that is there cannot be read.
    """
    folder = image / "labels"
    with disk_errors(f"list the labels of {image}"), in_turn(folder / "zarr.json"):
        if folder.joinpath("zarr.json").exists():
            group = open_node(folder, "r+")
            if not isinstance(group, zarr.Group):
                raise VolumeError(f"{folder} is an array; expected a group of label images")
        else:
            group = zarr.create_group(folder, zarr_format=3)
        ome = dict(ome_attributes(group)) if "ome" in group.attrs else {"version": "0.5"}
        listed = list(ome.get("labels") or [])
        if name not in listed:
            group.attrs["ome"] = ome | {"labels": [*listed, name]}


def check_image_for_labels(image: Path) -> None:
    """Raise `VolumeError` unless `image` is an OME-Zarr 0.5 image, into which labels may be written."""
    group = open_node(image)
    ome = ome_attributes(group) if isinstance(group, zarr.Group) else {}
    if not isinstance(group, zarr.Group) or "multiscales" not in ome:
        raise VolumeError(f"{image} is not an OME-Zarr image; create the label volume beside it instead")
    version = str(ome.get("version") or ome["multiscales"][0].get("version", "of unknown version"))
    if group.metadata.zarr_format != 3 or version != "0.5":
        raise VolumeError(
            f"{image} is OME-Zarr {version}; labels can be written into 0.5 images only. "
            "Create the label volume beside it instead"
        )


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a hidden place beside `path`, which is removed at the end; after a kill, by the next who writes `path`."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
    with sole_writer(fresh):  # says to others that somebody is at it
        try:
            yield fresh
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def _clear_away(path: Path) -> None:
    """Remove what processes that died have left beside `path`; what was there before them gets its name back."""
    hidden = f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}"
    left = {p.with_suffix(".new") for kind in ("new", "old") for p in path.parent.glob(f"{hidden}.{kind}")}
    left |= {p.with_name(p.stem[1:]) for p in path.parent.glob(f".{hidden}.new.lock")}
    for fresh in left:
        with suppress(SessionError), sole_writer(fresh) as dead:
            if not dead:
                continue
            old = fresh.with_suffix(".old")
            if old.exists() and not path.exists():  # killed between two renames
                os.rename(old, path)
            for folder in (fresh, old):
                shutil.rmtree(folder, ignore_errors=True)


def _swap_in(path: Path, write: Callable[[Path], None]) -> None:
    with aside(path) as fresh:
        old = fresh.with_suffix(".old")
        write(fresh)
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(fresh, path)
        except OSError:
            if old.exists():
                os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def label_axes(volume: Volume) -> tuple[str, ...]:
    """Return the volume's axes without c, in the order t, z, y, x that OME-Zarr asks for."""
    return tuple(a for a in _AXIS_TYPES if a in volume.axes)


def _write_group(
    path: Path, volume: Volume, name: str, dtype: np.dtype[Any], image: str | None, levels: int | None
) -> None:
    axes = label_axes(volume)
    shapes = level_shapes(tuple(volume.sizes[a] for a in axes), axes)[:levels]
    group = zarr.create_group(
        path, zarr_format=3, attributes={"ome": _ome_metadata(volume, axes, name, image, len(shapes))}
    )
    for level, shape in enumerate(shapes):
        group.create_array(
            str(level),
            shape=shape,
            chunks=tuple(_tile(n) if a in "yx" else 1 for a, n in zip(axes, shape, strict=True)),
            dtype=dtype,
            fill_value=0,
            compressors=ZstdCodec(level=3),
            dimension_names=axes,
            # A chunk without labels is not stored: a huge volume costs only what was drawn.
            config={"write_empty_chunks": False},
        )


def _ome_metadata(
    volume: Volume, axes: tuple[str, ...], name: str, image: str | None, levels: int
) -> dict[str, Any]:
    described = []
    for a in axes:
        entry = {"name": a, "type": _AXIS_TYPES[a]}
        if (unit := volume.units.get(a)) is not None:
            entry["unit"] = unit
        described.append(entry)
    datasets = []
    for level in range(levels):
        scale = [float(volume.scale[a]) * (2**level if a in HALVED else 1) for a in axes]
        transforms: list[Mapping[str, Any]] = [{"type": "scale", "scale": scale}]
        # The first pixel of every level is that of the finest, so all of them begin at the same place.
        if any(volume.translate[a] for a in axes):
            transforms.append(
                {"type": "translation", "translation": [float(volume.translate[a]) for a in axes]}
            )
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    multiscale: dict[str, Any] = {"name": name, "axes": described, "datasets": datasets}
    if levels > 1:
        multiscale["type"] = METHOD
    return {
        "version": "0.5",
        "multiscales": [multiscale],
        "image-label": {"source": {"image": image}} if image is not None else {},
    }


def _tile(size: int) -> int:
    """Split `size` into the fewest equal tiles of at most 1024 pixels."""
    return math.ceil(size / math.ceil(size / MAX_TILE_PX))
