"""The objects found on a slice, shown before anything is kept: moving a slider shows others at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.layers import OnScreen
from napari_sam.prompt_layers import Placed, placed_like

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

NAME = "found on this slice"


class Proposals(Placed):
    """A layer of one slice, in colours, that goes away with what it shows."""

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self.viewer, self.image = viewer, image
        self.layer: Labels = viewer.add_labels(
            np.zeros((1,) * image.ndim, np.uint32), name=NAME, opacity=0.55, **placed_like(image)
        )
        self.layer.editable = False

    def show(self, on_screen: OnScreen, ids: NDArray[np.uint32]) -> None:
        """Show the (H, W) ids of the plane on screen."""
        rows, columns = on_screen.kept
        shape = [1] * self.image.ndim
        shape[rows], shape[columns] = ids.shape
        corner = np.array([p or 0 for p in on_screen.position], float)
        self.fill((ids if rows < columns else ids.T).reshape(shape), corner)

    def close(self) -> None:
        """Take the layer away."""
        if self.layer in self.viewer.layers:
            self.viewer.layers.remove(self.layer)
