"""The layers the user clicks and draws in, and the preview that shows what has not been accepted yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.colormaps import DirectLabelColormap
from numpy.typing import NDArray

from napari_sam.layers import OnScreen
from src_core.masks import bounds

if TYPE_CHECKING:
    from napari.components import ViewerModel

POINTS, BOXES, PREVIEW, LABELS = "SAM points", "SAM boxes", "SAM preview (not saved)", "SAM objects"
GREEN, RED, CYAN = "#2bd97c", "#ff4d6d", "#00e5ff"
MARGIN = 4
"""Pixels around a mask in its preview: more than an outline is wide."""
GRAIN, STEP = 96, 32
"""Sizes and places of previews are multiples of so many pixels."""
DELETE_KEYS = ("Delete", "Backspace", "1")
"""napari's own keys that remove the selected points."""
SIZES_PX = (9, 14)
"""How large points are on screen at least and at most."""
SYMBOLS = {"positive": "disc", "negative": "x"}


def placed_like(image: Image) -> dict[str, Any]:
    """Return the arguments that put a layer of the image's dimensions where the image is."""
    return {
        "scale": image.scale,
        "translate": image.translate,
        "rotate": image.rotate,
        "shear": image.shear,
        "affine": image.affine,
        "units": image.units,
        "axis_labels": image.axis_labels,
    }


def points_layer(viewer: ViewerModel, image: Image) -> Points:
    """Add the layer for clicks."""
    layer = viewer.add_points(
        np.zeros((0, image.ndim)),
        name=POINTS,
        ndim=image.ndim,
        features=pd.DataFrame({"object": pd.Series([], dtype=int), "label": pd.Series([], dtype=object)}),
        feature_defaults={"object": 1, "label": "positive"},
        size=6,
        border_width=0.15,
        # A white border of a thin cross would leave no red to be seen.
        border_color="label",
        border_color_cycle={"positive": "white", "negative": RED},
        face_color="label",
        face_color_cycle={"positive": GREEN, "negative": RED},
        **placed_like(image),
    )
    layer.canvas_size_limits = SIZES_PX
    return layer


def boxes_layer(viewer: ViewerModel, image: Image) -> Shapes:
    """Add the layer for rectangles, outlines and strokes."""
    layer = viewer.add_shapes(
        ndim=image.ndim,
        name=BOXES,
        features=pd.DataFrame({"object": pd.Series([], dtype=int)}),
        feature_defaults={"object": 1},
        edge_color=CYAN,
        face_color="transparent",
        edge_width=1,
        **placed_like(image),
    )
    return layer


