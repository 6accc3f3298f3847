"""Measurements of labelled objects, plane by plane: memory stays flat however large the volume or an object is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours, marching_cubes, mesh_surface_area, regionprops

from src_core.errors import VolumeError
from src_core.labels import LabelVolume
from src_core.session.state import ObjectState
from src_core.types import PlaneRef
from src_core.volumes import Volume

UNITS = {"micrometer": "um", "nanometer": "nm", "millimeter": "mm", "angstrom": "angstrom"}
"""How columns of a table call the units of OME-Zarr."""


@dataclass
class Measurement:
    """One object at one time point.

    Attributes
    ----------
    id, t
        Which object, when.
    voxels, slices
        How many pixels it has, on how many planes along the first axis.
    centroid
        Mean position per spatial axis, in pixels.
    surface
        Area of its surface (length of its outline in 2-D), in units of the scale, by marching cubes: the border
        of the image is a surface, too.
    means
        Mean intensity of every channel.
    """

    id: int
    t: int
    voxels: int = 0
    slices: int = 0
    centroid: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    surface: float = 0.0
    means: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, voxels: int, centre: NDArray[np.float64], means: NDArray[np.float64]) -> None:
        """Add what a plane holds of it."""
        self.slices += 1
        before, self.voxels = self.voxels, self.voxels + voxels
        if not before:
            self.centroid, self.means = centre, means
            return
        self.centroid = (self.centroid * before + centre * voxels) / self.voxels
        self.means = (self.means * before + means * voxels) / self.voxels


@dataclass(frozen=True)
class MeasuringProgress:
    """How many planes have been read."""

    unit: ClassVar[str] = "slice"
    done: int
    total: int
    plane: PlaneRef | None = None


class Measuring:
    """Measures all objects of labels on an image.

    Parameters
    ----------
    volume, labels
        The image, and labels of its axes (without c) and size.

    Attributes
    ----------
    found
        What has been measured so far, by time point and id.

    Raises
    ------
    VolumeError
        As `check_fit`.
    """

    def __init__(self, volume: Volume, labels: LabelVolume) -> None:
        check_fit(volume, labels)
        self.volume, self.labels = volume, labels
        self.found: dict[tuple[int, int], Measurement] = {}
        self._flat = len(labels.spatial_axes) == 2
        self._axis = None if self._flat else "z"
        self._spacing = tuple(float(volume.scale[a]) for a in labels.spatial_axes)
        self._channels = [None] if volume.rgb or "c" not in volume.axes else list(range(volume.sizes["c"]))

    def steps(self) -> Iterator[MeasuringProgress]:
        """Read plane by plane, and say how far it is after each."""
        planes, times = self.volume.n_planes(self._axis), self.volume.sizes.get("t", 1)
        total = planes * times
        for t in range(times):
            below = np.zeros(self.volume.plane_shape(self._axis), np.uint32)
            for index in range(planes):
                plane = PlaneRef(self._axis, index, t)
                ids = self.labels.read_plane(plane.axis, index, t)
                if ids.any():
                    self._measure(plane, ids)
                self._add_surface(t, below, ids)
                below = ids
                yield MeasuringProgress(t * planes + index + 1, total, plane)
            if not self._flat:
                self._add_surface(t, below, np.zeros_like(below))

    def rows(self) -> list[Measurement]:
        """Return the measurements in order of time and id."""
        return [self.found[key] for key in sorted(self.found)]

    def _measure(self, plane: PlaneRef, ids: NDArray[np.uint32]) -> None:
        pictures = [self.volume.plane_at(plane, c).pixels for c in self._channels]
        image = np.dstack([p if p.ndim == 3 else p[..., None] for p in pictures])
        if image.dtype == np.float16:  # its sums overflow
            image = image.astype(np.float32)
        # regionprops makes a list as long as the largest id: ids are numbered anew.
        known, flat = np.unique(ids, return_inverse=True)
        numbers = flat.reshape(ids.shape) + int(known[0] != 0)
        known = known[known > 0]
        for region in regionprops(numbers, image):
            identity = int(known[region.label - 1])
            own = self.found.setdefault((plane.t, identity), Measurement(identity, plane.t))
            centre = np.array([*(() if self._flat else (plane.index,)), *region.centroid])
            own.add(int(region.area), centre, np.atleast_1d(region.intensity_mean).astype(np.float64))

    def _add_surface(self, t: int, below: NDArray[np.uint32], ids: NDArray[np.uint32]) -> None:
        """Add the surface between two planes; of a 2-D image, the outlines on its only plane."""
        pair = ids[None] if self._flat else np.stack([below, ids])
        if not pair.any():
            return
        present, flat = np.unique(pair, return_inverse=True)
        numbers = flat.reshape(pair.shape) + int(present[0] != 0)
        present = present[present > 0]
        for region in regionprops(numbers):
            mask = np.pad(region.image, [(0, 0), (1, 1), (1, 1)])
            if not self._flat and len(mask) == 1:  # on one of the two planes only
                other = np.zeros_like(mask)
                mask = np.concatenate([mask, other] if region.bbox[0] == 0 else [other, mask])
            self.found[t, int(present[region.label - 1])].surface += self._surface(mask)

    def _surface(self, mask: NDArray[np.bool_]) -> float:
        if self._flat:
            lines = find_contours(mask[0].astype(np.float32), 0.5)
            steps = [np.diff(line, axis=0) * self._spacing for line in lines]
            return float(sum(np.sqrt((s**2).sum(1)).sum() for s in steps))
        vertices, faces, *_ = marching_cubes(mask.astype(np.float32), 0.5, spacing=self._spacing)
        return float(mesh_surface_area(vertices, faces))


def check_fit(volume: Volume, labels: LabelVolume) -> None:
    """Refuse labels that are not those of an image. A single time point may have an axis t or not.

    Raises
    ------
    VolumeError
        The labels have other axes than the image, but for its channels, or other sizes.
    """
    there = dict(zip(labels.axes, labels.shape, strict=True))
    wanted = {a: n for a, n in volume.sizes.items() if a != "c"}
    if there | {"t": there.get("t", 1)} != wanted | {"t": wanted.get("t", 1)}:
        raise VolumeError(
            f"the labels {labels.path} are not those of the image {volume.name}: the labels have "
            f"{_sizes(there)}, the image has {_sizes(wanted)}. Choose the labels that were made on this image, or "
            "the image that they were made on"
        )


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{a}={sizes[a]}" for a in "tzyx" if a in sizes)


def table(
    rows: Sequence[Measurement],
    volume: Volume,
    objects: Mapping[int, ObjectState] | None = None,
) -> str:
    """Return measurements as CSV, one row an object and time point.

    Parameters
    ----------
    rows
        From `Measuring.rows`.
    volume
        Whose scale, units and channels the columns have.
    objects
        Names, states and confidences; without, those columns are empty.
    """
    axes = volume.spatial_axes
    spacing = np.array([volume.scale[a] for a in axes])
    offset = np.array([volume.translate.get(a, 0.0) for a in axes])
    unit = _unit(volume)
    size, border = ("volume", "surface") if len(axes) == 3 else ("area", "outline")
    names = ["id", "name", "state", *(["t"] if "t" in volume.axes else []), "pixels"]
    names += [f"{size}_{unit}{len(axes)}", f"{border}_{unit}{'2' if len(axes) == 3 else ''}"]
    names += [f"centroid_{a}_{unit}" for a in axes] + ["slices", "lowest_confidence"]
    channels = 0 if not rows else len(rows[0].means)
    names += [f"mean_channel_{k}" for k in range(channels)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        state = (objects or {}).get(row.id)
        values: list[Any] = [row.id, *_of(state)]
        values += [row.t] if "t" in volume.axes else []
        values += [row.voxels, row.voxels * float(spacing.prod()), row.surface]
        values += [*(row.centroid * spacing + offset), row.slices, _lowest(state, row.t), *row.means]
        writer.writerow([f"{v:.10g}" if isinstance(v, float) else v for v in values])
    return out.getvalue()


def _of(state: ObjectState | None) -> tuple[str, str]:
    return ("", "") if state is None else (state.name, "done" if state.done else "draft")


def _lowest(state: ObjectState | None, t: int) -> float | str:
    return min((v for p, v in state.scores.items() if p.t == t), default="") if state is not None else ""


def _unit(volume: Volume) -> str:
    """Return the unit of the spatial axes, for names of columns: px without a scale, "unit" where it is not known."""
    units = {volume.units.get(a) for a in volume.spatial_axes}
    unit = units.pop() if len(units) == 1 else None
    if unit:
        return UNITS.get(unit, unit)
    plain = all(volume.scale[a] == 1 and not volume.translate.get(a) for a in volume.spatial_axes)
    return "px" if plain else "unit"
