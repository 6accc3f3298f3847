"""The table of objects: go to one, name it, finish it, merge, cut, delete and measure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QGridLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam.object_tools import ObjectTools
from napari_sam.registry import attach
from napari_sam.workers import Throttle
from src_core.errors import SessionError
from src_core.worker import Job, Priority

if TYPE_CHECKING:
    import napari

    from src_core.session import ObjectState, Session

REFRESH_MS = 100
NUMBER, NAME, SLICES, SIZE, LOWEST, STATE = range(6)
COLUMNS = ("Object", "Name", "Slices", "Volume", "Lowest", "State")
POWERS = {2: "²", 3: "³"}
UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm"}

Row = tuple[str, ...]
"""The texts of a row, and its colour."""


class ObjectsWidget(QWidget):
    """One row an object."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.interaction = attach(self, napari_viewer, self._end)
        self.tools = ObjectTools(self.interaction)
        self.table = _table()
        self._build()
        self.table.cellClicked.connect(self._go)
        self.table.itemChanged.connect(self._edited)
        self.table.itemSelectionChanged.connect(self._selection_changed)
        self.done.clicked.connect(self._finish)
        self.delete.clicked.connect(self._delete)
        self.merge.clicked.connect(self._merge)
        self.measure.clicked.connect(self._measure)
        self._shown: list[Row] = []
        self._ids: list[int] = []
        self._writable = False
        self._counting: Job | None = None
        self._show_soon = Throttle(self.show_objects, REFRESH_MS, self)
        self.interaction.changed.connect(self._changed)
        self.show_objects()

    def _build(self) -> None:
        self.done = _button("Finish / reopen", "A finished object is locked: nothing writes over it")
        self.delete = _button("Delete", "Erase the object from every slice; Ctrl-Z brings it back")
        self.merge = _button(
            "Merge",
            "Make one object of those selected (Ctrl-click selects more); it has the first one's number",
        )
        self.cut = _button("Cut…", "Make two objects of this one")
        ways = QMenu(self.cut)
        for text, cut in (
            ("between two clicks", self.tools.cut_by_clicks),
            ("along a line, through all slices", self.tools.cut_by_line),
        ):
            ways.addAction(text).triggered.connect(lambda _=False, cut=cut: cut())
        self.cut.setMenu(ways)
        self.measure = _button(
            "Measure…", "Write volume, surface, position and mean intensity of all objects to a table (CSV)"
        )
        buttons = QGridLayout()
        for k, button in enumerate((self.done, self.delete, self.merge, self.cut)):
            buttons.addWidget(button, k // 2, k % 2)
        buttons.addWidget(self.measure, 2, 0, 1, 2)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addLayout(buttons)

    def _changed(self) -> None:
        self._show_soon()

    def _end(self) -> None:
        self.interaction.changed.disconnect(self._changed)
        self._show_soon.close()
        self.setEnabled(False)

    def show_objects(self) -> None:
        """Show the objects as they are now; rows that say the same as before are left alone."""
        session = self.interaction.session
        states = sorted(session.objects.values(), key=lambda o: o.id) if session is not None else []
        rows, shown = self._rows(session, states), self._shown
        self.table.blockSignals(True)
        self.table.setRowCount(len(states))
        for row, texts in enumerate(rows):
            if row >= len(shown) or shown[row] != texts:
                self._fill(row, texts)
        if session is not None:
            self.table.horizontalHeaderItem(SIZE).setText(_size_title(session))
            self._select(session, [s.id for s in states], moved=[s.id for s in states] != self._ids)
        self.table.blockSignals(False)
        self._shown, self._ids = rows, [s.id for s in states]
        self.measure.setEnabled(bool(states))
        self._writable = bool(states) and session is not None and not session.read_only
        for button in (self.done, self.delete, self.cut):
            button.setEnabled(self._writable)
        self._selection_changed()
        self._count(session)

    def _rows(self, session: Session | None, states: list[ObjectState]) -> list[Row]:
        scene = self.interaction.scene
        if session is None or scene is None:
            return []
        unit = math.prod(session.volume.scale[a] for a in session.volume.spatial_axes)
        census = session.census
        colours = np.atleast_2d(scene.labels.colormap.map(np.array([s.id for s in states])))
        return [
            (
                *_texts(state, census.slices.get(state.id, 0), census.voxels.get(state.id, 0) * unit),
                QColor.fromRgbF(*colour.tolist()).name(),
            )
            for state, colour in zip(states, colours, strict=True)
        ]

    def _select(self, session: Session, ids: list[int], *, moved: bool) -> None:
        """Have the current object selected; what the user has selected besides stays, if it is where it was."""
        if session.current in ids:
            row = ids.index(session.current)
            if moved or row not in self._selected():
                self.table.selectRow(row)

    def _selected(self) -> list[int]:
        return sorted(i.row() for i in self.table.selectionModel().selectedRows())

    def _selection_changed(self) -> None:
        self.merge.setEnabled(self._writable and len(self._selected()) > 1)

    def _count(self, session: Session | None) -> None:
        """Count pixels in the background where labels have changed."""
        if session is None or self._counting is not None or not session.census.behind:
            return

        def counted(_: object = None) -> None:
            self._counting = None
            self._show_soon()

        self._counting = self.interaction.worker.submit_steps(
            session.census.steps(), Priority.REST, None, counted, counted
        )

    def _fill(self, row: int, texts: Row) -> None:
        for column, text in enumerate(texts[: len(COLUMNS)]):
            item = self.table.item(row, column)
            if item is None:
                item = QTableWidgetItem()
                if column not in (NUMBER, NAME):
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                if column in (SLICES, SIZE, LOWEST):
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(row, column, item)
            if item.text() != text:
                item.setText(text)
            # Drawing twenty icons for every slice that is filled would be felt.
            if column == NUMBER and item.data(Qt.ItemDataRole.UserRole) != texts[-1]:
                item.setIcon(_icon(texts[-1]))
                item.setData(Qt.ItemDataRole.UserRole, texts[-1])

    def _id(self, row: int) -> int | None:
        return self._ids[row] if row < len(self._ids) else None

    def _go(self, row: int, _: int = 0) -> None:
        identity, session = self._id(row), self.interaction.session
        if identity is None or session is None:
            return
        self.interaction.select(identity)
        if self.interaction.scene is not None and self.interaction.on_screen() is not None:
            self.interaction.scene.go_to(identity)

    def _edited(self, item: QTableWidgetItem) -> None:
        """Take over a name or a number that the user has typed."""
        identity, session = self._id(item.row()), self.interaction.session
        if identity is None or session is None:
            return
        try:
            if item.column() == NAME:
                session.rename(identity, item.text())
            elif item.column() == NUMBER:
                self.tools.relabel(identity, int(item.text()))
        except ValueError:
            self.interaction.said.emit(f"An object's number is a whole number, not “{item.text()}”.")
        except SessionError as error:
            self.interaction.failed(error)
        self._shown = [row if k != item.row() else () for k, row in enumerate(self._shown)]
        self._show_soon()  # the session's words, if it has refused

    def _finish(self) -> None:
        session = self.interaction.session
        if session is None:
            return
        try:
            session.set_done(session.current, not session.objects[session.current].done)
        except SessionError as error:
            self.interaction.failed(error)

    def _delete(self) -> None:
        if self.interaction.session is not None:
            self.tools.delete(self.interaction.session.current)

    def _merge(self) -> None:
        chosen = [i for row in self._selected() if (i := self._id(row)) is not None]
        if len(chosen) > 1:
            self.tools.merge(chosen)

    def _measure(self) -> None:
        session = self.interaction.session
        if session is None:
            return
        home = session.labels.path.parent.parent
        proposal = home.with_name(f"{home.name.removesuffix('.sam.zarr')}_objects.csv")
        path, _ = QFileDialog.getSaveFileName(self, "Measurements", str(proposal), "Table (*.csv)")
        if path:
            self.tools.measure(Path(path))


def _table() -> QTableWidget:
    table = QTableWidget(0, len(COLUMNS))
    table.setHorizontalHeaderLabels(list(COLUMNS))
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
    table.verticalHeader().setVisible(False)
    table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    table.horizontalHeader().setStretchLastSection(True)
    table.setMinimumHeight(150)  # some rows, also where the dock is short
    table.setToolTip(
        "Click to make an object the current one and go to it; double-click a name or a number to change it"
    )
    table.setMinimumHeight(130)  # a few rows, also where other panels share the column
    return table


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def _texts(state: ObjectState, slices: int, size: float) -> Row:
    lowest = f"{min(state.scores.values()):.2f}" if state.scores else ""
    return (
        str(state.id),
        state.name,
        str(slices) if slices else "",
        f"{size:.4g}" if size else "",
        lowest,
        "done" if state.done else "draft",
    )


def _size_title(session: Session) -> str:
    axes, units = session.volume.spatial_axes, session.volume.units
    named = {units.get(a) for a in axes}
    unit = named.pop() if len(named) == 1 else None
    short = "pixels" if unit in (None, "pixel") else f"{UNITS.get(unit, unit)}{POWERS[len(axes)]}"
    return f"{'Volume' if len(axes) == 3 else 'Area'} ({short})"


def _icon(colour: str) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
