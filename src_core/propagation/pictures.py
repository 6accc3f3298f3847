"""What the planes of a stack show, decoded once for all the objects that are compared on them."""

from __future__ import annotations

import math

from src_core.continuity import Picture
from src_core.propagation.crossing import READ_WHOLE_PX
from src_core.propagation.motion import STILL, Shift, motion
from src_core.types import PlaneRef
from src_core.volumes import Plane, Volume


class Pictures:
    """The planes along an axis, of which three neighbours are kept.

    Parameters
    ----------
    volume, axis, t, c
        The image, the spatial axis, time point and channel.
    """

    def __init__(self, volume: Volume, axis: str, t: int, c: int | None) -> None:
        self.volume, self.axis, self.t, self.c = volume, axis, t, c
        self._kept: dict[int, Plane] = {}

    def at(self, index: int) -> Picture:
        """Return what a plane shows."""
        if index not in self._kept:
            near = {i: plane for i, plane in self._kept.items() if abs(i - index) <= 1}
            plane = self.volume.plane_at(PlaneRef(self.axis, index, self.t), self.c)
            if math.prod(plane.shape) <= READ_WHOLE_PX:
                _ = plane.pixels  # many objects look at it: decode its chunks once
            self._kept = near | {index: plane}
        plane = self._kept[index]
        return lambda box: plane.rgb8_part(box, (box[2] - box[0], box[3] - box[1]))[0]

    def motion(self, before: int, index: int) -> Shift:
        """Return how far the picture has moved from a plane to the next; very large ones are not compared."""
        shape = self.volume.plane_shape(self.axis)
        if math.prod(shape) > READ_WHOLE_PX:
            return STILL
        whole = (0, 0, *shape)
        return motion(self.at(before)(whole), self.at(index)(whole))
