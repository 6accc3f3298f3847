"""How an object that was found slice by slice looks from the side, where nobody has looked yet.

What leaks from slice to slice is a column that no picture across the slices shows, and a piece of an object ends where
its picture goes on. The network, shown the object's own cut on such a plane, answers with another one, or is unsure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from src_core.masks import Box, Mask, PackedMask, bounds, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.types import PlaneRef
from src_core.volumes import Plane, Volume
from src_core.volumes.isotropic import isotropic

AROUND = 1.0
"""What is shown on each side of an object, as part of its own extent."""
AROUND_PX = 32
"""At least so much."""

Lines = dict[int, tuple[int, Mask]]
"""Slice -> first pixel, and which pixels from there on are the object's."""


@dataclass
class SideView:
    """Two planes across the slices through a point well inside an object, and where they cut it.

    Attributes
    ----------
    through
        Row and column of the slices through which the planes are laid.
    """

    through: tuple[int, int]
    _rows: Lines = field(default_factory=dict)
    _columns: Lines = field(default_factory=dict)

    def add(self, index: int, mask: PackedMask) -> None:
        """Take in the mask of one slice; of the whole object only two lines of each are kept."""
        (row, column), (y0, x0, y1, x1) = self.through, mask.box
        crop = mask.crop()
        if y0 <= row < y1:
            self._rows[index] = (x0, crop[row - y0].copy())
        if x0 <= column < x1:
            self._columns[index] = (y0, crop[:, column - x0].copy())

    def rated(
        self, predictor: Predictor, volume: Volume, axis: str, *, t: int = 0, c: int | None = None
    ) -> float:
        """Return how well the object fits what is seen on these planes, 0 to 1: the mean of both.

        It is the IoU that the network predicts for its own answer times that of the answer with the object.

        Parameters
        ----------
        predictor, volume, t, c
            The network, the image, time point and channel.
        axis
            The axis across the slices.
        """
        rated = []
        for across, index, lines in zip(
            volume.plane_axes(axis), self.through, (self._rows, self._columns), strict=True
        ):
            cut = np.zeros(volume.plane_shape(across), np.bool_)
            by_slice = cut if volume.plane_axes(across)[0] == axis else cut.T
            for n, (first, line) in lines.items():
                by_slice[n, first : first + len(line)] = line
            if cut.any():
                plane = isotropic(volume, across, c).plane_at(PlaneRef(across, index, t), c)
                rated.append(_rated(predictor, plane, cut))
        return float(np.mean(rated)) if rated else 0.0


def _rated(predictor: Predictor, plane: Plane, cut: Mask) -> float:
    """Show the network a cut on its plane, which has square pixels, and what lies around it."""
    stretch = np.array(plane.shape) / cut.shape
    box = _surroundings(bounds(cut), stretch, plane.shape)
    picture, _ = plane.rgb8_part(box, (box[2] - box[0], box[3] - box[1]))
    rows, columns = (
        np.minimum(((np.arange(low, high) + 0.5) / factor).astype(np.intp), n - 1)
        for low, high, factor, n in zip(box[:2], box[2:], stretch, cut.shape, strict=True)
    )
    embedding = predictor.embed(picture, lazily=True)
    own = cut[rows][:, columns]
    found = predictor.predict(embedding, Prompts(mask=own), multimask=False)
    return float(found.scores[0]) * found.presence * iou(found.masks[0], own)


def _surroundings(box: Box, stretch: NDArray[np.float64], shape: tuple[int, int]) -> Box:
    """Return what is shown of a plane of `shape` around a box in pixels that are stretched there."""
    low, high = (np.array(corner) * stretch for corner in (box[:2], box[2:]))
    margin = np.maximum(AROUND_PX, AROUND * (high - low))
    y0, x0 = np.maximum(0, np.floor(low - margin)).astype(int).tolist()
    y1, x1 = np.minimum(shape, np.ceil(high + margin)).astype(int).tolist()
    return y0, x0, y1, x1
