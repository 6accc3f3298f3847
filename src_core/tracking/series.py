"""Labels through time, plane by plane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.labels import LabelVolume
from src_core.types import PlaneRef


@dataclass(frozen=True)
class Series:
    """A label volume and the axis along which time runs.

    Attributes
    ----------
    time
        "t", or "z" for films whose time points are handled as slices.

    Raises
    ------
    VolumeError
        The labels have no such axis.
    """

    labels: LabelVolume
    time: str = "t"

    def __post_init__(self) -> None:
        if self.time not in self.labels.axes:
            raise VolumeError(
                f"{self.labels.path} has no time axis: its axes are {', '.join(self.labels.axes)}"
            )

    def __len__(self) -> int:
        return self.labels.shape[self.labels.axes.index(self.time)]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of one time point, (z, y, x) or (y, x)."""
        return tuple(a for a in self.labels.spatial_axes if a != self.time)

    def planes(self, t: int) -> Iterator[PlaneRef]:
        """Yield the planes of one time point."""
        if self.time == "z":
            yield PlaneRef("z", t)
        elif "z" not in self.axes:
            yield PlaneRef(None, 0, t)
        else:
            for z in range(self.labels.shape[self.labels.axes.index("z")]):
                yield PlaneRef("z", z, t)

    def read(self, plane: PlaneRef) -> NDArray[np.uint32]:
        """Return the (H, W) ids of a plane."""
        return self.labels.read_plane(plane.axis, plane.index, plane.t)

    def write(self, plane: PlaneRef, ids: NDArray[np.uint32]) -> None:
        """Replace the ids of a plane."""
        box = (0, 0, ids.shape[0], ids.shape[1])
        self.labels.write_box(plane.axis, plane.index, box, ids, t=plane.t)
