"""What the table of objects can do besides choosing one: delete, merge, cut, renumber, measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer, Points, Shapes

from napari_sam.layers import OnScreen
from napari_sam.prompt_layers import placed_like
from src_core.errors import PromptError, SamError
from src_core.files import write_atomically
from src_core.measuring import Measuring, MeasuringProgress, table
from src_core.session import ClickCut, Cut, LineCut, Session, cut, merge, relabel
from src_core.worker import Priority

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction
    from napari_sam.running import Progress
    from napari_sam.scene import Scene

CUT, COLOUR = "SAM cut", "yellow"


class ObjectTools:
    """Changes of objects that the worker makes; each is one entry of the history."""

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction
        self._cutting: Layer | None = None

    def delete(self, identity: int) -> None:
        """Erase an object from every slice."""
        self._change(
            lambda session: session.delete(identity), f"Object {identity} deleted; Ctrl-Z brings it back."
        )

    def merge(self, identities: list[int]) -> None:
        """Make one object of several; it has the number of the first."""
        first, *others = identities
        self._change(lambda session: merge(session, first, others), f"Merged into object {first}.")

    def relabel(self, identity: int, number: int) -> None:
        """Give an object another number."""
        self._change(
            lambda session: relabel(session, identity, number), f"Object {identity} is object {number} now."
        )

    def cut_by_clicks(self) -> None:
        """Let the user click once in either half of the current object."""
        layer = self._ask(Points, f"Click once in either half of object {self._current}.")
        if isinstance(layer, Points):
            layer.mode = "add"

    def cut_by_line(self) -> None:
        """Let the user draw a line across the current object, which cuts through all slices."""
        layer = self._ask(
            Shapes, f"Draw a line across object {self._current}: it is cut there on every slice."
        )
        if isinstance(layer, Shapes):
            layer.mode = "add_line"

    def measure(self, path: Path) -> None:
        """Write the measurements of all objects as CSV."""
        session, running = self.interaction.session, self.interaction.running
        if session is None or running is None or self.interaction.busy():
            return

        def ended(_: Progress | None, stopped: bool) -> None:
            self.interaction.said.emit(
                "Stopped; nothing has been written." if stopped else f"Written to {path}."
            )

        running.begin(_measured(session, path), "Measuring…", ended)

    # ------------------------------------------------------------------ helpers

    @property
    def _current(self) -> int:
        session = self.interaction.session
        return session.current if session is not None else 0

    def _change(self, work: Callable[[Session], Any], words: str) -> None:
        interaction, session = self.interaction, self.interaction.session
        if session is None or interaction.busy():
            return

        def done(_: Any) -> None:
            if interaction.prompting is not None and interaction.session is session:
                interaction.prompting.drawing.catch_up()
                interaction.show_current()
            interaction.said.emit(words)

        interaction.worker.submit(lambda: work(session), Priority.CLICK, done, interaction.failed)

    def _ask(self, kind: type[Layer], words: str) -> Layer | None:
        """Add a layer to say in where to cut; it goes as soon as that has been said."""
        interaction, scene = self.interaction, self.interaction.scene
        if scene is None or interaction.busy() or interaction.on_screen() is None:
            return None
        self._put_away()
        look = {"face_color": COLOUR, "size": 6} if kind is Points else {"edge_color": COLOUR}
        layer = kind(ndim=scene.image.ndim, name=CUT, **look, **placed_like(scene.image))  # type: ignore[call-arg]
        scene.viewer.add_layer(layer)
        scene.viewer.layers.selection.active = layer
        identity = scene.session.current

        def said(_: Any = None) -> None:
            # napari is not done with a shape yet when it tells of it.
            interaction.main(self._said, scene, layer, identity)

        layer.events.data.connect(said)
        self._cutting = layer
        interaction.said.emit(words)
        return layer

    def _said(self, scene: Scene, layer: Layer, identity: int) -> None:
        interaction = self.interaction
        if layer is not self._cutting or len(layer.data) < (2 if isinstance(layer, Points) else 1):
            return
        on_screen = interaction.on_screen()
        data = np.asarray(layer.data if isinstance(layer, Points) else layer.data[0], float)
        self._put_away()
        if on_screen is None or interaction.scene is not scene:
            return
        try:
            knife = _knife(layer, on_screen, data)
        except SamError as error:
            interaction.failed(error)
            return
        self._change(
            lambda session: cut(session, identity, knife, on_screen.plane.t),
            f"Object {identity} is two objects now; Ctrl-Z puts it together again.",
        )

    def _put_away(self) -> None:
        layer, self._cutting = self._cutting, None
        layers = self.interaction.viewer.layers
        if layer is not None and layer in layers:
            layers.remove(layer)
            if self.interaction.scene is not None:
                layers.selection.active = self.interaction.scene.points


def _knife(layer: Layer, on_screen: OnScreen, data: np.ndarray) -> Cut:
    if isinstance(layer, Points):
        spatial = [d for a in ("z", "y", "x") for d, name in enumerate(on_screen.axes) if name == a]
        return ClickCut(data[:2, spatial])
    if len(data) != 2:
        raise PromptError("draw a straight line across the object")
    return LineCut(on_screen.plane.axis, data[:, list(on_screen.kept)])


def _measured(session: Session, path: Path) -> Iterator[MeasuringProgress]:
    measuring = Measuring(session.volume, session.labels)
    yield from measuring.steps()
    text = table(measuring.rows(), session.volume, session.objects)
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
