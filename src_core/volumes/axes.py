"""Names of axes: checked when given, guessed when not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from src_core.errors import VolumeError

AXES = ("t", "c", "z", "y", "x")
SPATIAL = ("z", "y", "x")
RGB_SIZES = (3, 4)
MAX_GUESSED_CHANNELS = 8
_ALIASES = {
    "time": "t",
    "frame": "t",
    "channel": "c",
    "plane": "z",
    "depth": "z",
    "row": "y",
    "height": "y",
    "column": "x",
    "col": "x",
    "width": "x",
}


def check_axes(axes: str | Sequence[str], ndim: int, where: str) -> tuple[str, ...]:
    """Return `axes` as a tuple of lower-case names, one of t, c, z, y, x per dimension.

    Raises
    ------
    VolumeError
        Wrong number of names, unknown or repeated names, or no y or x among them.
    """
    try:
        names = tuple(_ALIASES.get(str(a).lower(), str(a).lower()) for a in axes)
    except TypeError as error:
        raise VolumeError(f"axes must be names such as 'zyx', got {axes!r}") from error
    shown = "".join(names) if all(len(a) == 1 for a in names) else repr(list(names))
    if unknown := [a for a in names if a not in AXES]:
        raise VolumeError(
            f"axes {shown!r} of {where} name unknown {unknown}; expected names among t, c, z, y, x: "
            "pass axes=..., for instance axes='zyx' (--image-axes zyx)"
        )
    if len(set(names)) != len(names):
        raise VolumeError(f"axes {shown!r} of {where} name an axis twice; every dimension needs its own name")
    if len(names) != ndim:
        raise VolumeError(f"axes {shown!r} name {len(names)} dimensions, but {where} has {ndim}")
    if "y" not in names or "x" not in names:
        raise VolumeError(f"axes {shown!r} of {where} lack y or x; every image needs both")
    return names


def guess_axes(shape: tuple[int, ...], dtype: Any, where: str) -> tuple[str, ...]:
    """Guess the names of unnamed axes.

    A trailing axis of 3 or 4 uint8 values is colour (named c). What remains is yx, zyx, czyx or tczyx; czyx
    only if the first axis is short enough for channels, otherwise it might as well be time.

    Raises
    ------
    VolumeError
        The number of dimensions allows no guess.
    """
    if is_rgb(shape, dtype) and len(shape) in (3, 4):
        return (*guess_leading(shape[:-3], where), "y", "x", "c")
    return (*guess_leading(shape[:-2], where), "y", "x")


def guess_leading(sizes: tuple[int, ...], where: str) -> tuple[str, ...]:
    """Guess the names of the axes in front of (y, x) from their `sizes`."""
    if len(sizes) == 2:
        first, second = sizes
        if first > 1 and (first > MAX_GUESSED_CHANNELS or first >= second):
            raise VolumeError(
                f"{where} has two unnamed axes of length {first} and {second} before y and x: the first "
                "could be time or channels. Pass axes='tzyx', axes='czyx' or axes='tcyx' (--image-axes tzyx)"
            )
        return ("c", "z")
    names = {0: (), 1: ("z",), 3: ("t", "c", "z")}.get(len(sizes))
    if names is None:
        raise VolumeError(
            f"{where} has {len(sizes) + 2} dimensions; expected 2 to 5, the axes t, c, z, y, x or some of them. "
            "Save the part of it that is one such image, and open that"
        )
    return names


def is_rgb(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether the trailing axis of an array of this shape and dtype looks like colour samples."""
    return len(shape) >= 3 and shape[-1] in RGB_SIZES and dtype.kind == "u" and dtype.itemsize == 1
