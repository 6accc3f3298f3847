"""What points, shapes and painted regions say about one object on one plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from napari_sam.layers import OnScreen, array_of, fit, on_plane, to_plane, world_of
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
    masks: list[NDArray[np.bool_]] = []
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
            masks.append(polygon2mask(shape, outline))
    if labels is not None:
        masks.append(painted_region(image, on_screen, labels, shape, identity))
    mask = np.logical_or.reduce([m for m in masks if m.any()]) if any(m.any() for m in masks) else None
    if mask is not None and not outlines:
        outlines.append(np.argwhere(mask))
    box = box_prompt(np.concatenate(outlines)) if outlines else None
    points_yx = np.concatenate(where) if where else np.zeros((0, 2))
    if not len(points_yx) and box is None and mask is None:
        return None
    prompts = Prompts(points_yx, np.concatenate(signs) if signs else [], box, mask)
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
        [np.asarray(layer.world_to_data(p))[-layer.ndim :] for p in fit(world, max(layer.ndim, image.ndim))]
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
