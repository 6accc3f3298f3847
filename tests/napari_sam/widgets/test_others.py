"""The panels for propagation and models."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtWidgets import QApplication, QWidget

from napari_sam.widgets import models as models_panel
from napari_sam.widgets.models import ModelsWidget
from napari_sam.widgets.propagate import BACKWARDS, FORWARDS, PropagateWidget
from src_core import zoo
from src_core.errors import CheckpointError
from tests.napari_sam.conftest import Desk

# ------------------------------------------------------------------- propagate


@pytest.fixture
def propagate(desk: Desk, qtbot: Any) -> PropagateWidget:
    panel = PropagateWidget(desk.viewer)
    qtbot.addWidget(panel.native)
    return panel


def test_a_range_of_slices(desk: Desk, propagate: PropagateWidget) -> None:
    assert not propagate.run.enabled
    desk.two_objects(current=1)
    assert propagate.run.enabled and propagate.span.max == 11 and tuple(propagate.span.value) == (0, 11)
    propagate.span.value = (5, 8)
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert desk.filled() == {5, 6, 7, 8} and desk.filled(2) == {6}


@pytest.mark.parametrize("way, expected", [(FORWARDS, {6, 7, 8, 9, 10}), (BACKWARDS, {2, 3, 4, 5, 6})])
def test_one_way_from_the_slice_on_screen(
    desk: Desk, propagate: PropagateWidget, way: str, expected: set[int]
) -> None:
    desk.two_objects(current=1)
    propagate.direction.value = way
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert desk.filled() == expected


def test_all_objects_and_why_each_ended(desk: Desk, propagate: PropagateWidget) -> None:
    desk.two_objects(current=1)
    propagate.objects.value = "all that are not finished"
    enabled: list[tuple[bool, bool]] = []
    desk.interaction.progress_changed.connect(
        lambda p, _: enabled.append((propagate.run.enabled, propagate.stop.enabled))
    )
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert len(desk.filled(1)) == len(desk.filled(2)) == 9
    assert (False, True) in enabled and propagate.run.enabled and not propagate.stop.enabled
    lines = propagate.report.value.splitlines()
    assert len(lines) == 4 and lines[0].startswith("object 1: z=") and lines[-1].startswith("object 2: z=")


def test_the_stop_of_this_panel(desk: Desk, propagate: PropagateWidget) -> None:
    desk.two_objects(current=1)
    desk.predictor.delay_s = 0.05
    desk.interaction.progress_changed.connect(
        lambda p, _: propagate.stop.native.click() if p is not None and p.done == 1 else None
    )
    propagate.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert len(desk.filled()) < 9


def test_the_range_follows_the_axis_on_screen(desk: Desk, propagate: PropagateWidget) -> None:
    desk.start()
    desk.viewer.dims.order = (2, 0, 1)
    desk.wait()
    desk.interaction.changed.emit()
    assert propagate.span.max == 63


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
