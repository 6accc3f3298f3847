"""The tracks of followed objects as a layer, with its graph of divisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Tracks
from numpy.typing import NDArray

from napari_sam.layers import axes_of
from napari_sam.prompt_layers import placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

NAME = "SAM tracks"
MAX_NDIM = 4


def time_of(image: Image) -> tuple[str | None, bool]:
    """Return the image's axis along which time may run, None if there is none, and whether its labels say so.

    Of a film without depth, the time points are handled as slices.
    """
    labels, axes = [str(a).lower() for a in image.axis_labels], axes_of(image)
    if "t" in axes:
        return "t", True
    if "z" in axes and "z" not in labels:
        return "z", "t" in labels
    return None, False


def show_tracks(
    viewer: ViewerModel,
    image: Image,
    points: NDArray[np.float64],
    graph: dict[int, list[int]],
    time: str,
    channel: int,
) -> Tracks | None:
    """Add the Tracks layer of an image, or bring it up to date.

    Parameters
    ----------
    viewer, image
        Where, and whose tracks.
    points, graph
        As `napari_tracks` returns them. Without points the layer goes, or is not made; neither is it for images
        of five dimensions, for which napari has no tracks.
    time, channel
        The image's axis along which time runs, and the channel on screen.
    """
    old = next((x for x in viewer.layers if isinstance(x, Tracks) and x.name == NAME), None)
    if not len(points) or image.ndim > MAX_NDIM:
        if old is not None:
            viewer.layers.remove(old)
        return None
    axes = axes_of(image)
    spatial = [a for a in axes if a in "zyx" and a != time]
    columns = {time: points[:, 1]} | {a: points[:, 2 + n] for n, a in enumerate(spatial)}
    other = np.full(len(points), float(channel))
    data = np.column_stack([points[:, 0], *(columns.get(a, other) for a in axes)])
    if old is not None and old.ndim == image.ndim:
        old.graph = {}  # napari refuses points without those that its graph names
        old.data, old.graph = data, graph
        for name, value in placed_like(image).items():
            setattr(old, name, value)
        return old
    if old is not None:
        viewer.layers.remove(old)
    active = viewer.layers.selection.active
    layer = viewer.add_tracks(data, graph=graph, name=NAME, **placed_like(image))
    viewer.layers.selection.active = active  # so that the next click is a prompt
    return layer
