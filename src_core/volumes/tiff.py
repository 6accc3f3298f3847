"""TIFF, OME-TIFF, ImageJ TIFF and BigTIFF, read lazily through tifffile's zarr store."""

from __future__ import annotations

import logging
import weakref
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import tifffile
import zarr

from src_core.errors import VolumeError
from src_core.volumes.arrays import LazyArray, Source
from src_core.volumes.axes import RGB_SIZES, guess_leading
from src_core.volumes.units import OME_SYMBOLS

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KNOWN = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x"}
_UNNAMED = "QI"  # tifffile's letters for "no idea" and "a sequence of pages"
_UNITS = {symbol.lower(): name for name, symbol in OME_SYMBOLS.items()} | {
    "μm": "micrometer",
    "um": "micrometer",
    "micron": "micrometer",
    "microns": "micrometer",
    "\\u00b5m": "micrometer",
    "pm": "picometer",
    "s": "second",
    "sec": "second",
    "ms": "millisecond",
    "min": "minute",
    "h": "hour",
}


def is_tiff(path: Path) -> bool:
    """Whether the file starts like a TIFF or BigTIFF.

    Raises
    ------
    VolumeError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(4) in _SIGNATURES
    except OSError as error:
        raise VolumeError(f"cannot read {path}: {error.strerror or error}") from error


def read_tiff(path: Path) -> Source:
    """Open the first image series of a TIFF file; the file stays open as long as its array is in use.

    Raises
    ------
    VolumeError
        The file is truncated or damaged, or its axes cannot be told.
    """
    listener = _Listener()
    logger = logging.getLogger("tifffile")
    logger.addFilter(listener)
    try:
        file = tifffile.TiffFile(path)
        try:
            return _read_series(file, path, listener)
        except BaseException:
            file.close()
            raise
    except VolumeError:
        raise
    except Exception as error:  # damaged tags surface as struct.error, KeyError, TiffFileError ...
        raise VolumeError(
            f"cannot open {path}: {type(error).__name__}: {error}. The TIFF is damaged or truncated"
        ) from error
    finally:
        logger.removeFilter(listener)


DAMAGE = (
    "invalid page offset",
    "failed to reshape",
    "Missing data are zeroed",
    "ImageJ series metadata invalid",
)
"""What tifffile says of files that are cut off, or one of a set that is not there."""


class _Listener(logging.Filter):
    """Remembers what tifffile only logs: a file cut off in the middle still opens, with fewer pages."""

    def __init__(self) -> None:
        super().__init__()
        self.damage: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if any(words in message for words in DAMAGE):
            self.damage = self.damage or message
            return False
        return True


def _read_series(file: tifffile.TiffFile, path: Path, listener: _Listener) -> Source:
    if not file.series:
        raise VolumeError(f"{path} is a TIFF without an image; it may be only half written")
    series = file.series[0]
    if listener.damage is not None:
        raise VolumeError(f"{path} is truncated or damaged ({listener.damage}); copy or export it again")
    axes, rgb, problem = None, False, None
    try:
        axes, rgb = _axes(series.axes, series.shape, str(path))
    except VolumeError as error:
        problem = error
    stores = [series.aszarr(level=n) for n in range(len(series.levels))]
    arrays = [cast(LazyArray, zarr.open_array(store, mode="r")) for store in stores]
    # The file must outlive every array, and be closed after the last of them.
    open_stores = {id(store) for store in stores}

    def release(key: int) -> None:
        open_stores.discard(key)
        if not open_stores:
            file.close()

    for store in stores:
        weakref.finalize(store, release, id(store))
    sizes, units = _physical(file)
    letters = [_KNOWN.get(a, a) for a in series.axes.upper()] if axes is None else axes
    full = arrays[0].shape
    scales = [
        tuple(sizes.get(a, 1.0) * n0 / n for a, n0, n in zip(letters, full, array.shape, strict=True))
        for array in arrays
    ]
    return Source(
        arrays=arrays,
        axes=axes,
        axes_problem=problem,
        rgb=rgb,
        scales=scales,
        units=tuple(units.get(a) for a in letters),
        name=path.name,
        path=path,
        files=_files(series, path),
    )


def _files(series: tifffile.TiffPageSeries, path: Path) -> tuple[Path, ...]:
    """Return the files of a set that a series is spread over, the one that was opened first."""
    others = (page.parent.filehandle.path for page in series.pages if page) if series.is_multifile else ()
    return tuple(dict.fromkeys((path, *map(Path, others))))


def _axes(letters: str, shape: tuple[int, ...], where: str) -> tuple[tuple[str, ...], bool]:
    letters = letters.upper()
    names: list[str | None] = [_KNOWN.get(a) for a in letters]
    rgb = False
    if "S" in letters:
        if "C" in letters:
            raise VolumeError(f"{where} has channels and colour samples (axes {letters}); split them first")
        at = letters.index("S")
        names[at] = "c"
        rgb = shape[at] in RGB_SIZES
    unnamed = [d for d, a in enumerate(letters) if a in _UNNAMED]
    if all(a in "YXS" + _UNNAMED for a in letters):
        leading = guess_leading(tuple(shape[d] for d in unnamed), where)
        if rgb and "c" in leading:
            leading = ("t", "z")
        for d, name in zip(unnamed, leading, strict=True):
            names[d] = name
    else:
        free = [a for a in ("z", "t", "c") if a not in names]
        for d in reversed(unnamed):
            names[d] = free.pop(0) if free else None
    if None in names or len(set(names)) != len(names):
        raise VolumeError(
            f"{where} has axes {letters} of shape {shape}, which are not all t, c, z, y, x; "
            "pass axes=... (--image-axes) to name them"
        )
    return (tuple(a for a in names if a is not None), rgb)


def _physical(file: tifffile.TiffFile) -> tuple[dict[str, float], dict[str, str | None]]:
    if file.is_ome and file.ome_metadata:
        return _physical_ome(file.ome_metadata)
    if file.is_imagej and file.imagej_metadata:
        return _physical_imagej(file.imagej_metadata, file.pages.first.tags)
    return ({}, {})


def _physical_ome(xml: str) -> tuple[dict[str, float], dict[str, str | None]]:
    sizes: dict[str, float] = {}
    units: dict[str, str | None] = {}
    pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    found = {} if pixels is None else pixels.attrib
    for axis, key, default in (
        ("x", "PhysicalSizeX", "µm"),
        ("y", "PhysicalSizeY", "µm"),
        ("z", "PhysicalSizeZ", "µm"),
        ("t", "TimeIncrement", "s"),
    ):
        if _is_size(found.get(key)):
            sizes[axis] = float(found[key])
            units[axis] = _unit(found.get(f"{key}Unit", default))
    return (sizes, units)


def _physical_imagej(metadata: dict[str, Any], tags: Any) -> tuple[dict[str, float], dict[str, str | None]]:
    unit = _unit(metadata.get("unit"))
    sizes: dict[str, float] = {}
    units: dict[str, str | None] = {}
    if unit is not None:
        for axis, tag in (("x", "XResolution"), ("y", "YResolution")):
            pixels, length = tags[tag].value if tag in tags else (0, 0)
            if pixels and length:
                sizes[axis], units[axis] = length / pixels, unit
    if _is_size(metadata.get("spacing")):
        sizes["z"], units["z"] = float(metadata["spacing"]), unit
    if _is_size(metadata.get("finterval")):
        sizes["t"], units["t"] = float(metadata["finterval"]), "second"
    return (sizes, units)


def _unit(name: object) -> str | None:
    text = str(name).strip() if name is not None else ""
    if text.lower() in ("", "pixel", "pixels", "none"):
        return None
    return _UNITS.get(text.lower(), text)


def _is_size(value: object) -> bool:
    try:
        return 0 < float(cast(float, value)) < float("inf")
    except (TypeError, ValueError):
        return False
