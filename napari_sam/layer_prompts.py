"""What points, shapes and painted regions say about objects on planes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from napari_sam.layers import OnScreen, array_of, indices, mapping, on_plane, to_plane
from src_core.errors import PromptError
from src_core.prompts import Prompts

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Points, Shapes


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


@dataclass
class Parts:
    """All that is said about one object on one plane, in pixels of the plane; masks are drawn when asked for."""

    points: list[NDArray[np.float64]] = field(default_factory=list)
    signs: list[NDArray[np.int64]] = field(default_factory=list)
    boxes: list[NDArray[np.float64]] = field(default_factory=list)
    outlines: list[NDArray[np.float64]] = field(default_factory=list)
    masks: list[NDArray[np.bool_]] = field(default_factory=list)

    def add_points(self, points: NDArray[np.float64], signs: NDArray[np.int64] | None = None) -> None:
        """Add (N, 2) points, inside the object unless `signs` has 0."""
        self.points.append(points)
        self.signs.append(np.ones(len(points), np.int64) if signs is None else signs)

    def add_shape(self, kind: str, vertices: NDArray[np.float64]) -> None:
        """Add a shape of napari: a rectangle is a box, a closed outline a mask and its box, a stroke points."""
        if kind in ("path", "line"):
            self.add_points(along(vertices))
        elif kind == "rectangle":
            self.boxes.append(vertices)
        else:
            self.outlines.append(ellipse_outline(vertices) if kind == "ellipse" else vertices)

    def prompts(self, shape: tuple[int, int]) -> Prompts | None:
        """Return it all as prompts on a plane of `shape`; None if nothing is said.

        Raises
        ------
        PromptError
            A prompt lies outside the plane.
        """
        drawn = [m for m in (*(polygon2mask(shape, o) for o in self.outlines), *self.masks) if m.any()]
        mask = np.logical_or.reduce(drawn) if drawn else None
        framed = [*self.boxes, *self.outlines]
        if mask is not None and not framed:
            framed.append(np.argwhere(mask))
        box = box_prompt(np.concatenate(framed)) if framed else None
        points = np.concatenate(self.points) if self.points else np.zeros((0, 2))
        if not len(points) and box is None and mask is None:
            return None
        prompts = Prompts(points, np.concatenate(self.signs) if self.signs else [], box, mask)
        prompts.check_inside(shape)
        return prompts


def signs_of(layer: Points) -> NDArray[np.int64]:
    """Return 0 for every point whose feature `label` says "negative", else 1."""
    if "label" not in layer.features:
        return np.ones(len(layer.data), np.int64)
    return (layer.features["label"].astype(str) != "negative").to_numpy().astype(np.int64)


def names_of(layer: Points | Shapes) -> list[Hashable | None]:
    """Return the feature `object` of every point or shape, None without one; whole numbers are int."""
    if "object" not in layer.features:
        return [None] * len(layer.data)
    return [_name(value) for value in layer.features["object"]]


def _name(value: Any) -> Hashable | None:
    if pd.isna(value) or not str(value).strip():
        return None
    try:
        return int(value) if float(value) == int(float(value)) else str(value)
    except (ValueError, OverflowError):
        return str(value)


def _belongs(layer: Points | Shapes, identity: int | None) -> NDArray[np.bool_]:
    if identity is None or "object" not in layer.features:
        return np.ones(len(layer.data), np.bool_)
    return np.array([name == identity for name in names_of(layer)], np.bool_)


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
    parts = Parts()
    if points is not None and len(points.data):
        chosen = on_plane(image, on_screen, points, points.data) & _belongs(points, identity)
        parts.add_points(to_plane(image, on_screen, points, points.data[chosen]), signs_of(points)[chosen])
    if shapes is not None and len(shapes.data):
        # All vertices in one go: finding the way from the layer to the image takes longer than going it.
        vertices, ends = np.concatenate(shapes.data), np.cumsum([len(v) for v in shapes.data])[:-1]
        here = np.split(on_plane(image, on_screen, shapes, vertices), ends)
        places = np.split(to_plane(image, on_screen, shapes, vertices), ends)
        mine = _belongs(shapes, identity)
        for kind, on, place, chosen in zip(shapes.shape_type, here, places, mine, strict=True):
            if chosen and on.all():
                parts.add_shape(str(kind), place)
    if labels is not None:
        ids = ids_of(image, on_screen, labels, shape)(on_screen)
        parts.masks.append(ids == identity if identity is not None else ids > 0)
    return parts.prompts(shape)


def ids_of(
    image: Image,
    on_screen: OnScreen,
    layer: Labels,
    shape: tuple[int, int],
    leading: tuple[int, ...] = (),
) -> Callable[[OnScreen], NDArray[np.int64]]:
    """Return a function that reads what a labels layer holds on planes of the image, for any thread.

    The layer is sampled at the image's pixels, whatever its own scale, translation or number of dimensions: the
    answer is (H, W) int64 ids, 0 where the layer does not reach.

    Parameters
    ----------
    image, layer
        The layers; only looked at now.
    on_screen
        Any plane of the orientation that will be asked for.
    shape
        Of those planes.
    leading
        Positions along dimensions that the layer has before those of the image; 0 by default.
    """
    to_layer, array, rows_columns = mapping(image, layer), array_of(layer), on_screen.kept
    extra = max(layer.ndim - image.ndim, 0)

    def read(plane: OnScreen) -> NDArray[np.int64]:
        corners = np.array([[p or 0 for p in plane.position]] * 3, np.float64)
        for k, d in enumerate(rows_columns):
            corners[1 + k, d] = 1
        own = to_layer(corners)
        own[:, :extra] = leading or 0
        origin, down, right = own[0], own[1] - own[0], own[2] - own[0]
        return _sample(array, origin, down, right, shape)

    return read


def _sample(
    array: Any,
    origin: NDArray[np.float64],
    down: NDArray[np.float64],
    right: NDArray[np.float64],
    shape: tuple[int, int],
) -> NDArray[np.int64]:
    """Read an array at origin + y * down + x * right for every pixel (y, x); 0 outside of it."""
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[None, :]
    where, inside, out = [], np.ones(shape, np.bool_), np.zeros(shape, np.int64)
    for d, size in enumerate(array.shape):
        # Mostly a dimension goes with the rows or with the columns only: then one line of indices will do.
        at = np.full((1, 1), origin[d])
        at = at + y * down[d] if abs(down[d]) > 1e-9 else at
        at = at + x * right[d] if abs(right[d]) > 1e-9 else at
        index = indices(at).astype(np.int64)
        inside &= (index >= 0) & (index < size)
        where.append(index.clip(0, size - 1))
    if not inside.any():
        return out
    low = [int(index.min()) for index in where]
    block = np.asarray(array[tuple(slice(a, int(i.max()) + 1) for a, i in zip(low, where, strict=True))])
    values = block[tuple(index - a for index, a in zip(where, low, strict=True))]
    np.copyto(out, values, where=inside, casting="unsafe")
    return out


def checked(prompts: Prompts | None) -> Prompts:
    """Return prompts that say where the object is.

    Raises
    ------
    PromptError
        There are none, or only points outside the object.
    """
    if prompts is None or not (len(prompts.points_yx) == 0 or prompts.labels.any() or prompts.box_yxyx):
        raise PromptError("nothing says where the object is")
    return prompts
