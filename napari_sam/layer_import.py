"""A layer that the user made or loaded becomes objects: one undoable step, on the worker, with progress."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from napari.layers import Labels, Layer, Points, Shapes

from napari_sam.layer_objects import Frame, LabelsReader, Said, collect
from napari_sam.workers import notify
from src_core.errors import PromptError
from src_core.session import ObjectState
from src_core.session_prompts import PromptsProgress, Wanted, segment_session

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction
    from napari_sam.running import Progress
    from napari_sam.scene import Scene


def usable(layer: Layer, scene: Scene | None) -> bool:
    """Say whether a layer is of a kind that speaks about objects, and not one of the panel's own."""
    return isinstance(layer, (Points, Shapes, Labels)) and (scene is None or layer not in scene.layers)


class LayerImport:
    """Makes objects of one layer, once."""

    def __init__(self, interaction: Interaction, scene: Scene, layer: Layer) -> None:
        self.interaction, self.scene, self.layer = interaction, scene, layer
        self._skipped: Counter[str] = Counter()
        self._states: list[ObjectState] = []

    def start(self) -> None:
        """Read the layer, then ask the network about everything it says.

        Raises
        ------
        PromptError
            The layer is of another kind, or has no position along the rows or columns on screen.
        SessionError
            The labels cannot hold so many objects.
        """
        running = self.interaction.running
        on_screen = self.interaction.on_screen()
        if running is None or on_screen is None or self.interaction.busy():
            return
        layer = self.layer
        if not isinstance(layer, (Points, Shapes, Labels)):
            raise PromptError(f"“{layer.name}” is neither points nor shapes nor labels; choose one that is")
        frame = Frame(self.scene.image, on_screen, point=tuple(self.scene.viewer.dims.point))
        if isinstance(layer, Labels):
            reader = LabelsReader(frame, layer)

            def scanned(_: Progress | None, stopped: bool) -> None:
                if stopped:
                    self.interaction.said.emit("Stopped; nothing has been made.")
                elif self.interaction.scene is self.scene:
                    self._segment(reader.said(), reader.wanted())

            running.begin(reader.scan(), f"Reading “{layer.name}”…", scanned)
            return
        said = Said()
        collect(frame, layer, said)
        self._segment(said, said.wanted(on_screen, frame.shape))

    def _segment(self, said: Said, wanted: list[Wanted]) -> None:
        interaction, session = self.interaction, self.scene.session
        cache, running = interaction.cache, interaction.running
        if cache is None or running is None:
            return
        self._skipped.update(said.skipped)
        if not wanted:
            self._ended(None, False)
            return
        layers = self.scene.viewer.layers
        if layers.selection.active is self.layer:
            layers.selection.active = self.scene.points  # so that the next click is a prompt
        self._states = session.add_objects(said.numbers.values(), replace_current=self._current_is_bare())
        interaction.show_current()
        steps = segment_session(
            session,
            cache,
            wanted,
            dict(zip(said.numbers, self._states, strict=True)),
            f"objects from {self.layer.name}",
        )
        running.begin(steps, f"Making objects from “{self.layer.name}”…", self._ended)

    def _current_is_bare(self) -> bool:
        """Say whether the user has done nothing for the current object yet: then its number can be used."""
        scene = self.scene
        session = scene.session
        state = session.objects[session.current]
        drawn = any(
            "object" in layer.features and (layer.features["object"] == session.current).any()
            for layer in (scene.points, scene.boxes)
        )
        return state.bare and not drawn

    def _ended(self, progress: Progress | None, stopped: bool) -> None:
        """Say what has come of it: the numbers in the status line, what was left out in one notification."""
        # Stopped before it began, the work itself has not forgotten the objects that it was to make.
        self.scene.session.withdraw(self._states)
        if self.interaction.scene is not self.scene:
            return
        made = sum(not state.empty for state in self._states)
        if isinstance(progress, PromptsProgress):
            self._skipped["where the network sees nothing"] += progress.empty
            self._skipped["labelled already"] += progress.taken
        name, left_out = self.layer.name, +self._skipped
        words = "Stopped; what was done is kept. " if stopped else ""
        if made:
            next_step = "“All objects” sends them through the stack; Ctrl-Z takes them back."
            words += f"{made} {_objects(made)} made from “{name}”. {next_step}"
        else:
            words += f"No object made from “{name}”" + ("." if left_out or stopped else ": it is empty here.")
        if left_out:
            reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
            missing = f"Left out: {reasons}."
            notify(PromptError(f"{missing} ({made} {_objects(made)} made from “{name}”.)"))
            words += f" {missing}"
        self.interaction.said.emit(words)


def _objects(count: int) -> str:
    return "object" if count == 1 else "objects"
