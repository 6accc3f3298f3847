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


@dataclass(frozen=True)
class Seen:
    """What two planes across the slices show of an object.

    Attributes
    ----------
    fit
        How well the object fits it, 0 to 1: the mean of both. On each it is the IoU that the network predicts for its
        own answer times that of the answer with the object.
    denied
        Slices on which a plane meets the object, and its answer has nothing there.
    """

    fit: float
    denied: frozenset[int] = frozenset()


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
        if y0 <= row < y1 and crop[row - y0].any():
            self._rows[index] = (x0, crop[row - y0].copy())
        if x0 <= column < x1 and crop[:, column - x0].any():
            self._columns[index] = (y0, crop[:, column - x0].copy())

    def seen(
        self,
        predictor: Predictor,
        volume: Volume,
        axis: str,
        *,
        start: int | None = None,
        stop: int | None = None,
        t: int = 0,
        c: int | None = None,
    ) -> Seen:
        """Ask the network about the object on these planes; of a single slice there is nothing to see: a fit of 1.

        Parameters
        ----------
        predictor, volume, t, c
            The network, the image, time point and channel.
        axis, start, stop
            The axis across the slices, and the half-open range of slices that are shown; all of them by default.

        Raises
        ------
        VolumeError
            The image cannot be read.
        """
        slices = volume.planes(axis, start, stop)
        if len(slices) == 1:
            return Seen(1.0)
        fits: list[float] = []
        denied: set[int] = set()
        for across, index, lines in zip(
            volume.plane_axes(axis), self.through, (self._rows, self._columns), strict=True
        ):
            if not lines:
                continue
            cut = np.zeros(volume.plane_shape(across), np.bool_)
            upright = volume.plane_axes(across)[0] == axis
            by_slice = cut if upright else cut.T
            for n, (first, line) in lines.items():
                by_slice[n, first : first + len(line)] = line
            # Beyond the range the picture would go on where the object may not.
            height, width = cut.shape
            frame = (
                (slices.start, 0, slices.stop, width) if upright else (0, slices.start, height, slices.stop)
            )
            plane = isotropic(volume, across, c).plane_at(PlaneRef(across, index, t), c)
            fit, answer = _asked(predictor, plane, cut, frame)
            fits.append(fit)
            seen = answer if upright else answer.T
            denied.update(np.flatnonzero(by_slice.any(1) & ~seen.any(1)).tolist())
        return Seen(float(np.mean(fits)) if fits else 0.0, frozenset(denied))


def _asked(predictor: Predictor, plane: Plane, cut: Mask, frame: Box) -> tuple[float, Mask]:
    """Show the network a cut on its plane, which has square pixels, and what lies around it within a frame.

    Returns how well its answer fits, and the answer, of the shape of the cut.
    """
    stretch = np.array(plane.shape) / cut.shape
    box = _surroundings(bounds(cut), stretch, frame)
    picture, _ = plane.rgb8_part(box, (box[2] - box[0], box[3] - box[1]))
    rows, columns = (
        np.minimum(((np.arange(low, high) + 0.5) / factor).astype(np.intp), n - 1)
        for low, high, factor, n in zip(box[:2], box[2:], stretch, cut.shape, strict=True)
    )
    embedding = predictor.embed(picture, lazily=True)
    own = cut[rows][:, columns]
    found = predictor.predict(embedding, Prompts(mask=own), multimask=False)
    answer = np.zeros_like(cut)
    places = np.argwhere(found.masks[0])
    answer[rows[places[:, 0]], columns[places[:, 1]]] = True
    return float(found.scores[0]) * found.presence * iou(found.masks[0], own), answer


def _surroundings(box: Box, stretch: NDArray[np.float64], frame: Box) -> Box:
    """Return what is shown of a plane around a box within a frame, both in pixels that are stretched there."""
    low, high = (np.array(corner) * stretch for corner in (box[:2], box[2:]))
    margin = np.maximum(AROUND_PX, AROUND * (high - low))
    first, end = (np.rint(np.array(corner) * stretch) for corner in (frame[:2], frame[2:]))
    y0, x0 = np.maximum(first, np.floor(low - margin)).astype(int).tolist()
    y1, x1 = np.minimum(end, np.ceil(high + margin)).astype(int).tolist()
    return y0, x0, y1, x1
