"""`open_volume`: any supported source, and the caller's word over what the file says."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, SupportsIndex, cast

import numpy as np
import zarr

from src_core.errors import VolumeError
from src_core.volumes.arrays import LazyArray, Source, check_array
from src_core.volumes.axes import check_axes, guess_axes, is_rgb
from src_core.volumes.ome_zarr import read_zarr
from src_core.volumes.plane import Limits
from src_core.volumes.tiff import is_tiff, read_tiff
from src_core.volumes.units import METRES
from src_core.volumes.volume import Volume

ARRAY_HAS = ("shape", "dtype", "__getitem__")
PerAxis = Mapping[str, Any] | Sequence[Any]


def open_volume(
    source: object,
    *,
    axes: str | Sequence[str] | None = None,
    scale: PerAxis | float | None = None,
    units: PerAxis | str | None = None,
    channel: int | None = None,
    level: int = 0,
    contrast_limits: Limits | Mapping[int, Limits] | None = None,
) -> Volume:
    """Open an image lazily: only metadata is read.

    Parameters
    ----------
    source
        Path of an OME-Zarr image (0.4 or 0.5), a zarr array (v2 or v3) or a TIFF (OME, ImageJ, BigTIFF,
        plain); an open zarr array or group; a numpy, dask or any other array with shape, dtype and
        indexing; a sequence of such arrays, the levels of a pyramid, finest first; or an http(s) or s3
        address of a zarr.
    axes
        One name per dimension among t, c, z, y, x, for instance "zyx". Default: what the source says, else
        yx, zyx, czyx (first axis at most 8 long) or tczyx; a trailing axis of 3 or 4 uint8 values is colour.
    scale
        Physical size of a pixel of level 0: a mapping from axis name, one number per axis, one per spatial
        axis, or a single number for all spatial axes. Default: what the source says, else 1.
    units
        Unit names in the same forms, a single name standing for all spatial axes. Where these are in different units of
        length, scale and position are converted to that of x.
    channel
        The channel to read by default; 0 if not given.
    level
        The pyramid level to read, 0 for full resolution.
    contrast_limits
        (low, high) for all channels, or a mapping from channel to (low, high). Default: estimated when first
        needed; (0, 255) for uint8 colour. Colour counts as one channel, 0.

    Raises
    ------
    VolumeError
        The source does not exist, is damaged, is no image, or does not fit the arguments.
    """
    found = _read(source)
    where = found.name
    array = found.arrays[0]
    names = found.axes
    if axes is not None:
        names = check_axes(axes, len(array.shape), where)
    elif found.axes_problem is not None:
        raise found.axes_problem
    elif names is None:
        names = guess_axes(tuple(array.shape), array.dtype, where)
    rgb = _is_colour(found, names, given=axes is not None)
    for lazy in found.arrays:
        check_array(lazy, where)
    if not isinstance(level, SupportsIndex) or not 0 <= int(level) < len(found.arrays):
        raise VolumeError(f"level={level!r} is out of range: {where} has levels 0 to {len(found.arrays) - 1}")
    level = int(level)
    spatial = tuple(a for a in names if a in "zyx")
    scales = [dict(zip(names, s, strict=True)) for s in found.scales or []]
    given = _per_axis(scale, names, spatial, "scale")
    sizes = {a: _positive(v, a) for a, v in given.items()}
    final = {}
    for d, a in enumerate(names):
        factor = array.shape[d] / found.arrays[level].shape[d]
        if scales:
            factor = scales[level][a] / scales[0][a]
        final[a] = sizes.get(a, scales[0][a] if scales else 1.0) * factor
    translates = found.translates[level] if found.translates else (0.0,) * len(names)
    n_channels = 1 if rgb or "c" not in names else array.shape[names.index("c")]
    default = 0 if channel is None else channel
    if not isinstance(default, SupportsIndex) or not 0 <= int(default) < n_channels:
        raise VolumeError(f"channel={channel!r} is out of range: {where} has channels 0 to {n_channels - 1}")
    known = dict(zip(names, found.units or (None,) * len(names), strict=True))
    volume = Volume(
        arrays=tuple(found.arrays),
        level=level,
        axes=names,
        scale=MappingProxyType(final),
        translate=MappingProxyType(dict(zip(names, translates, strict=True))),
        units=MappingProxyType(known | _per_axis(units, names, spatial, "units")),
        name=where,
        path=found.path,
        files=found.files,
        rgb=rgb,
        channel=int(default),
        user_limits=MappingProxyType(_limits(contrast_limits, n_channels)),
    )
    return _in_one_unit(volume)


def _in_one_unit(volume: Volume) -> Volume:
    """Return a volume whose spatial axes are in the unit of x, if all have units of length and not the same."""
    units = {a: volume.units.get(a) or "" for a in volume.spatial_axes}
    if len(set(units.values())) == 1 or not set(units.values()) <= METRES.keys():
        return volume
    wanted = units["x"]
    factors = {a: METRES[unit] / METRES[wanted] for a, unit in units.items()}
    return replace(
        volume,
        scale=MappingProxyType({a: v * factors.get(a, 1.0) for a, v in volume.scale.items()}),
        translate=MappingProxyType({a: v * factors.get(a, 1.0) for a, v in volume.translate.items()}),
        units=MappingProxyType(dict(volume.units) | dict.fromkeys(factors, wanted)),
    )


def _read(source: object) -> Source:
    if isinstance(source, zarr.Array | zarr.Group):
        return read_zarr(source)
    if isinstance(source, str) and "://" in source and not source.startswith("file://"):
        return read_zarr(source)
    if isinstance(source, str | os.PathLike):
        text = os.fspath(source)
        path = Path(text.removeprefix("file://") if isinstance(text, str) else os.fsdecode(text)).expanduser()
        if not path.exists():
            raise VolumeError(f"{path} does not exist; check the path (the working folder is {Path.cwd()})")
        if path.is_dir():
            return read_zarr(path)
        if path.name in ("zarr.json", ".zarray", ".zgroup", ".zattrs"):
            raise VolumeError(f"{path} is metadata inside a zarr: open the folder {path.parent} instead")
        if is_tiff(path):
            return read_tiff(path)
        raise VolumeError(
            f"{path} is not a supported image file; expected TIFF, OME-TIFF or a zarr folder. Convert it, or "
            "load it as an array and pass that"
        )
    if isinstance(source, Sequence) and source and all(_is_array(level) for level in source):
        return _pyramid([cast(LazyArray, level) for level in source])
    missing = [a for a in ARRAY_HAS if not hasattr(source, a)]
    if missing:
        raise VolumeError(
            f"cannot open an object of type {type(source).__name__}: it lacks {', '.join(missing)}; expected "
            "a path or an array (numpy, dask, zarr)"
        )
    return Source(arrays=[cast(LazyArray, source)], name="array")


def _is_array(thing: object) -> bool:
    return all(hasattr(thing, a) for a in ARRAY_HAS)


def _pyramid(levels: list[LazyArray]) -> Source:
    shapes = [tuple(level.shape) for level in levels]
    if len({len(shape) for shape in shapes}) > 1:
        raise VolumeError(f"the pyramid levels differ in number of dimensions: {shapes}")
    if any(b > a for fine, coarse in itertools.pairwise(shapes) for a, b in zip(fine, coarse, strict=True)):
        raise VolumeError(f"the pyramid levels must come finest first, got the shapes {shapes}")
    return Source(arrays=levels, name="array")


def _is_colour(found: Source, names: tuple[str, ...], *, given: bool) -> bool:
    if found.rgb and found.axes is not None:
        return names[found.axes.index("c")] == "c"
    # Whoever names the last axis c, by argument or by guess, means samples if it looks like them.
    array = found.arrays[0]
    return (given or found.axes is None) and names[-1] == "c" and is_rgb(tuple(array.shape), array.dtype)


def _per_axis(value: Any, names: tuple[str, ...], spatial: tuple[str, ...], what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        if unknown := [a for a in value if a not in names]:
            raise VolumeError(f"{what} names unknown axes {unknown}; the image has {', '.join(names)}")
        return dict(value)
    if isinstance(value, str | int | float | np.number):
        return dict.fromkeys(spatial, value)
    try:
        values = list(value)
    except TypeError as error:
        raise VolumeError(f"{what} must be a mapping or one value per axis, got {value!r}") from error
    for target in (names, spatial):
        if len(values) == len(target):
            return dict(zip(target, values, strict=True))
    raise VolumeError(
        f"{what} has {len(values)} values; expected {len(names)} ({', '.join(names)}) or "
        f"{len(spatial)} ({', '.join(spatial)})"
    )


def _positive(value: Any, axis: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise VolumeError(f"scale of {axis} must be a number, got {value!r}") from error
    if not (math.isfinite(number) and number > 0):
        raise VolumeError(f"scale of {axis} must be finite and above 0, got {value!r}")
    return number


def _limits(value: Any, n_channels: int) -> dict[int | None, Limits]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        return {None: _limit_pair(value)}
    if unknown := [c for c in value if c not in range(n_channels)]:
        raise VolumeError(f"contrast_limits names channels {unknown}; expected 0 to {n_channels - 1}")
    return {int(c): _limit_pair(pair) for c, pair in value.items()}


def _limit_pair(value: Any) -> Limits:
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise VolumeError(f"contrast_limits must be two numbers (low, high), got {value!r}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise VolumeError(f"contrast_limits must be finite with low < high, got {value!r}")
    return (low, high)
