"""The strip of slices, and from one unsure slice to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_sam.widgets.strip import SliceStrip
from src_core.types import PlaneRef

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction


class Review(QWidget):
    """Part of the main panel: what remains to be looked at, and the way there. Hidden without a stack."""

    def __init__(self, interaction: Interaction) -> None:
        super().__init__()
        self.interaction = interaction
        self.strip = SliceStrip()
        self.summary = QLabel()
        self.everything = QCheckBox("All objects")
        self.everything.setChecked(interaction.review.all_objects)
        self.everything.setToolTip("Review all objects that are not finished, or only the current one")
        self.worst = QPushButton("Worst slice  (J)")
        self.worst.setToolTip(
            "Go to the slice where propagation was least sure, and select its object; again for the next one"
        )
        self.right = QPushButton("Right, next  (K)")
        self.right.setToolTip(
            "This slice is right, or has been clicked right: keep it, and go to the next worst. "
            "Propagation never changes it again"
        )
        line = QHBoxLayout()
        line.addWidget(self.summary, 1)
        line.addWidget(self.everything)
        buttons = QHBoxLayout()
        buttons.addWidget(self.worst)
        buttons.addWidget(self.right)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.strip)
        layout.addLayout(line)
        layout.addLayout(buttons)
        self.strip.chosen.connect(self._go_to)
        self.everything.toggled.connect(self._review_all)
        self.worst.clicked.connect(lambda: interaction.worst_slice())
        self.right.clicked.connect(lambda: interaction.right_slice())

    def refresh(self) -> None:
        """Show what is there now."""
        session = self.interaction.session
        on_screen = self.interaction.on_screen() if session is not None else None
        self.setVisible(session is not None and on_screen is not None and on_screen.plane.axis is not None)
        if session is None or on_screen is None or on_screen.plane.axis is None:
            return
        plane, cache, review = on_screen.plane, self.interaction.cache, self.interaction.review
        state = session.objects.get(session.current)
        made = [] if state is None else [*state.anchors, *(state.scores if state.done else ())]
        self.strip.show_slices(
            session.volume.n_planes(plane.axis),
            plane.index,
            cache.ready(plane.axis, plane.t, self.interaction.view()) if cache is not None else {},
            review.lowest(),
            {p.index for p in made if (p.axis, p.t) == (plane.axis, plane.t)},
        )
        left = review.remaining()
        self.summary.setText(f"{left or 'No'} slice{'' if left == 1 else 's'} to review")
        self.worst.setEnabled(left > 0)
        free = state is not None and not (state.done or state.empty)
        self.right.setEnabled(free and not session.read_only)

    def _review_all(self, everything: bool) -> None:
        self.interaction.review.all_objects = everything
        self.refresh()

    def _go_to(self, index: int) -> None:
        scene, on_screen = self.interaction.scene, self.interaction.on_screen()
        if scene is not None and on_screen is not None:
            scene.show_plane(PlaneRef(on_screen.plane.axis, index, on_screen.plane.t))
