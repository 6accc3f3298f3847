"""Between napari's layers and the library: volumes, planes, prompts, and back.

Only public attributes of layers are used. All geometry goes through world coordinates, so layers may differ in
scale, translation, number of dimensions and in-plane rotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from src_core.errors import VolumeError
from src_core.prompts import Prompts
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels, Layer, Points, Shapes

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
    return open_volume(array_of(layer), axes=names, scale=scale, units=units, contrast_limits=limits)


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
    where = {a: p for a, p in zip(axes, position, strict=True) if p is not None}
    sliced = next((a for a in ("z", "y", "x") if a in where), None)
    plane = PlaneRef(sliced, where.get(sliced, 0) if sliced else 0, where.get("t", 0))
    return OnScreen(plane, where.get("c", 0), tuple(position), axes)


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


def to_plane(image: Image, on_screen: OnScreen, world: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map (N, d) world positions to (N, 2) rows and columns of the plane."""
    rows, columns = on_screen.kept
    padded = _fit(np.atleast_2d(world), image.ndim)
    data = np.array([np.asarray(image.world_to_data(p))[-image.ndim :] for p in padded]).reshape(
        -1, image.ndim
    )
    return data[:, [rows, columns]]


def _fit(points: NDArray[np.floating], ndim: int) -> NDArray[np.float64]:
    """Give (N, d) world positions `ndim` columns; napari aligns the last ones."""
    points = np.asarray(points, np.float64)
    if points.shape[1] < ndim:
        return np.hstack([np.zeros((len(points), ndim - points.shape[1])), points])
    return points[:, -ndim:]


def world_of(layer: Layer, data: NDArray[np.floating]) -> NDArray[np.float64]:
    """Map (N, d) data positions of a layer to world positions."""
    data = np.atleast_2d(np.asarray(data, np.float64))
    return np.array([layer.data_to_world(p) for p in data]).reshape(len(data), -1)


