"""Stacks to try things on, offline: a real excerpt that ships with the package, and a drawn one.

>>> from src_core import samples
>>> samples.sample_names()
('plant_nuclei', 'drawn_nuclei')
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.synthetic import make_stack
from src_core.synthetic.stacks import Stack
from src_core.volumes import Volume, open_volume

_FOLDER = Path(__file__).parent
_REAL = "plant_nuclei"
_DRAWN = "drawn_nuclei"
_DRAWN_SHAPE = (32, 192, 192)
_DRAWN_SEED = 28
_MIN_SLICES = 6


def sample_names() -> tuple[str, ...]:
    """Names that `open_sample` knows; the real one first."""
    return (_REAL, _DRAWN)


def open_sample(name: str) -> Volume:
    """Open a sample stack (z, y, x) of uint8.

    Raises
    ------
    VolumeError
        No sample has this name.
    """
    if name == _REAL:
        return replace(open_volume(_FOLDER / f"{_REAL}.ome.tif"), name=_REAL)
    stack = _drawn(name)
    scale = {"z": stack.z_step_px, "y": 1.0, "x": 1.0}
    return replace(open_volume(stack.image, axes="zyx", scale=scale), name=name)


def ground_truth(name: str) -> NDArray[np.uint16]:
    """Return the instances of a sample, (z, y, x), 0 is background.

    Raises
    ------
    VolumeError
        No sample has this name.
    """
    if name == _REAL:
        import tifffile

        labels: NDArray[Any] = tifffile.imread(_FOLDER / f"{_REAL}_labels.ome.tif")
        return labels.astype(np.uint16)
    return _drawn(name).labels


def sample_clicks(name: str, n_clicks: int = 4) -> list[tuple[int, int, int]]:
    """Return (z, y, x) in the middle of the largest objects that the middle slice shows whole.

    Raises
    ------
    VolumeError
        No sample has this name.
    """
    from scipy import ndimage as ndi

    from src_core.masks import innermost

    labels = ground_truth(name)
    z = len(labels) // 2
    areas = np.bincount(labels[z].ravel())
    clicks = []
    extents = ndi.find_objects(labels)
    cut = {*labels[z, [0, -1]].ravel(), *labels[z][:, [0, -1]].ravel()}
    for k in np.argsort(-areas[1:], kind="stable") + 1:
        extent = extents[k - 1]
        if (
            areas[k]
            and k not in cut
            and extent is not None
            and extent[0].stop - extent[0].start >= _MIN_SLICES
        ):
            clicks.append((z, *innermost(labels[z] == k)))
    return clicks[:n_clicks]


@functools.cache
def _drawn(name: str) -> Stack:
    if name != _DRAWN:
        raise VolumeError(f"no sample is called {name!r}; known are {', '.join(sample_names())}")
    return make_stack(_DRAWN_SEED, _DRAWN_SHAPE, family="nuclei", radius_px=15.0)
