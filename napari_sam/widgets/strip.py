"""A thin strip that stands for the stack: which slices are ready, unsure, made by the user, and on screen."""

from __future__ import annotations

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QWidget

EMPTY = QColor(128, 128, 128, 70)
READY, MADE, HERE, OUTLINE = QColor("#8c8c8c"), QColor("#56b4e9"), QColor("#ffffff"), QColor("#000000")
UNSURE, FAIR, SURE = (0.4, QColor("#d55e00")), (0.65, QColor("#f0c442")), (0.9, QColor("#009e73"))
"""Confidences and their colours, which people who confuse red and green tell apart (Okabe and Ito 2008)."""


class SliceStrip(QWidget):
    """Shows one cell a slice; a click goes there."""

    chosen = Signal(int)
    """The slice that was clicked on."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "The slices of the stack. Orange to green: filled by propagation and not reviewed, from unsure to sure. "
            "Blue: masks you made or found right. Grey: prepared for clicks, paler where only part of what is in view "
            "is. White: on screen. Click to go there."
        )
        self._count, self._here = 1, 0
        self._ready: dict[int, float] = {}
        self._filled: dict[int, float] = {}
        self._made: set[int] = set()

    def sizeHint(self) -> QSize:
        """Be thin."""
        return QSize(120, 14)

    def show_slices(
        self, count: int, here: int, ready: dict[int, float], filled: dict[int, float], made: set[int]
    ) -> None:
        """Update what is shown; indices are positions along the axis on screen.

        `ready` has the share of what is in view that is prepared for clicks, `filled` has confidences.
        """
        self._count, self._here = max(count, 1), here
        self._ready, self._filled, self._made = ready, filled, made
        self.update()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:
        """Choose the slice under the mouse."""
        if event is not None:
            index = int(event.position().x() / self.width() * self._count)
            self.chosen.emit(min(max(index, 0), self._count - 1))

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the cells; where several share a pixel, the least sure one is seen."""
        painter = QPainter(self)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.fillRect(self.rect(), EMPTY)
        step, height = self.width() / self._count, float(self.height())
        width = max(step, 2.0)
        for index, share in self._ready.items():
            colour = QColor(READY)
            colour.setAlphaF(share if share == 1 else 0.15 + 0.45 * share)
            painter.fillRect(QRectF(index * step, height * 0.75, width, height * 0.25), colour)
        for index in self._made:
            painter.fillRect(QRectF(index * step, 0, width, height * 0.7), MADE)
        for index in sorted(self._filled, key=lambda i: -self._filled[i]):
            painter.fillRect(QRectF(index * step, 0, width, height * 0.7), colour_of(self._filled[index]))
        here = QRectF(self._here * step, 0, max(2.0, min(step, 3.0)), height)
        painter.fillRect(here.adjusted(-1, 0, 1, 0), OUTLINE)
        painter.fillRect(here, HERE)
        painter.end()


def colour_of(confidence: float) -> QColor:
    """Return the colour of a confidence, 0 to 1."""
    (low, below), (high, above) = (UNSURE, FAIR) if confidence < FAIR[0] else (FAIR, SURE)
    share = min(max((confidence - low) / (high - low), 0.0), 1.0)
    mixed = (
        round(a + share * (b - a))
        for a, b in zip(below.getRgb()[:3], above.getRgb()[:3], strict=True)  # type: ignore[index]
    )
    return QColor(*mixed)
