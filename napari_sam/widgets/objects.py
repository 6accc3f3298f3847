"""The table of objects: go to one, name it, finish it, delete it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam.registry import attach
from napari_sam.workers import Throttle, notify
from src_core.worker import Priority

if TYPE_CHECKING:
    import napari

    from src_core.session import ObjectState

REFRESH_MS = 100
COLUMNS = ("Object", "Name", "Slices", "Lowest score", "State")


class ObjectsWidget(QWidget):
    """One row an object."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.interaction = attach(self, napari_viewer, self._end)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.verticalHeader().setVisible(False)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.setToolTip(
            "Click to make an object the current one and go to it; double-click a name to change it"
        )
        self.table.setMinimumHeight(130)  # a few rows, also where other panels share the column
        self.done = QPushButton("Finish / reopen")
        self.done.setToolTip("A finished object is locked: nothing writes over it")
        self.delete = QPushButton("Delete")
        self.delete.setToolTip("Erase the object from every slice; Ctrl-Z brings it back")
        buttons = QHBoxLayout()
        buttons.addWidget(self.done)
        buttons.addWidget(self.delete)
        layout = QVBoxLayout(self)
        layout.addWidget(self.table)
        layout.addLayout(buttons)
        self.table.cellClicked.connect(self._go)
        self.table.itemChanged.connect(self._rename)
        self.done.clicked.connect(self._finish)
        self.delete.clicked.connect(self._delete)
        self._shown: list[tuple[str, str, str, str, str]] | None = None
        self._show_soon = Throttle(self.show_objects, REFRESH_MS, self)
        self.interaction.changed.connect(self._changed)
        self.show_objects()

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
        rows, shown = [_row(state) for state in states], self._shown or []
        self.table.blockSignals(True)
        self.table.setRowCount(len(states))
        for row, texts in enumerate(rows):
            if row >= len(shown) or shown[row] != texts:
                self._fill(row, texts)
            current = session is not None and states[row].id == session.current
            if current and [i.row() for i in self.table.selectionModel().selectedRows()] != [row]:
                self.table.selectRow(row)
        self.table.blockSignals(False)
        self._shown = rows
        self.done.setEnabled(bool(states))
        self.delete.setEnabled(bool(states))

    def _fill(self, row: int, texts: tuple[str, str, str, str, str]) -> None:
        for column, text in enumerate(texts):
            item = self.table.item(row, column)
            if item is not None:
                item.setText(text)
                continue
            item = QTableWidgetItem(text)
            if COLUMNS[column] != "Name":
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
            self.table.setItem(row, column, item)

    def _id(self, row: int) -> int | None:
        item = self.table.item(row, 0)
        return int(item.text()) if item is not None else None

    def _go(self, row: int, _: int = 0) -> None:
        identity, session = self._id(row), self.interaction.session
        if identity is None or session is None:
            return
        self.interaction.select(identity)
        if self.interaction.scene is not None and self.interaction.on_screen() is not None:
            self.interaction.scene.go_to(identity)

    def _rename(self, item: QTableWidgetItem) -> None:
        identity, session = self._id(item.row()), self.interaction.session
        if identity is not None and session is not None and COLUMNS[item.column()] == "Name":
            session.rename(identity, item.text())

    def _finish(self) -> None:
        session = self.interaction.session
        if session is not None:
            session.set_done(session.current, not session.objects[session.current].done)

    def _delete(self) -> None:
        session, interaction = self.interaction.session, self.interaction
        if session is None or interaction.busy():
            return
        identity = session.current
        interaction.worker.submit(
            lambda: session.delete(identity),
            Priority.CLICK,
            lambda _: interaction.show_current(),
            notify,
        )


def _row(state: ObjectState) -> tuple[str, str, str, str, str]:
    planes = state.anchors | set(state.scores)
    lowest = f"{min(state.scores.values()):.2f}" if state.scores else ""
    return (
        str(state.id),
        state.name,
        str(len(planes)) if planes else "",
        lowest,
        "done" if state.done else "draft",
    )
