"""One undo and redo for everything: points, masks, strokes, propagations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from src_core.worker import Priority

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction

UNDO_KEY, REDO_KEY = "Control-Z", "Control-Shift-Z"


def bind(interaction: Interaction, layer: Any) -> None:
    """Make our undo and redo a layer's."""
    layer.bind_key(UNDO_KEY, lambda _: interaction.undo(), overwrite=True)
    layer.bind_key(REDO_KEY, lambda _: interaction.redo(), overwrite=True)


def unbind(layer: Any) -> None:
    """Let a layer that stays in the viewer have napari's own undo again."""
    for key in (UNDO_KEY, REDO_KEY):
        layer.bind_key(key, None, overwrite=True)


def replay(interaction: Interaction, what: Literal["undo", "redo"]) -> None:
    """Undo the latest thing, or do again what was undone last; the labels follow on the worker."""
    session = interaction.session
    if session is None or interaction.busy():
        return

    def replayed(name: str | None) -> None:
        if interaction.prompting is not None and interaction.session is session:
            interaction.prompting.drawing.catch_up()
        interaction.said.emit(f"{what.capitalize()}: {name}." if name else f"Nothing to {what}.")

    work = session.undo if what == "undo" else session.redo
    interaction.worker.submit(work, Priority.CLICK, replayed, interaction.failed)
