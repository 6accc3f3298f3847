"""Between napari's layers and the library: volumes, planes, positions.

Only public attributes of layers are used. All geometry goes through world coordinates, so layers may differ in
scale, translation, number of dimensions and in-plane rotation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src_core.errors import VolumeError
from src_core.tiles import View
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer

KNOWN_AXES = ("t", "c", "z", "y", "x")


def array_of(layer: Layer) -> Any:
    """Return a layer's full-resolution array without reading it."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def axes_of(layer: Image) -> tuple[str, ...]:
    """Return the names of an image layer's axes: its own labels where they make sense, else (t, c,) z, y, x.

    Time without z counts as z, so that masks can be propagated along it.
    """
    labels = tuple(str(a).lower() for a in layer.axis_labels)
    if len(set(labels)) == len(labels) and set(labels) <= set(KNOWN_AXES) and {"y", "x"} <= set(labels):
        names = labels
    else:
        if layer.ndim > 5:
            raise VolumeError(f"the image has {layer.ndim} dimensions; at most t, c, z, y, x are understood")
        names = {2: ("y", "x"), 3: ("z", "y", "x"), 4: ("t", "z", "y", "x"), 5: KNOWN_AXES}[layer.ndim]
    if "t" in names and "z" not in names:
        names = tuple("z" if a == "t" else a for a in names)
    return names


def volume_of(layer: Image) -> Volume:
    """Wrap an image layer as a lazy volume with its contrast limits, scale and units.

    Raises
    ------
    VolumeError
        The layer has no plane to look at, or more than five dimensions.
    """
    axes = axes_of(layer)
    # Sheared or rotated layers are fine as long as a slice of the world is a slice of the array.
    units = {a: str(u) for a, u in zip(axes, layer.units, strict=True)}
    scale = {a: float(abs(s)) or 1.0 for a, s in zip(axes, layer.scale, strict=True)}
    limits = None if layer.rgb else (float(layer.contrast_limits[0]), float(layer.contrast_limits[1]))
    names = (*axes, "c") if layer.rgb else axes
    source = list(layer.data) if layer.multiscale else layer.data
    return open_volume(source, axes=names, scale=scale, units=units, contrast_limits=limits)


@dataclass(frozen=True)
class OnScreen:
    """The plane of an image layer that the viewer shows.

    Attributes
    ----------
    plane
        Axis, index and time point.
    channel
        Position along c.
    position
        The same as array indices of the layer, None along rows and columns.
    axes
        Names of the layer's dimensions.
    """

    plane: PlaneRef
    channel: int
    position: tuple[int | None, ...]
    axes: tuple[str, ...]

    @classmethod
    def at(cls, position: tuple[int | None, ...], axes: tuple[str, ...]) -> OnScreen:
        """Return the plane at array indices, None along rows and columns."""
        where = {a: p for a, p in zip(axes, position, strict=True) if p is not None}
        sliced = next((a for a in ("z", "y", "x") if a in where), None)
        plane = PlaneRef(sliced, where.get(sliced, 0) if sliced else 0, where.get("t", 0))
        return cls(plane, where.get("c", 0), position, axes)

    @property
    def kept(self) -> tuple[int, int]:
        """The array's dimensions along rows and columns."""
        rows, columns = (d for d, p in enumerate(self.position) if p is None)
        return rows, columns

    def moved(self, indices: dict[int, int]) -> PlaneRef:
        """Return the plane at other array indices of the sliced dimensions."""
        named = {self.axes[d]: i for d, i in indices.items()}
        axis = self.plane.axis
        return PlaneRef(axis, named[axis] if axis else 0, named.get("t", self.plane.t))


