"""The panels for propagation, objects and models."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam.widgets import models as models_panel
from napari_sam.widgets.models import ModelsWidget
from napari_sam.widgets.objects import ObjectsWidget
from napari_sam.widgets.propagate import BACKWARDS, FORWARDS, PropagateWidget
from src_core import zoo
from src_core.errors import CheckpointError
from tests.napari_sam.conftest import Desk


def _filled(desk: Desk, identity: int = 1) -> set[int]:
    return {z for z in range(12) if (desk.plane(z) == identity).any()}


def _two_objects(desk: Desk) -> None:
    desk.two_objects()
    desk.interaction.select(1)
    desk.wait()


# ------------------------------------------------------------------- propagate


@pytest.fixture
def propagate(desk: Desk, qtbot: Any) -> PropagateWidget:
    panel = PropagateWidget(desk.viewer)
    qtbot.addWidget(panel.native)
    return panel


def test_a_range_of_slices(desk: Desk, propagate: PropagateWidget) -> None:
    assert not propagate.run.enabled
    _two_objects(desk)
    assert propagate.run.enabled and propagate.span.max == 11 and tuple(propagate.span.value) == (0, 11)
    propagate.span.value = (5, 8)
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert _filled(desk) == {5, 6, 7, 8} and _filled(desk, 2) == {6}


@pytest.mark.parametrize("way, expected", [(FORWARDS, {6, 7, 8, 9, 10}), (BACKWARDS, {2, 3, 4, 5, 6})])
def test_one_way_from_the_slice_on_screen(
    desk: Desk, propagate: PropagateWidget, way: str, expected: set[int]
) -> None:
    _two_objects(desk)
    propagate.direction.value = way
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert _filled(desk) == expected


def test_all_objects_and_why_each_ended(desk: Desk, propagate: PropagateWidget) -> None:
    _two_objects(desk)
    propagate.objects.value = "all that are not finished"
    enabled: list[tuple[bool, bool]] = []
    desk.interaction.progress_changed.connect(
        lambda p, _: enabled.append((propagate.run.enabled, propagate.stop.enabled))
    )
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert len(_filled(desk, 1)) == len(_filled(desk, 2)) == 9
    assert (False, True) in enabled and propagate.run.enabled and not propagate.stop.enabled
    lines = propagate.report.value.splitlines()
    assert len(lines) == 4 and lines[0].startswith("object 1: z=") and lines[-1].startswith("object 2: z=")


def test_the_stop_of_this_panel(desk: Desk, propagate: PropagateWidget) -> None:
    _two_objects(desk)
    desk.predictor.delay_s = 0.05
    desk.interaction.progress_changed.connect(
        lambda p, _: propagate.stop.native.click() if p is not None and p.done == 1 else None
    )
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert len(_filled(desk)) < 9


def test_the_range_follows_the_axis_on_screen(desk: Desk, propagate: PropagateWidget) -> None:
    desk.start()
    desk.viewer.dims.order = (2, 0, 1)
    desk.wait()
    desk.interaction.changed.emit()
    assert propagate.span.max == 63


# --------------------------------------------------------------------- objects


@pytest.fixture
def objects(desk: Desk, qtbot: Any) -> ObjectsWidget:
    panel = ObjectsWidget(desk.viewer)
    qtbot.addWidget(panel)
    return panel


def _cell(panel: ObjectsWidget, row: int, column: int) -> str:
    item = panel.table.item(row, column)
    assert item is not None
    return item.text()


def _settle(desk: Desk, panel: ObjectsWidget) -> None:
    """Let the table, which is filled a few times a second, catch up."""
    desk.wait()
    desk.wait(lambda: not panel._show_soon._timer.isActive())


def test_objects_are_listed_with_slices_and_scores(desk: Desk, objects: ObjectsWidget) -> None:
    assert objects.table.rowCount() == 0 and not objects.delete.isEnabled()
    _two_objects(desk)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    _settle(desk, objects)
    assert [_cell(objects, r, 0) for r in range(3)] == ["1", "2", "3"]
    assert [_cell(objects, r, 2) for r in range(3)] == ["9", "1", ""]
    assert 0 < float(_cell(objects, 0, 3)) <= 1 and _cell(objects, 1, 3) == ""
    assert objects.table.currentRow() == 0


def test_a_click_selects_and_goes_to_the_object(desk: Desk, objects: ObjectsWidget) -> None:
    _two_objects(desk)
    _settle(desk, objects)
    desk.go(1)
    objects.table.cellClicked.emit(1, 0)
    _settle(desk, objects)
    assert desk.interaction.session.current == 2 and desk.viewer.dims.current_step[0] == 6
    assert objects.table.currentRow() == 1
    objects.table.cellClicked.emit(2, 0)  # an object without a mask: nowhere to go
    desk.wait()
    assert desk.interaction.session.current == 3


def test_a_slider_outside_the_image_is_no_reason_to_fail(desk: Desk, objects: ObjectsWidget) -> None:
    _two_objects(desk)
    desk.viewer.add_image(np.zeros((40, 8, 8), np.uint8))
    _settle(desk, objects)
    desk.go(30)
    objects.table.cellClicked.emit(1, 0)
    desk.wait()
    assert desk.interaction.session.current == 2


def test_names_can_be_changed_and_nothing_else(desk: Desk, objects: ObjectsWidget) -> None:
    _two_objects(desk)
    _settle(desk, objects)
    objects.table.item(0, 1).setText("nucleus")
    _settle(desk, objects)
    assert desk.interaction.session.objects[1].name == "nucleus"
    for column in (0, 2, 3, 4):
        assert not objects.table.item(0, column).flags() & Qt.ItemFlag.ItemIsEditable


def test_a_finished_object_takes_no_mask(desk: Desk, objects: ObjectsWidget, warned: list[str]) -> None:
    _two_objects(desk)
    objects.done.click()
    _settle(desk, objects)
    assert _cell(objects, 0, 4) == "done"
    before = desk.plane(6).copy()
    desk.click(6, 30, 46)
    desk.interaction.accept()
    desk.wait()
    assert np.array_equal(desk.plane(6), before) and "reopen it" in warned[0]
    objects.done.click()
    _settle(desk, objects)
    assert _cell(objects, 0, 4) == "draft"


def test_delete_and_undo(desk: Desk, objects: ObjectsWidget) -> None:
    _two_objects(desk)
    before = np.asarray(desk.interaction.session.labels.array[:])
    objects.delete.click()
    _settle(desk, objects)
    assert _filled(desk, 1) == set() and [_cell(objects, r, 0) for r in range(2)] == ["2", "3"]
    desk.interaction.undo()
    _settle(desk, objects)
    assert np.array_equal(np.asarray(desk.interaction.session.labels.array[:]), before)
    assert _cell(objects, 0, 0) == "1"


def test_nothing_is_deleted_under_a_propagation(
    desk: Desk, objects: ObjectsWidget, warned: list[str]
) -> None:
    _two_objects(desk)
    said: list[str] = []
    desk.interaction.said.connect(said.append)
    desk.interaction.propagate()
    objects.delete.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert "Stop what is under way first (Shift-G)." in said and len(_filled(desk)) == 9 and not warned


def test_a_table_of_many_objects_is_not_filled_anew_for_each_change(
    desk: Desk, objects: ObjectsWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start()
    desk.interaction.session.adopt(range(1, 300))
    _settle(desk, objects)
    filled: list[int] = []
    fill = objects._fill
    monkeypatch.setattr(objects, "_fill", lambda row, texts: (filled.append(row), fill(row, texts)))
    for k in range(50):
        desk.interaction.session.rename(7, f"name {k}")
    _settle(desk, objects)
    assert set(filled) == {6} and len(filled) < 20 and _cell(objects, 6, 1) == "name 49"


# ---------------------------------------------------------------------- models


@pytest.fixture
def models(desk: Desk, qtbot: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelsWidget:
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path))
    panel = ModelsWidget(desk.viewer)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.005)


def _row(name: str) -> int:
    return next(k for k, m in enumerate(zoo.models()) if m.name == name)


def test_all_models_are_listed(models: ModelsWidget, tmp_path: Path) -> None:
    names = [models.table.item(r, 0).text() for r in range(models.table.rowCount())]
    assert names == [m.name for m in zoo.models()] and names[0] == "nano"
    assert models.table.item(_row("vit_b"), 4).text() == "no"
    assert models.table.item(_row("med2d_b"), 4).text() == "by hand"
    assert str(tmp_path) in models.where.text()
    models.fetch.click()
    assert "Choose a model" in models.where.text()


def test_a_download_shows_progress_and_the_model_is_used(
    desk: Desk, models: ModelsWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, go = [], threading.Event()

    def download(name: str, progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> Path:
        progress(10 * 2**20, 40 * 2**20)
        assert go.wait(5)
        return Path(name)

    monkeypatch.setattr(models_panel.zoo, "download", download)
    models.table.setCurrentCell(_row("vit_t"), 0)
    models.fetch.click()
    assert not models.fetch.isEnabled() and models.cancel.isVisible()
    _until(lambda: "10 of 40 MB" in models.progress.format())
    shown.append(models.progress.value())
    go.set()
    _until(models.fetch.isEnabled)
    assert shown == [10] and not models.progress.isVisible()
    assert "vit_t is ready and in use" in models.where.text()
    assert desk.interaction.ahead.model_name == "vit_t"


def test_a_download_can_be_cancelled_without_a_warning(
    desk: Desk, models: ModelsWidget, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(name: str, progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> Path:
        while not cancelled():
            time.sleep(0.01)
        raise CheckpointError("the download was cancelled; what has come is kept")

    monkeypatch.setattr(models_panel.zoo, "download", download)
    monkeypatch.setattr(models_panel, "notify", lambda e: warned.append(str(e)))
    models.table.setCurrentCell(_row("vit_t"), 0)
    models.fetch.click()
    models.cancel.click()
    _until(models.fetch.isEnabled)
    assert "kept" in models.where.text() and not warned and desk.interaction.ahead.model_name == "nano"


def test_what_cannot_be_downloaded_says_what_to_do(
    models: ModelsWidget, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_panel, "notify", lambda e: warned.append(str(e)))
    models.table.setCurrentCell(_row("med2d_b"), 0)
    models.fetch.click()
    _until(models.fetch.isEnabled)
    assert len(warned) == 1 and "sam-med2d_b.pth" in warned[0] and models.where.text() == warned[0]


def test_taking_the_panel_away_ends_a_download(
    desk: Desk, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled_at, began = threading.Event(), threading.Event()

    def download(name: str, progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> Path:
        began.set()
        while not cancelled():
            time.sleep(0.01)
        cancelled_at.set()
        raise CheckpointError("cancelled")

    monkeypatch.setattr(models_panel.zoo, "download", download)
    dock = QWidget()
    qtbot.addWidget(dock)
    panel = ModelsWidget(desk.viewer)
    panel.setParent(dock)
    panel.table.setCurrentCell(_row("vit_t"), 0)
    panel.fetch.click()
    assert began.wait(5)
    panel.setParent(None)
    _until(cancelled_at.is_set)
