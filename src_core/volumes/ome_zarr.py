"""Zarr arrays and OME-Zarr images (NGFF 0.4 and 0.5), from their metadata alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import zarr
from zarr.storage import LocalStore

from src_core.errors import VolumeError
from src_core.volumes.arrays import LazyArray, Source
from src_core.volumes.axes import SPATIAL, check_axes, is_rgb

Mode = Literal["r", "r+"]


def read_zarr(source: str | Path | zarr.Array[Any] | zarr.Group) -> Source:
    """Open a zarr array or an OME-Zarr image group.

    Parameters
    ----------
    source
        A folder, an address, or an open array or group.

    Raises
    ------
    VolumeError
        Metadata is missing, damaged or describes no image.
    """
    node = source if isinstance(source, zarr.Array | zarr.Group) else open_node(source)
    if isinstance(node, zarr.Array):
        return _bare_array(node)
    return read_image_group(node)


def open_node(location: str | Path, mode: Mode = "r") -> zarr.Array[Any] | zarr.Group:
    """Open the zarr array or group at `location`.

    Raises
    ------
    VolumeError
        There is no zarr, or its metadata cannot be read.
    """
    if isinstance(location, Path):
        _check_folder(location)
    try:
        return zarr.open(location, mode=mode)
    except ImportError as error:
        raise VolumeError(
            f"cannot open {location}: {error}. An address needs fsspec and its package for this protocol"
        ) from error
    except Exception as error:  # zarr answers damaged metadata with KeyError, TypeError, AttributeError ...
        raise VolumeError(
            f"cannot open {location}: {type(error).__name__}: {error}. Its zarr metadata is missing, "
            "damaged or half written; write the image again or restore it from its source"
        ) from error


def ome_attributes(group: zarr.Group) -> dict[str, Any]:
    """Return the OME metadata of a group: under "ome" since version 0.5, at the top level before."""
    attributes = group.attrs.asdict()
    ome = attributes.get("ome", attributes)
    return cast(dict[str, Any], ome) if isinstance(ome, dict) else {}


def local_path(node: zarr.Array[Any] | zarr.Group) -> Path | None:
    """Return the folder of an array or group on disk, None for other stores."""
    store = node.store_path.store
    return Path(store.root) / node.store_path.path if isinstance(store, LocalStore) else None


def read_image_group(group: zarr.Group) -> Source:
    """Read a multiscales group.

    Raises
    ------
    VolumeError
        The group holds no image, or its metadata does not fit its arrays.
    """
    where, path = _describe(group)
    attributes = ome_attributes(group)
    if not attributes.get("multiscales"):
        return _image_within(group, attributes, where)
    try:
        multiscale = attributes["multiscales"][0]
        datasets = [str(d["path"]) for d in multiscale["datasets"]]
        if not datasets:
            raise ValueError("the list of datasets is empty")
        arrays = [_dataset(group, d, where) for d in datasets]
        ndim = len(arrays[0].shape)
        names, units = _axes(multiscale, where)
        transforms = [_transform(multiscale, d, ndim) for d in multiscale["datasets"]]
        # The finest level comes first, wherever the metadata has it.
        order = sorted(range(len(arrays)), key=lambda i: math.prod(arrays[i].shape), reverse=True)
        arrays, transforms = [arrays[i] for i in order], [transforms[i] for i in order]
    except VolumeError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise VolumeError(
            f"the multiscales metadata of {where} is not valid OME-Zarr 0.4 or 0.5 "
            f"({type(error).__name__}: {error}); open one of its arrays directly and pass axes and scale"
        ) from error
    axes, problem = _checked(names, ndim, where)
    if any(len(a.shape) != ndim for a in arrays):
        shapes = [a.shape for a in arrays]
        raise VolumeError(f"the pyramid levels of {where} differ in number of dimensions: {shapes}")
    return Source(
        arrays=cast(list[LazyArray], arrays),
        axes=axes,
        axes_problem=problem,
        scales=[s for s, _ in transforms],
        translates=[t for _, t in transforms],
        units=units if units is not None and len(units) == ndim else None,
        name=path.name if path is not None else group.basename or where,
        path=path,
        attributes=attributes,
    )


def _check_folder(path: Path) -> None:
    if any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
        return
    if not path.exists():
        raise VolumeError(f"{path} does not exist; check the path")
    if (path / ".zattrs").exists() or (path / "c").is_dir() or path.suffix == ".zarr":
        raise VolumeError(
            f"{path} has no zarr.json, .zgroup or .zarray: it is half written or incomplete. Write it again, "
            "or copy it again from its source"
        )
    raise VolumeError(f"{path} is a folder without a zarr in it; expected a zarr folder or a TIFF file")


def _describe(node: zarr.Array[Any] | zarr.Group) -> tuple[str, Path | None]:
    path = local_path(node)
    return (str(path) if path is not None else str(node.store_path), path)


def _bare_array(array: zarr.Array[Any]) -> Source:
    where, path = _describe(array)
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.asdict().get("_ARRAY_DIMENSIONS")
    known = [str(n) for n in names if n] if isinstance(names, list | tuple) else []
    axes, problem = _checked(known or None, len(array.shape), where)
    return Source(
        arrays=[cast(LazyArray, array)],
        axes=axes,
        axes_problem=problem,
        rgb=axes is not None and axes[-1] == "c" and is_rgb(tuple(array.shape), array.dtype),
        name=path.name if path is not None else array.basename or "array",
        path=path,
    )


def _image_within(group: zarr.Group, attributes: Mapping[str, Any], where: str) -> Source:
    try:
        children = {name: isinstance(node, zarr.Array) for name, node in group.members()}
    except Exception:  # not every remote store lists its members
        children = {}
    if "bioformats2raw.layout" in attributes and "0" in children:
        series = sorted((n for n in children if n.isdigit()), key=int)
        if len(series) == 1:
            return read_image_group(cast(zarr.Group, group["0"]))
        raise VolumeError(f"{where} holds {len(series)} images; open one of them: {', '.join(series)}")
    labels = attributes.get("labels")
    if labels or set(children) == {"labels"}:
        inside = ", ".join(map(str, labels)) if isinstance(labels, list) else "labels"
        raise VolumeError(
            f"{where} holds only label images ({inside}) and no image; open one of them by its own path"
        )
    if "plate" in attributes or "well" in attributes:
        raise VolumeError(
            f"{where} is a plate or a well, not an image; open one of its fields, such as A/1/0"
        )
    arrays = [name for name, is_array in children.items() if is_array]
    hint = f"open one of its arrays: {', '.join(sorted(arrays))}" if arrays else "it may be half written"
    raise VolumeError(f"{where} is a zarr group without an image (no multiscales metadata); {hint}")


def _dataset(group: zarr.Group, name: str, where: str) -> zarr.Array[Any]:
    try:
        node = group[name]
    except KeyError as error:
        raise VolumeError(
            f"{where} names the pyramid level {name!r}, but there is no such array: it is missing or half "
            "written. Write the image again, or open a level that exists by its own path"
        ) from error
    except Exception as error:
        raise VolumeError(
            f"the array metadata of {where}/{name} cannot be read ({type(error).__name__}: {error}); it is "
            "damaged or half written"
        ) from error
    if not isinstance(node, zarr.Array):
        raise VolumeError(f"{where} names {name!r} as a pyramid level, but it is a group, not an array")
    return node


def _checked(
    names: Sequence[str] | None, ndim: int, where: str
) -> tuple[tuple[str, ...] | None, VolumeError | None]:
    try:
        return (None if names is None else check_axes(names, ndim, where), None)
    except VolumeError as problem:
        return (None, problem)


def _axes(
    multiscale: Mapping[str, Any], where: str
) -> tuple[Sequence[str] | None, tuple[str | None, ...] | None]:
    entries = multiscale.get("axes")
    if entries is None:
        if "coordinateSystems" in multiscale:
            raise VolumeError(f"{where} is OME-Zarr 0.6 or later; versions up to 0.5 are supported")
        return (None, None)
    names = [e["name"] if isinstance(e, Mapping) else str(e) for e in entries]
    kinds = [e.get("type") if isinstance(e, Mapping) else None for e in entries]
    units = tuple(e.get("unit") if isinstance(e, Mapping) else None for e in entries)
    # The type decides where the name is free text; three spatial axes come in the order z, y, x. Where some axis has
    # no type, nobody knows how many of them are spatial.
    space = [d for d, kind in enumerate(kinds) if kind == "space"]
    if all(kinds) and any(names[d].lower() not in SPATIAL for d in space):
        for d, axis in zip(space, SPATIAL[-len(space) :], strict=True):
            names[d] = axis
    for d, kind in enumerate(kinds):
        names[d] = {"time": "t", "channel": "c"}.get(str(kind), names[d])
    return (names, units)


def _transform(
    multiscale: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    scale, translate = [1.0] * ndim, [0.0] * ndim
    for owner in (dataset, multiscale):  # the dataset's own transformations come first
        for entry in owner.get("coordinateTransformations") or ():
            kind = entry["type"]
            if kind == "identity":
                continue
            if kind not in ("scale", "translation"):
                raise ValueError(f"unknown coordinate transformation {kind!r}")
            values = [float(v) for v in entry[kind]]
            if len(values) != ndim or not all(math.isfinite(v) for v in values):
                raise ValueError(f"{kind} {values} does not fit {ndim} axes")
            if kind == "scale":
                if min(values) <= 0:
                    raise ValueError(f"scale {values} is not positive")
                scale = [a * b for a, b in zip(scale, values, strict=True)]
                translate = [a * b for a, b in zip(translate, values, strict=True)]
            else:
                translate = [a + b for a, b in zip(translate, values, strict=True)]
    return (tuple(scale), tuple(translate))
