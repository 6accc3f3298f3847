"""The models: which there are, which are on this computer, and fetching one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QLabel,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_sam.ahead import instead
from napari_sam.registry import attach
from napari_sam.workers import MainThread, notify
from src_core import zoo
from src_core.worker import InferenceWorker, Job, Priority

if TYPE_CHECKING:
    import napari

COLUMNS = ("Model", "Network", "Size", "Licence", "On this computer")


class ModelsWidget(QWidget):
    """One row a model."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._cancelled = threading.Event()
        # What has come of a download under way is kept and continued next time.
        self.interaction = attach(self, napari_viewer, self._cancel)
        self.main = MainThread(self)
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(list(COLUMNS))
        self.table.verticalHeader().setVisible(False)
        self.table.horizontalHeader().setStretchLastSection(True)
        self.fetch = QPushButton("Download and use")
        self.fetch.setToolTip("Fetch the chosen model once; it is checked and kept on this computer")
        self.cancel = QPushButton("Cancel")
        self.progress = QProgressBar()
        self.where = QLabel(f"Kept in {zoo.models_folder()}. A file you have already can be put there.")
        self.where.setWordWrap(True)
        layout = QVBoxLayout(self)
        for widget in (self.table, self.fetch, self.progress, self.cancel, self.where):
            layout.addWidget(widget)
        self.fetch.clicked.connect(self._fetch)
        self.cancel.clicked.connect(self._cancel)
        self._worker: InferenceWorker | None = None
        self._job: Job | None = None
        self._busy(False)
        self.fill()

    def fill(self) -> None:
        """List the models anew."""
        models = zoo.models()
        self.table.setRowCount(len(models))
        for row, info in enumerate(models):
            size = f"{info.size_mb:.0f} MB" if info.size_mb else ""
            there = "yes" if info.downloaded is not None else ("no" if info.url else "by hand")
            for column, text in enumerate((info.name, info.network, size, info.licence, there)):
                self.table.setItem(row, column, QTableWidgetItem(text))
        self.table.resizeColumnsToContents()

    def _fetch(self) -> None:
        row = self.table.currentRow()
        if row < 0:
            self.where.setText("Choose a model in the table first.")
            return
        name = zoo.models()[row].name
        self._cancelled.clear()
        self._busy(True)
        # A worker of its own: a download of minutes must not hold up clicks.
        self._worker = InferenceWorker(self.main)
        self._job = self._worker.submit(
            lambda: zoo.download(name, self._report, self._cancelled.is_set),
            Priority.REST,
            lambda _: self._fetched(name),
            lambda error: self._failed(instead(name, error)),
        )

    def _report(self, done: int, total: int) -> None:
        self.main(self._show, done, total)

    def _show(self, done: int, total: int) -> None:
        self.progress.setMaximum(max(total // 2**20, 1))
        self.progress.setValue(done // 2**20)
        self.progress.setFormat(f"{done / 2**20:.0f} of {total / 2**20:.0f} MB")

    def _fetched(self, name: str) -> None:
        self._end()
        self.interaction.set_model(name)
        self.where.setText(f"{name} is ready and in use.")

    def _failed(self, error: BaseException) -> None:
        self._end()
        self.where.setText(str(error))
        if not self._cancelled.is_set():
            notify(error)

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.close(timeout=0)
        self._worker = None
        self._busy(False)
        self.fill()
        self.interaction.changed.emit()

    def _cancel(self) -> None:
        self._cancelled.set()

    def _busy(self, busy: bool) -> None:
        self.progress.setVisible(busy)
        self.cancel.setVisible(busy)
        self.fetch.setEnabled(not busy)
