"""Propagation with a range and a choice of objects, for when the main panel's one button is not enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, PushButton, TextEdit

from napari_sam.registry import attach
from napari_sam.widgets.span import slice_span
from src_core.session_propagation import PropagationProgress

if TYPE_CHECKING:
    import napari

    from napari_sam.running import Progress

BOTH, FORWARDS, BACKWARDS = "both ways", "forwards only", "backwards only"


class PropagateWidget(Container):
    """Which objects, which way, which slices; and where and why each object ended."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        self.objects = ComboBox(
            label="objects",
            choices=["current object", "all that are not finished"],
            tooltip="What to propagate",
        )
        self.direction = ComboBox(
            label="direction", choices=[BOTH, FORWARDS, BACKWARDS], tooltip="Seen from the slice on screen"
        )
        self.span = slice_span("First and last slice to fill")
        self.follow = CheckBox(text="follow on screen", tooltip="Show the slices while they are filled")
        self.run = PushButton(text="Propagate", tooltip="From the slices you kept (G)")
        self.stop = PushButton(text="Stop", tooltip="What has been done stays (Shift-G)", enabled=False)
        self.report = TextEdit(label="ends", tooltip="Where and why each object ended")
        self.report.native.setReadOnly(True)
        self.report.native.setPlaceholderText("Choose an image in the panel Segment and keep a mask first.")
        self.report.min_height = 70
        super().__init__(
            widgets=[self.objects, self.direction, self.span, self.follow, self.run, self.stop, self.report],
            labels=True,
        )
        self.interaction = attach(self.native, napari_viewer, self._end)
        self.native.setMinimumWidth(240)
        self.follow.value = self.interaction.follow
        self.follow.changed.connect(lambda on: setattr(self.interaction, "follow", bool(on)))
        self.run.changed.connect(self._run)
        self.stop.changed.connect(lambda: self.interaction.stop())
        self.interaction.changed.connect(self._update)
        self.interaction.progress_changed.connect(self._show)
        self._axis: tuple[str | None, int] = (None, 0)
        self._update()

    def _end(self) -> None:
        self.interaction.changed.disconnect(self._update)
        self.interaction.progress_changed.disconnect(self._show)
        self.enabled = False

    def _update(self) -> None:
        session = self.interaction.session
        on_screen = self.interaction.on_screen() if session is not None else None
        axis = on_screen.plane.axis if on_screen is not None else None
        usable = session is not None and axis is not None
        self.run.enabled = usable and not self.interaction.propagating
        self.stop.enabled = self.interaction.propagating
        count = session.volume.n_planes(axis) if session is not None and axis is not None else 2
        if (axis, count) != self._axis:
            self._axis = (axis, count)
            self.span.max = max(count - 1, 1)
            self.span.value = (0, max(count - 1, 1))

    def _run(self) -> None:
        session, on_screen = self.interaction.session, self.interaction.on_screen()
        if session is None or on_screen is None:
            return
        first, last = (int(v) for v in self.span.value)
        if self.direction.value == FORWARDS:
            first = on_screen.plane.index
        if self.direction.value == BACKWARDS:
            last = on_screen.plane.index
        self.report.value = ""
        everything = str(self.objects.value).startswith("all")
        begin = self.interaction.propagate_all if everything else self.interaction.propagate
        begin(start=first, stop=last + 1)

    def _show(self, progress: Progress | None, _: Any) -> None:
        self._update()
        if isinstance(progress, PropagationProgress):
            lines = [f"object {k}: {end}" for k, ends in sorted(progress.stopped.items()) for end in ends]
            text = "\n".join(lines)
            if text != self.report.value:
                self.report.value = text
