"""The table of objects and what can be done with them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_sam.object_tools import CUT
from napari_sam.registry import release
from napari_sam.widgets.objects import LOWEST, NAME, NUMBER, SIZE, SLICES, STATE, ObjectsWidget
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import balls


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
    desk.two_objects(current=1)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    _settle(desk, objects)
    assert [_cell(objects, r, NUMBER) for r in range(3)] == ["1", "2", "3"]
    assert [_cell(objects, r, SLICES) for r in range(3)] == ["9", "1", ""]
    assert 0 < float(_cell(objects, 0, LOWEST)) <= 1 and _cell(objects, 1, LOWEST) == ""
    assert objects.table.currentRow() == 0


def test_a_click_selects_and_goes_to_the_object(desk: Desk, objects: ObjectsWidget) -> None:
    desk.two_objects(current=1)
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
    desk.two_objects(current=1)
    desk.viewer.add_image(np.zeros((40, 8, 8), np.uint8))
    _settle(desk, objects)
    desk.go(30)
    objects.table.cellClicked.emit(1, 0)
    desk.wait()
    assert desk.interaction.session.current == 2


def test_only_names_and_numbers_can_be_changed(desk: Desk, objects: ObjectsWidget) -> None:
    desk.two_objects(current=1)
    _settle(desk, objects)
    objects.table.item(0, NAME).setText("nucleus")
    _settle(desk, objects)
    assert desk.interaction.session.objects[1].name == "nucleus"
    for column in (SLICES, SIZE, LOWEST, STATE):
        assert not objects.table.item(0, column).flags() & Qt.ItemFlag.ItemIsEditable


def test_a_finished_object_takes_no_mask(desk: Desk, objects: ObjectsWidget, warned: list[str]) -> None:
    desk.two_objects(current=1)
    objects.done.click()
    _settle(desk, objects)
    assert _cell(objects, 0, STATE) == "done"
    before = desk.plane(6).copy()
    desk.click(6, 30, 46)
    desk.interaction.accept()
    desk.wait()
    assert np.array_equal(desk.plane(6), before) and "reopen it" in warned[0]
    objects.done.click()
    _settle(desk, objects)
    assert _cell(objects, 0, STATE) == "draft"


def test_delete_and_undo(desk: Desk, objects: ObjectsWidget) -> None:
    desk.two_objects(current=1)
    before = np.asarray(desk.interaction.session.labels.array[:])
    objects.delete.click()
    _settle(desk, objects)
    assert desk.filled(1) == set() and [_cell(objects, r, NUMBER) for r in range(2)] == ["2", "3"]
    desk.interaction.undo()
    _settle(desk, objects)
    assert np.array_equal(np.asarray(desk.interaction.session.labels.array[:]), before)
    assert _cell(objects, 0, NUMBER) == "1"


def test_nothing_is_deleted_under_a_propagation(
    desk: Desk, objects: ObjectsWidget, warned: list[str]
) -> None:
    desk.two_objects(current=1)
    said: list[str] = []
    desk.interaction.said.connect(said.append)
    desk.interaction.propagate()
    objects.delete.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert "Stop what is under way first (Shift-G)." in said and len(desk.filled()) == 9 and not warned


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
    assert set(filled) == {6} and len(filled) < 20 and _cell(objects, 6, NAME) == "name 49"


def _labels(desk: Desk) -> np.ndarray:
    return np.asarray(desk.interaction.session.labels.array[:])


def test_volumes_have_units_and_follow_every_change(desk: Desk, objects: ObjectsWidget) -> None:
    desk.start(scale=(2, 0.5, 0.5), units=("um", "um", "um"))
    desk.keep()
    _settle(desk, objects)
    assert objects.table.horizontalHeaderItem(SIZE).text() == "Volume (µm³)"
    assert float(_cell(objects, 0, SIZE)) == pytest.approx((_labels(desk) == 1).sum() * 0.5, rel=1e-3)
    labels = desk.interaction.scene.labels
    labels.brush_size = 5
    labels.paint((6, 40, 8), 1)
    _settle(desk, objects)
    assert float(_cell(objects, 0, SIZE)) == pytest.approx((_labels(desk) == 1).sum() * 0.5, rel=1e-3)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    desk.interaction.undo()
    _settle(desk, objects)
    assert float(_cell(objects, 0, SIZE)) == pytest.approx((_labels(desk) == 1).sum() * 0.5, rel=1e-3)


def test_rows_show_the_colours_of_the_labels(desk: Desk, objects: ObjectsWidget) -> None:
    desk.two_objects(current=1)
    _settle(desk, objects)
    for row, identity in enumerate((1, 2)):
        image = objects.table.item(row, NUMBER).icon().pixmap(12, 12).toImage()
        shown = image.pixelColor(5, 5).getRgbF()[:3]
        assert np.allclose(shown, desk.interaction.scene.labels.get_color(identity)[:3], atol=0.01)


def test_merging_selected_objects_takes_their_points_along(desk: Desk, objects: ObjectsWidget) -> None:
    desk.two_objects(current=1)
    _settle(desk, objects)
    before = _labels(desk)
    assert not objects.merge.isEnabled()
    objects.table.selectionModel().select(
        objects.table.model().index(1, 0),
        objects.table.selectionModel().SelectionFlag.Select
        | objects.table.selectionModel().SelectionFlag.Rows,
    )
    assert objects.merge.isEnabled()
    objects.merge.click()
    _settle(desk, objects)
    assert [_cell(objects, r, NUMBER) for r in range(2)] == ["1", "3"]
    assert np.array_equal(_labels(desk) == 1, before > 0)
    points = desk.interaction.scene.points
    assert points.features["object"].tolist() == [1, 1] and points.shown.all()
    desk.interaction.undo()
    _settle(desk, objects)
    assert np.array_equal(_labels(desk), before)
    assert sorted(points.features["object"]) == [1, 2] and points.shown.sum() == 1


def test_another_number(desk: Desk, objects: ObjectsWidget, warned: list[str]) -> None:
    desk.two_objects(current=1)
    _settle(desk, objects)
    before = _labels(desk)
    objects.table.item(0, NUMBER).setText("9")
    _settle(desk, objects)
    assert np.array_equal(_labels(desk) == 9, before == 1) and desk.interaction.session.current == 9
    assert [_cell(objects, r, NUMBER) for r in range(3)] == ["2", "3", "9"]
    assert 9 in desk.interaction.scene.points.features["object"].tolist()
    objects.table.item(0, NUMBER).setText("9")
    _settle(desk, objects)
    assert "merge object 2 with it" in warned[0] and _cell(objects, 0, NUMBER) == "2"
    objects.table.item(0, NUMBER).setText("two")
    _settle(desk, objects)
    assert _cell(objects, 0, NUMBER) == "2" and len(warned) == 1
    desk.interaction.undo()
    _settle(desk, objects)
    assert np.array_equal(_labels(desk), before)


def _joined(desk: Desk, objects: ObjectsWidget) -> np.ndarray:
    desk.two_objects(current=1)
    objects.tools.merge([1, 2])
    _settle(desk, objects)
    return _labels(desk)


def test_a_cut_along_a_line(desk: Desk, objects: ObjectsWidget) -> None:
    before = _joined(desk, objects)
    objects.tools.cut_by_line()
    layer = desk.viewer.layers[CUT]
    assert desk.viewer.layers.selection.active is layer and layer.mode == "add_line"
    layer.add_lines(np.array([[6.0, 0, 32], [6, 47, 32]]))
    _settle(desk, objects)
    assert CUT not in desk.viewer.layers
    assert desk.viewer.layers.selection.active is desk.interaction.scene.points
    after = _labels(desk)
    halves = {k: set(np.nonzero(after == k)[2] > 31) for k in (1, 4)}
    assert {frozenset(h) for h in halves.values()} == {frozenset({True}), frozenset({False})}
    assert np.array_equal(after > 0, before > 0)
    desk.interaction.undo()
    _settle(desk, objects)
    assert np.array_equal(_labels(desk), before)


def test_a_cut_between_two_clicks(desk: Desk, objects: ObjectsWidget, warned: list[str]) -> None:
    before = _joined(desk, objects)
    objects.tools.cut_by_clicks()
    layer = desk.viewer.layers[CUT]
    layer.add(np.array([6.0, 16, 16]))
    desk.wait()
    assert CUT in desk.viewer.layers and np.array_equal(_labels(desk), before)
    layer.add(np.array([6.0, 30, 46]))
    _settle(desk, objects)
    after = _labels(desk)
    assert after[6, 16, 16] == 1 and after[6, 30, 46] == 4 and CUT not in desk.viewer.layers
    features = desk.interaction.scene.points.features["object"]
    assert dict(zip(map(tuple, desk.interaction.scene.points.data), features, strict=True)) == {
        (6, 16, 16): 1,
        (6, 30, 46): 4,
    }
    objects.tools.cut_by_clicks()
    desk.viewer.layers[CUT].add(np.array([[6.0, 1, 1], [6, 2, 2]]))
    _settle(desk, objects)
    assert "is not in object" in warned[0] and np.array_equal(_labels(desk), after)


def test_points_of_a_deleted_object_are_not_those_of_the_next(desk: Desk, objects: ObjectsWidget) -> None:
    desk.start()
    desk.keep()
    desk.interaction.next_object()
    desk.click(6, 30, 46)
    objects.delete.click()
    _settle(desk, objects)
    desk.interaction.next_object()
    assert desk.interaction.session.current == 2
    assert not desk.interaction.scene.points.shown.any()
    assert desk.interaction.session.objects[2].prompts.points == ()


def test_measurements_are_written_as_a_table(
    desk: Desk, objects: ObjectsWidget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.two_objects(current=1)
    _settle(desk, objects)
    desk.interaction.session.rename(2, "right one")
    proposed: list[str] = []

    def chosen(*arguments: Any) -> tuple[str, str]:
        proposed.append(arguments[2])
        return str(tmp_path / "found.csv"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", chosen)
    objects.measure.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert proposed[0].endswith("_objects.csv")
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    assert [(r["id"], r["name"]) for r in rows] == [("1", ""), ("2", "right one")]
    assert int(rows[0]["pixels"]) == (_labels(desk) == 1).sum()


def test_a_finished_object_is_reopened_with_all_its_prompts_after_a_restart(
    desk: Desk, objects: ObjectsWidget, tmp_path: Path, qtbot: Any
) -> None:
    image = desk.viewer.add_image(balls(), name="stack")
    desk.interaction.start(image, tmp_path)
    desk.keep()
    desk.click(6, 17, 18)
    desk.click(6, 44, 4, negative=True)
    desk.interaction.accept()
    desk.wait()
    objects.done.click()
    desk.interaction.next_object()
    desk.wait()
    release(desk.viewer)
    later = Desk(ViewerModel())
    panel = ObjectsWidget(later.viewer)
    qtbot.addWidget(panel)
    later.interaction.start(later.viewer.add_image(balls(), name="stack"), tmp_path)
    later.wait(lambda: not later.interaction.loading)
    _settle(later, panel)
    assert _cell(panel, 0, STATE) == "done"
    panel.table.cellClicked.emit(0, 0)
    panel.done.click()
    _settle(later, panel)
    assert _cell(panel, 0, STATE) == "draft" and later.viewer.dims.current_step[0] == 6
    points = later.interaction.scene.points
    assert points.shown.sum() == 3 and sorted(points.features["label"]) == [
        "negative",
        "positive",
        "positive",
    ]
    later.click(6, 20, 20)
    assert later.interaction.accept()
    later.wait()
    assert later.interaction.session.objects[1].anchors == {PlaneRef("z", 6)}
    release(later.viewer)