class Placed:
    """A labels layer of a part of the image only."""

    image: Image
    layer: Labels

    def fill(self, part: NDArray[np.unsignedinteger], corner: NDArray[np.float64]) -> None:
        """Show pixels whose first one is the image's pixel `corner`.

        New data and a new place make napari lay out all layers again; what can stay is left as it is. Of a hidden
        layer, napari draws only what has become of it at last.
        """
        layer, place = self.layer, self._translate(corner)
        same, stays = layer.data.shape == part.shape, np.array_equal(layer.translate, place)
        if not (same and stays):
            self.hide()
        if same:
            layer.data[...] = part
        else:
            layer.data = part
        if not stays:
            layer.translate = place
        if layer.visible:
            self.redraw()
        else:
            layer.visible = True

    def hide(self) -> None:
        """Show nothing, and draw no changes."""
        if self.layer.visible:
            self.layer.visible = False

    def redraw(self) -> None:
        """Show the pixels as they are now."""
        self.layer.refresh(extent=False, thumbnail=False, highlight=False)

    def _translate(self, corner: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the translation that puts a layer's first pixel where the image has the pixel `corner`."""
        image = self.image
        world = np.asarray(image.data_to_world(corner)) - np.asarray(image.data_to_world(0 * corner))
        # A layer is translated after it is scaled, rotated and sheared, and before its affine transform.
        moved: NDArray[np.float64] = np.linalg.solve(np.asarray(image.affine.linear_matrix), world)
        return np.asarray(image.translate) + moved


class Preview(Placed):
    """The candidate as an outline on its own plane: a layer of the mask's box only, never a whole volume.

    napari looks for the outline in all of the layer whenever anything about it changes; on a plane of
    2048 x 2048 pixels that took the window 100 ms each time.
    """

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self.viewer, self.image = viewer, image
        self.layer: Labels = viewer.add_labels(
            np.zeros((1,) * image.ndim, np.uint8),
            name=PREVIEW,
            opacity=0.95,
            colormap=DirectLabelColormap(color_dict={0: "transparent", 1: CYAN, None: "transparent"}),
            **placed_like(image),
        )
        self.layer.editable = False

    def show(self, on_screen: OnScreen, mask: NDArray[np.bool_]) -> None:
        """Show a (H, W) mask on its plane."""
        if not mask.any():
            self.clear()
            return
        y0, x0, y1, x1 = bounds(mask)
        y, x = _around(y0, y1, mask.shape[0]), _around(x0, x1, mask.shape[1])
        part, (rows, columns) = mask[y, x], on_screen.kept
        shape = [1] * self.image.ndim
        shape[rows], shape[columns] = part.shape
        corner = np.array([p or 0 for p in on_screen.position], float)
        corner[rows], corner[columns] = y.start, x.start
        # The outline marks pixels: on a small image two of them would hide what they outline.
        contour = 1 if max(mask.shape) < 400 else 2
        if self.viewer.dims.ndisplay == 3:
            contour = 0  # napari has no outlines there, and warns of it
        if self.layer.contour != contour:
            self.hide()
            self.layer.contour = contour
        self.fill((part if rows < columns else part.T).astype(np.uint8).reshape(shape), corner)

    def clear(self) -> None:
        """Show nothing."""
        if self.layer.data.any():
            self.layer.data[...] = 0
            self.layer.thumbnail = np.zeros((0, 0, 4), np.uint8)  # napari takes it for an empty one
            self.hide()  # napari slices what is hidden no more, and does not warn of outlines in 3-D display


def _around(first: int, stop: int, size: int) -> slice:
    """Return a part of 0 to `size` around another; most get one of the same length, neighbours the same one."""
    low, high = max(0, first - MARGIN) // STEP * STEP, stop + MARGIN
    length = min(size, GRAIN * -(-(high - low) // GRAIN))
    start = min(low, size - length)
    return slice(start, start + length)


@dataclass(frozen=True)
class Drawn:
    """Everything in the two prompt layers, to go back to."""

    points: NDArray[Any]
    point_features: pd.DataFrame
    shapes: list[NDArray[Any]]
    shape_types: list[str]
    shape_features: pd.DataFrame

    @classmethod
    def of(cls, points: Points, shapes: Shapes) -> Drawn:
        """Copy what is drawn now."""
        return cls(
            np.array(points.data),
            points.features.copy(),
            [np.array(s) for s in shapes.data],
            [str(k) for k in shapes.shape_type],
            shapes.features.copy(),
        )

    def put_back(self, points: Points, shapes: Shapes) -> None:
        """Make the layers show this again."""
        points.selected_data = set()
        points.data = self.points
        points.features = self.point_features
        shapes.data = []
        if self.shapes:
            shapes.add(self.shapes, shape_type=self.shape_types)
        # napari keeps the rows of shapes that have gone.
        shapes.features = self.shape_features.iloc[: len(self.shapes)]


def style_points(layer: Points, current: int) -> None:
    """Give every point the symbol of its sign, and hide points of other objects."""
    if not len(layer.data) or not {"label", "object"} <= set(layer.features):
        return  # nothing to style, or a script has given the layer features of its own
    symbols = [SYMBOLS.get(str(v), "disc") for v in layer.features["label"]]
    shown = (layer.features["object"] == current).to_numpy()
    # Each of these draws all points anew, even where nothing differs.
    if symbols != [str(s) for s in layer.symbol]:
        layer.symbol = symbols
    if not np.array_equal(shown, layer.shown):
        layer.shown = shown
    layer.refresh_colors(update_color_mapping=False)


def style_shapes(layer: Shapes, current: int) -> None:
    """Hide shapes of other objects; a layer of shapes has no other way than to make them transparent."""
    if not len(layer.data) or "object" not in layer.features:
        return
    shown = (layer.features["object"] == current).to_numpy()
    alpha = np.asarray(layer.edge_color)[:, 3]
    if not np.array_equal(shown, alpha > 0):
        layer.edge_color = [CYAN if mine else "transparent" for mine in shown]
        layer.current_edge_color = CYAN


def size_points(layer: Points, in_view: bool) -> None:
    """Make points large enough to be seen, if there are any in view.

    Where there are none, napari draws one of no size at the first pixel, which a least size would make visible.
    """
    wanted = SIZES_PX if in_view else (0, SIZES_PX[1])
    if tuple(layer.canvas_size_limits) != wanted:
        layer.canvas_size_limits = wanted


def deselect_newest(layer: Points) -> None:
    """Take off the ring of a new point, which hides the colour that tells its sign.

    What the user has selected stays selected.
    """
    if layer.selected_data and set(layer.selected_data) == {len(layer.data) - 1}:
        layer.selected_data = set()


def remove_points(layer: Points, newest_of: NDArray[np.bool_]) -> None:
    """Remove the selected points, or without a selection the newest of those that are True."""
    if not layer.selected_data:
        layer.selected_data = {int(i) for i in np.flatnonzero(newest_of)[-1:]}
    layer.remove_selected()
