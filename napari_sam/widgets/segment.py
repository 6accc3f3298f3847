"""The main panel: choose an image, click, choose a candidate, keep it, propagate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.layers import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_sam import shortcuts
from napari_sam.registry import attach
from napari_sam.widgets.from_layer import FromLayer
from napari_sam.widgets.review import Review
from napari_sam.workers import Once, Throttle, notify
from src_core import zoo
from src_core.errors import SamError

if TYPE_CHECKING:
    import napari

    from napari_sam.running import Progress

HINT = "Choose an image to begin."
REVIEW_MS = 100
"""Shortest time between two redraws of the strip of slices."""


class SegmentWidget(QWidget):
    """Everything a newcomer needs, in the order it is needed."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.interaction = attach(self, napari_viewer, self._end)
        self.viewer = self.interaction.viewer
        self._update_soon = Once(self.interaction.main, self._update)
        self._build()
        self._review_soon = Throttle(self.review.refresh, REVIEW_MS, self)
        self._connect()
        shortcuts.bind(self.viewer, self.interaction)
        self._fill_images()
        self._update()

    # ------------------------------------------------------------------ layout

    def _build(self) -> None:
        self.image = QComboBox()
        self.image.setToolTip("The image or stack to label")
        self.model = QComboBox()
        self.model.setToolTip("The network that makes masks; others can be fetched in the Models panel")
        self.model.setPlaceholderText("none here: see the Models panel")
        form = QFormLayout()
        form.addRow("Image", self.image)
        form.addRow("Model", self.model)
        self._fill_models()

        self.from_layer = FromLayer(self.viewer, self.interaction)
        self.object = QLabel()
        self.status = QLabel(HINT)
        self.status.setWordWrap(True)
        self.status.setMinimumHeight(44)  # two lines, so that the panel keeps its shape
        self.status.setAlignment(Qt.AlignmentFlag.AlignTop)

        self.candidate_buttons = [QPushButton("–") for _ in range(3)]
        group = QButtonGroup(self)
        group.setExclusive(True)
        candidates = QHBoxLayout()
        for k, button in enumerate(self.candidate_buttons):
            button.setCheckable(True)
            button.setEnabled(False)
            button.setToolTip(
                "What the network offers, with the overlap it expects with the true object (Q: next)"
            )
            group.addButton(button, k)
            candidates.addWidget(button)
        self.candidates = group

        self.accept = _button("Keep  (W)", "Write the outlined mask to the labels")
        self.next = _button("Next object  (N)", "Keep the mask and start the next object")
        self.undo = _button("Undo", "Ctrl-Z: a point, a mask, a stroke, a propagation")
        self.redo = _button("Redo", "Ctrl-Shift-Z")
        self.propagate = _button(
            "Propagate  (G)", "Carry this object through the stack from the slices you kept"
        )
        self.propagate_all = _button("All objects", "Propagate every object that is not finished, together")
        self.stop = _button("Stop", "What has been done stays (Shift-G)")
        self.overwrite = QCheckBox("Overwrite other objects")
        self.overwrite.setToolTip("Masks and the brush may take pixels from objects that are not finished")
        self.progress = QProgressBar()
        self.progress.setVisible(False)
        self.stop.setVisible(False)
        self.review = Review(self.interaction)
        for widget in (self.progress, self.stop):
            # A panel that needs more room makes napari lay out and paint all of its window at once.
            policy = widget.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            widget.setSizePolicy(policy)

        buttons = QGridLayout()
        two_in_a_row = (self.accept, self.next, self.undo, self.redo, self.propagate, self.propagate_all)
        for k, button in enumerate(two_in_a_row):
            buttons.addWidget(button, k // 2, k % 2)
        run = QHBoxLayout()
        run.addWidget(self.progress)
        run.addWidget(self.stop)

        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.object)
        layout.addWidget(self.status)
        layout.addLayout(candidates)
        layout.addLayout(buttons)
        layout.addWidget(self.from_layer)
        layout.addWidget(self.overwrite)
        layout.addWidget(self.review)
        layout.addLayout(run)
        layout.addWidget(_keys())
        layout.addStretch(1)

    def _connect(self) -> None:
        self.image.activated.connect(self._choose_image)
        self.model.activated.connect(lambda _: self.interaction.set_model(self.model.currentData()))
        self.candidates.idClicked.connect(self._choose_candidate)
        self.accept.clicked.connect(lambda: self.interaction.accept())
        self.next.clicked.connect(lambda: self.interaction.next_object())
        self.undo.clicked.connect(lambda: self.interaction.undo())
        self.redo.clicked.connect(lambda: self.interaction.redo())
        self.propagate.clicked.connect(lambda: self.interaction.propagate())
        self.propagate_all.clicked.connect(lambda: self.interaction.propagate_all())
        self.stop.clicked.connect(lambda: self.interaction.stop())
        self.overwrite.toggled.connect(self._allow_overwrite)
        self.interaction.changed.connect(self._changed)
        self.interaction.ready_changed.connect(self._refresh_review)
        self.interaction.said.connect(self._say)
        self.interaction.progress_changed.connect(self._show_progress)
        self.viewer.layers.events.inserted.connect(self._fill_images)
        self.viewer.layers.events.removed.connect(self._fill_images)
        self.viewer.layers.events.renamed.connect(self._fill_images)

    # ------------------------------------------------------------------ choices

    def _fill_images(self, event: Any = None) -> None:
        layers = [layer for layer in self.viewer.layers if isinstance(layer, Image)]
        kept = self.interaction.image
        self.image.clear()
        self.image.addItem("–", None)
        for layer in layers:
            self.image.addItem(layer.name, layer)
        self._show_choices()
        self.from_layer.refresh()
        if kept is None and len(layers) == 1 and event is None:
            self.image.setCurrentIndex(1)
            self._choose_image()

    def _fill_models(self) -> None:
        self.model.clear()
        for info in zoo.models():
            if info.downloaded is not None:
                self.model.addItem(info.name, info.name)

    def _show_choices(self) -> None:
        """Show the image and the network in use: layers come and go, other panels choose models."""
        layers = [self.image.itemData(k) for k in range(self.image.count())]
        chosen = self.interaction.image
        self.image.setCurrentIndex(layers.index(chosen) if chosen in layers else 0)
        name = self.interaction.ahead.model_name
        if self.model.findData(name) < 0:
            self._fill_models()
        self.model.setCurrentIndex(self.model.findData(name))

    def _choose_image(self, _: int = 0) -> None:
        layer = self.image.currentData()
        if layer is None:
            self._show_choices()
            return
        try:
            self.interaction.start(layer)
        except (SamError, OSError) as error:
            self.status.setText(str(error))
            notify(error)
        self._show_choices()

    def _choose_candidate(self, index: int) -> None:
        if self.interaction.prompting is not None:
            self.interaction.prompting.choose(index)

    def _allow_overwrite(self, allowed: bool) -> None:
        if self.interaction.session is not None:
            self.interaction.session.allow_overwrite = allowed

    # ------------------------------------------------------------------ showing

    def _say(self, text: str) -> None:
        self.status.setText(text)

    def _changed(self) -> None:
        self._update_soon()

    def _update(self) -> None:
        interaction, session = self.interaction, self.interaction.session
        self._show_choices()
        prompting = interaction.prompting
        found = prompting.candidates if prompting is not None else None
        for k, button in enumerate(self.candidate_buttons):
            offered = found is not None and k < len(found)
            button.setEnabled(offered)
            button.setText(f"{k + 1}:  {found.scores[k]:.2f}" if found is not None and offered else "–")
            button.setChecked(offered and prompting is not None and k == prompting.chosen)
        ready = session is not None and not session.read_only
        self.accept.setEnabled(ready and prompting is not None and prompting.to_keep)
        self.next.setEnabled(ready)
        self.overwrite.setEnabled(ready)
        self.undo.setEnabled(session is not None and ready and session.undo_name is not None)
        self.redo.setEnabled(session is not None and ready and session.redo_name is not None)
        if session is not None:
            self.overwrite.setChecked(session.allow_overwrite)
            self.undo.setToolTip(f"Undo: {session.undo_name or 'nothing'} (Ctrl-Z)")
            self.redo.setToolTip(f"Redo: {session.redo_name or 'nothing'} (Ctrl-Shift-Z)")
            state = session.objects.get(session.current)
            name = f" · {state.name}" if state is not None and state.name else ""
            sign = (
                "  ·  points are OUTSIDE (U)" if prompting is not None and prompting.drawing.negative else ""
            )
            sign += "  ·  open in another window: only to look at" if session.read_only else ""
            self.object.setText(f"<b>Object {session.current}</b>{name}{sign}")
            self.object.setToolTip(session.read_only)
        else:
            self.object.setText("")
        self.propagate.setEnabled(ready and not interaction.propagating)
        self.propagate_all.setEnabled(ready and not interaction.propagating)
        self.stop.setVisible(interaction.propagating)
        if not interaction.propagating:
            self.progress.setVisible(False)  # its image may have gone before its end could be told
        self.from_layer.refresh()
        self._review_soon()

    def _refresh_review(self) -> None:
        self._review_soon()

    def _show_progress(self, progress: Progress | None, seconds_left: float | None) -> None:
        self.progress.setVisible(progress is not None)
        self.stop.setVisible(progress is not None)
        if progress is None:
            return
        left = "" if seconds_left is None else f"  ·  {_time(seconds_left)} left"
        # Otherwise Qt paints a progress bar at once, and with it all of the window.
        self.progress.setUpdatesEnabled(False)
        self.progress.setMaximum(max(progress.total, 1))
        self.progress.setValue(progress.done)
        self.progress.setFormat(f"{progress.unit} {progress.done} of {progress.total}{left}")
        self.progress.setUpdatesEnabled(True)

    def _end(self) -> None:
        """Give the keys back: the panel has been closed."""
        events = self.viewer.layers.events
        for signal in (events.inserted, events.removed, events.renamed):
            signal.disconnect(self._fill_images)
        interaction = self.interaction
        interaction.changed.disconnect(self._changed)
        self._review_soon.close()
        interaction.ready_changed.disconnect(self._refresh_review)
        interaction.said.disconnect(self._say)
        interaction.progress_changed.disconnect(self._show_progress)
        shortcuts.unbind(self.viewer)
        self.setEnabled(False)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def _keys() -> QCollapsible:
    box = QCollapsible("Keys")
    rows = [(k, what) for k, what in shortcuts.MOUSE] + [(k, what) for k, what, _ in shortcuts.SHORTCUTS]
    text = "".join(f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{what}</td></tr>" for k, what in rows)
    box.addWidget(QLabel(f"<table>{text}</table>"))
    box.collapse(animate=False)
    return box


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