def plane_on_screen(viewer: ViewerModel, layer: Image) -> OnScreen:
    """Return what plane of `layer` the viewer shows; in 3-D display, the one it would show in 2-D.

    Raises
    ------
    VolumeError
        The viewer's slice is no plane of the volume: another axis than space is displayed, the layer is rotated
        out of the plane, or the slider is beyond the image.
    """
    axes, ndim, offset = axes_of(layer), layer.ndim, viewer.dims.ndim - layer.ndim
    displayed = sorted(d - offset for d in viewer.dims.order[-2:])
    if displayed[0] < 0 or {axes[d] for d in displayed} - {"z", "y", "x"}:
        raise VolumeError("the viewer shows a time or channel axis as rows or columns; roll the axes back")
    data = np.asarray(layer.world_to_data(viewer.dims.point))[-ndim:]
    _check_straight(layer, viewer, displayed)
    shape = array_of(layer).shape[:ndim]
    position: list[int | None] = []
    for d in range(ndim):
        if d in displayed:
            position.append(None)
            continue
        index = int(np.rint(data[d]))
        if not 0 <= index < shape[d]:
            raise VolumeError(f"the slider of axis {axes[d]} is outside the image; move it back")
        position.append(index)
    return OnScreen.at(tuple(position), axes)


def view_on_screen(viewer: ViewerModel, layer: Image, on_screen: OnScreen) -> View:
    """Return what of the plane the canvas shows; its focus is the mouse, or the middle where the mouse is away."""
    rows_columns = list(on_screen.kept)
    shape = np.take(array_of(layer).shape, rows_columns)
    corners = np.asarray(layer.corner_pixels, np.float64)[:, rows_columns]
    if layer.multiscale:
        corners = corners * np.asarray(layer.downsample_factors)[layer.data_level, rows_columns]
    low, high = np.clip(corners[0], 0, shape - 1), np.clip(corners[1] + 1, 1, shape)
    unseen = high - low < 2  # nothing has been drawn yet, or the plane has just been turned
    low, high = np.where(unseen, 0, low), np.where(unseen, shape, high)
    focus = (low + high) / 2
    if viewer.mouse_over_canvas:
        mouse = np.asarray(layer.world_to_data(viewer.cursor.position))[-layer.ndim :][rows_columns]
        focus = mouse if ((low <= mouse) & (mouse < high)).all() else focus
    y0, x0, y1, x1, y, x = (float(v) for v in (*low, *high, *focus))
    return View((y0, x0, y1, x1), (y, x))


def _check_straight(layer: Layer, viewer: ViewerModel, displayed: list[int]) -> None:
    """Refuse layers for which moving within the shown plane changes the slice of the array."""
    origin = np.asarray(layer.data_to_world([0.0] * layer.ndim))
    for d in displayed:
        step = np.zeros(layer.ndim)
        step[d] = 1000.0
        moved = np.asarray(layer.data_to_world(step)) - origin
        others = [k for k in range(layer.ndim) if k not in displayed]
        if np.abs(moved[others]).max(initial=0.0) > 0.5 * np.abs(np.asarray(layer.scale)[others]).min(
            initial=np.inf
        ):
            raise VolumeError(
                "the image is rotated or sheared out of the shown plane; transform it back first"
            )


def mapping(source: Layer, target: Layer) -> Callable[[NDArray[np.floating]], NDArray[np.float64]]:
    """Return a function from (N, d) data positions of one layer to those of another, for any thread.

    Where the layers differ in their number of dimensions, napari aligns the last ones; what is missing is 0.
    """

    def one(position: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(target.world_to_data(source.data_to_world(position)), np.float64)[-target.ndim :]

    # All transforms of a layer are affine; a long step keeps the digits that tiny scales far from 0 leave.
    step = 1024.0
    origin = one(np.zeros(source.ndim))
    matrix = np.array([one(step * unit) - origin for unit in np.eye(source.ndim)]) / step
    return lambda data: np.asarray(data, np.float64).reshape(-1, source.ndim) @ matrix + origin


def indices(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pixels that positions lie in; what rounding has left behind the comma does not count."""
    return np.rint(np.round(positions, 6))


def to_plane(
    image: Image, on_screen: OnScreen, layer: Layer, data: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Map (N, d) data positions of `layer` to (N, 2) rows and columns of the plane."""
    return mapping(layer, image)(data)[:, list(on_screen.kept)]


def on_plane(
    image: Image, on_screen: OnScreen, layer: Layer, data: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Say which (N, d) data positions of `layer` lie on the plane; missing dimensions lie on every plane."""
    position = indices(mapping(layer, image)(data))
    hit = np.ones(len(position), np.bool_)
    for d, index in enumerate(on_screen.position):
        if index is not None and d >= image.ndim - layer.ndim:
            hit &= position[:, d] == index
    return hit
