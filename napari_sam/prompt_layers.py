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

if TYPE_CHECKING:
    from napari.components import ViewerModel

POINTS, BOXES, PREVIEW, LABELS = "SAM points", "SAM boxes", "SAM preview (not saved)", "SAM objects"
GREEN, RED, CYAN = "#2bd97c", "#ff4d6d", "#00e5ff"
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
        border_color="white",
        face_color="label",
        face_color_cycle={"positive": GREEN, "negative": RED},
        **placed_like(image),
    )
    layer.canvas_size_limits = (9, 14)
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


class Preview:
    """The candidate as an outline on its own plane: a layer one slice thick, never a whole volume."""

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self.image = image
        self.layer: Labels = viewer.add_labels(
            np.zeros((1,) * image.ndim, np.uint8),
            name=PREVIEW,
            opacity=0.95,
            colormap=DirectLabelColormap(color_dict={0: "transparent", 1: CYAN, None: "transparent"}),
            **placed_like(image),
        )
        self.layer.editable = False
        self.layer.contour = 2

    def show(self, on_screen: OnScreen, mask: NDArray[np.bool_]) -> None:
        """Show a (H, W) mask on its plane."""
        rows, columns = on_screen.kept
        shape = [1] * self.image.ndim
        shape[rows], shape[columns] = mask.shape
        data = (mask if rows < columns else mask.T).astype(np.uint8).reshape(shape)
        position = np.array([p or 0 for p in on_screen.position], float)
        self.layer.data = data
        self.layer.translate = np.asarray(self.image.translate) + position * np.asarray(self.image.scale)
        # The outline marks pixels: on a small image two of them would hide what they outline.
        self.layer.contour = 1 if max(mask.shape) < 400 else 2
        self.layer.visible = True

    def clear(self) -> None:
        """Show nothing."""
        self.layer.data = np.zeros((1,) * self.image.ndim, np.uint8)


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
            shapes.features = self.shape_features


def style_points(layer: Points, current: int) -> None:
    """Give every point the symbol of its sign, and hide points of other objects."""
    if not len(layer.data) or not {"label", "object"} <= set(layer.features):
        return  # nothing to style, or a script has given the layer features of its own
    layer.symbol = [SYMBOLS.get(str(v), "disc") for v in layer.features["label"]]
    layer.refresh_colors(update_color_mapping=False)
    layer.shown = (layer.features["object"] == current).to_numpy()
