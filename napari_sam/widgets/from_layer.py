"""The button that makes objects of a layer the user drew or loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Layer, Points, Shapes
from qtpy.QtWidgets import QMenu, QPushButton

from napari_sam.layer_import import usable

if TYPE_CHECKING:
    import napari

    from napari_sam.interaction import Interaction

TIP = (
    "Make objects of points, shapes or labels that you drew or loaded: every point, shape or label becomes an "
    "object on its slice. One undo takes them all back"
)
NONE = f"{TIP}. There is no such layer yet: load one, or add one to draw in"


class FromLayer(QPushButton):
    """Lists the layers to choose from while its menu is open."""

    def __init__(self, viewer: napari.Viewer, interaction: Interaction) -> None:
        super().__init__("Objects from a layer…")
        self.viewer, self.interaction = viewer, interaction
        self.choices = QMenu(self)
        self.choices.aboutToShow.connect(self.fill)
        self.setMenu(self.choices)
        self.refresh()

    def sources(self) -> list[Layer]:
        """Return the layers that can be used."""
        return [layer for layer in self.viewer.layers if usable(layer, self.interaction.scene)]

    def refresh(self) -> None:
        """Be there for the user where there is something to choose."""
        there = bool(self.sources())
        self.setEnabled(there and self.interaction.session is not None and not self.interaction.propagating)
        self.setToolTip(TIP if there else NONE)

    def fill(self) -> None:
        """List the layers as they are now."""
        self.choices.clear()
        for layer in self.sources():
            count = f"{len(layer.data)} " if isinstance(layer, (Points, Shapes)) else ""
            # Qt takes what follows an ampersand for a key.
            name = layer.name.replace("&", "&&")
            action = self.choices.addAction(f"{name}  ({count}{type(layer).__name__.lower()})")
            action.triggered.connect(lambda _=False, layer=layer: self.interaction.use_layer(layer))
