"""A thin strip that stands for the stack: which slices are ready, filled, anchors, and on screen."""

from __future__ import annotations

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

EMPTY = QColor(128, 128, 128, 70)
READY, FILLED, ANCHOR, HERE = QColor("#7aa6c9"), QColor("#2bd97c"), QColor("#00e5ff"), QColor("#ffffff")


class SliceStrip(QWidget):
    """Shows one cell a slice."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "The slices of the stack. Grey: prepared for clicks, paler where only part of what is in view is. "
            "Green: filled by propagation, paler where unsure. Blue: masks you made. White: on screen."
        )
        self._count, self._here = 1, 0
        self._ready: dict[int, float] = {}
        self._filled: dict[int, float] = {}
        self._anchors: set[int] = set()

    def sizeHint(self) -> QSize:
        """Be thin."""
        return QSize(120, 14)

    def show_slices(
        self, count: int, here: int, ready: dict[int, float], filled: dict[int, float], anchors: set[int]
    ) -> None:
        """Update what is shown; indices are positions along the axis on screen.

        `ready` has the share of what is in view that is prepared for clicks, `filled` has confidences.
        """
        self._count, self._here = max(count, 1), here
        self._ready, self._filled, self._anchors = ready, filled, anchors
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the cells."""
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.fillRect(self.rect(), EMPTY)
        step, height = self.width() / self._count, float(self.height())
        width = max(step, 2.0)
        for index, share in self._ready.items():
            colour = QColor(READY)
            colour.setAlphaF(share if share == 1 else 0.15 + 0.45 * share)
            painter.fillRect(QRectF(index * step, height * 0.75, width, height * 0.25), colour)
        for index, score in self._filled.items():
            colour = QColor(FILLED)
            colour.setAlphaF(0.25 + 0.75 * min(max(score, 0.0), 1.0))
            painter.fillRect(QRectF(index * step, 0, width, height * 0.7), colour)
        for index in self._anchors:
            painter.fillRect(QRectF(index * step, 0, width, height * 0.7), ANCHOR)
        painter.fillRect(QRectF(self._here * step, 0, max(1.5, min(step, 3.0)), height), HERE)
        painter.end()
