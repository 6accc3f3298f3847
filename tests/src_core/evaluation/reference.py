"""The shared protocol to compare numbers with, and cheap deterministic methods that both can measure."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi

SHARED = Path(__file__).parents[4] / "shared"
DATA = SHARED / "data"


def clickbench() -> Any:
    """The shared reference implementation; skips the test where it is not there."""
    path = SHARED / "clickbench.py"
    if not path.exists() or not DATA.exists():
        pytest.skip("no shared protocol and data here")
    spec = importlib.util.spec_from_file_location("clickbench", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def predict(image: Any, points: Any, labels: Any, box: Any, previous: Any) -> tuple[Any, float]:
    """Threshold at the positive clicks, less the negative ones, plus the old core; an ellipse in a box."""
    grey = image.mean(-1) if image.ndim == 3 else image.astype(float)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    if box is not None:
        cy, cx, ry, rx = (
            (box[0] + box[2] - 1) / 2,
            (box[1] + box[3] - 1) / 2,
            (box[2] - box[0]) / 2,
            (box[3] - box[1]) / 2,
        )
        return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1, 0.8
    inside = points[labels == 1]
    level = grey[inside[:, 0], inside[:, 1]].mean()
    mask = np.abs(grey - level) < 0.25 * max(np.ptp(grey), 1)
    for py, px in points[labels == 0]:
        mask &= (y - py) ** 2 + (x - px) ** 2 > 16
    regions, _ = ndi.label(mask)
    mask = np.isin(regions, [r for r in regions[inside[:, 0], inside[:, 1]] if r])
    if previous is not None:
        mask |= ndi.binary_erosion(previous, iterations=3)
    return mask, 0.9 if previous is None else 0.7


def propagate(volume: Any, z0: int, mask: Any) -> Any:
    """Threshold within the previous mask's surroundings, slice by slice, until nothing is left."""
    grey = volume.mean(-1) if volume.ndim == 4 else volume.astype(float)
    out = np.zeros(grey.shape, bool)
    out[z0] = mask
    level = grey[z0][mask].mean() if mask.any() else 0
    for step in (-1, 1):
        before, z = mask, z0 + step
        while 0 <= z < len(grey) and before.any():
            before = ndi.binary_dilation(before) & (grey[z] > 0.8 * level)
            out[z] = before
            z += step
    return out
