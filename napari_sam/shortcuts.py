"""Keys, in one place: bound while the panel is open, listed in the panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_sam.interaction import Interaction

if TYPE_CHECKING:
    import napari

SHORTCUTS: tuple[tuple[str, str, Callable[[Interaction], object]], ...] = (
    ("W", "keep the mask", Interaction.accept),
    ("Q", "next candidate", Interaction.cycle),
    ("N", "keep, and start the next object", Interaction.next_object),
    ("G", "propagate through the stack", Interaction.propagate),
    ("Shift-G", "stop propagating", Interaction.stop),
    ("J", "go to the worst slice, and on to the next", Interaction.worst_slice),
    ("K", "this slice is right: keep it, and go to the next worst", Interaction.right_slice),
    ("U", "next points inside / outside", Interaction.flip_sign),
    ("Control-Z", "undo", Interaction.undo),
    ("Control-Shift-Z", "redo", Interaction.redo),
)
"""Key, what it does, and the call. None is used by napari for the layers involved."""

MOUSE = (("Click", "a point inside the object"), ("Shift-click", "a point outside the object"))


def bind(viewer: napari.Viewer, interaction: Interaction) -> None:
    """Bind the keys to a viewer."""
    for key, _, call in SHORTCUTS:
        viewer.bind_key(key, lambda _viewer, call=call: _run(call, interaction), overwrite=True)


def unbind(viewer: napari.Viewer) -> None:
    """Give the keys back."""
    for key, _, _ in SHORTCUTS:
        viewer.bind_key(key, None, overwrite=True)


def _run(call: Callable[[Interaction], object], interaction: Interaction) -> None:
    call(interaction)