def on_plane(
    image: Image, on_screen: OnScreen, layer: Layer, data: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Say which (N, d) data positions of `layer` lie on the plane; missing dimensions lie on every plane."""
    world = world_of(layer, data)
    position = np.array([np.asarray(image.world_to_data(p))[-image.ndim :] for p in _fit(world, image.ndim)])
    missing = image.ndim - world.shape[1]
    hit = np.ones(len(world), np.bool_)
    for d, index in enumerate(on_screen.position):
        if index is not None and d >= missing:
            hit &= np.rint(position[:, d]) == index
    return hit


def box_prompt(vertices: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the half-open (y0, x0, y1, x1) box around (N, 2) positions on the plane."""
    low, high = vertices.min(0), vertices.max(0)
    return (float(low[0]), float(low[1]), float(max(high[0], low[0] + 1)), float(max(high[1], low[1] + 1)))


def ellipse_outline(corners: NDArray[np.float64], n: int = 64) -> NDArray[np.float64]:
    """Return (n, 2) positions on the ellipse that (4, 2) corners frame."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)[:, None]
    centre = corners.mean(0)
    return (
        centre + np.cos(angle) * (corners[1] - corners[0]) / 2 + np.sin(angle) * (corners[3] - corners[0]) / 2
    )


def along(vertices: NDArray[np.float64], n: int = 5) -> NDArray[np.float64]:
    """Return up to `n` positions evenly spaced along an open path of (N, 2) positions."""
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(vertices, axis=0), axis=1))]
    if steps[-1] == 0:
        return vertices[:1]
    where = np.linspace(0, steps[-1], n)
    return np.stack([np.interp(where, steps, vertices[:, d]) for d in (0, 1)], axis=1)


def points_prompt(
    image: Image, on_screen: OnScreen, layer: Points, identity: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the (N, 2) points of a layer on the plane and their labels, 1 unless its features say negative.

    With `identity`, points whose features name another object are left out.
    """
    if not len(layer.data):
        return np.zeros((0, 2)), np.zeros(0, np.int64)
    chosen = on_plane(image, on_screen, layer, layer.data) & _belongs(
        layer.features, len(layer.data), identity
    )
    points = (
        to_plane(image, on_screen, world_of(layer, layer.data[chosen])) if chosen.any() else np.zeros((0, 2))
    )
    signs = np.ones(len(layer.data), np.int64)
    if "label" in layer.features:
        signs = (layer.features["label"].astype(str) != "negative").to_numpy().astype(np.int64)
    return points, signs[chosen]


def _belongs(features: Any, count: int, identity: int | None) -> NDArray[np.bool_]:
    if identity is None or "object" not in features:
        return np.ones(count, np.bool_)
    return np.asarray(features["object"].to_numpy() == identity, np.bool_)


def prompts_on_plane(
    image: Image,
    on_screen: OnScreen,
    shape: tuple[int, int],
    points: Points | None = None,
    shapes: Shapes | None = None,
    labels: Labels | None = None,
    identity: int | None = None,
) -> Prompts | None:
    """Collect what layers say about one object on one plane; None if they say nothing.

    Points are points; a rectangle is a box; an ellipse or a polygon is a mask and its box; a path or a line is
    points along it; a painted region is a mask.

    Raises
    ------
    PromptError
        A prompt lies outside the plane.
    """
    where: list[NDArray[np.float64]] = []
    signs: list[NDArray[np.int64]] = []
    outlines: list[NDArray[np.float64]] = []
    mask = np.zeros(shape, np.bool_)
    if points is not None:
        found, labels_of = points_prompt(image, on_screen, points, identity)
        where.append(found)
        signs.append(labels_of)
    for kind, vertices in _shapes_on(image, on_screen, shapes, identity):
        if kind in ("path", "line"):
            where.append(along(vertices))
            signs.append(np.ones(len(where[-1]), np.int64))
            continue
        outline = ellipse_outline(vertices) if kind == "ellipse" else vertices
        outlines.append(outline)
        if kind != "rectangle":
            mask |= polygon2mask(shape, outline)
    if labels is not None:
        mask |= painted_region(image, on_screen, labels, shape, identity)
    if mask.any() and not outlines:
        outlines.append(np.argwhere(mask))
    box = box_prompt(np.concatenate(outlines)) if outlines else None
    points_yx = np.concatenate(where) if where else np.zeros((0, 2))
    if not len(points_yx) and box is None and not mask.any():
        return None
    prompts = Prompts(points_yx, np.concatenate(signs) if signs else [], box, mask if mask.any() else None)
    prompts.check_inside(shape)
    return prompts


def _shapes_on(
    image: Image, on_screen: OnScreen, layer: Shapes | None, identity: int | None
) -> list[tuple[str, NDArray[np.float64]]]:
    if layer is None:
        return []
    chosen = _belongs(layer.features, len(layer.data), identity)
    found = []
    for kind, data, mine in zip(layer.shape_type, layer.data, chosen, strict=True):
        if mine and on_plane(image, on_screen, layer, data).all():
            found.append((str(kind), to_plane(image, on_screen, world_of(layer, data))))
    return found


def painted_region(
    image: Image, on_screen: OnScreen, layer: Labels, shape: tuple[int, int], identity: int | None
) -> NDArray[np.bool_]:
    """Return where a labels layer is painted (with `identity`, with that id) on the plane of the image.

    The layer is sampled at the image's pixels, whatever its own scale, translation or number of dimensions.
    """
    rows, columns = on_screen.kept
    corners = np.array([[0 if p is None else p for p in on_screen.position]] * 3, np.float64)
    corners[1, rows], corners[2, columns] = 1, 1
    world = world_of(image, corners)
    own = np.array(
        [np.asarray(layer.world_to_data(p))[-layer.ndim :] for p in _fit(world, max(layer.ndim, image.ndim))]
    )
    origin, down, right = own[0], own[1] - own[0], own[2] - own[0]
    y, x = np.mgrid[: shape[0], : shape[1]]
    where = np.rint(origin + y[..., None] * down + x[..., None] * right).astype(np.int64)
    array = array_of(layer)
    inside = ((where >= 0) & (where < np.array(array.shape))).all(-1)
    if not inside.any():
        return np.zeros(shape, np.bool_)
    low, high = where[inside].min(0), where[inside].max(0) + 1
    block = np.asarray(array[tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))])
    out = np.zeros(shape, np.bool_)
    values = block[tuple((where[inside] - low).T)]
    out[inside] = values == identity if identity is not None else values > 0
    return out
