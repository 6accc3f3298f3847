"""Work in the window that is there again the next time, and a session that another window has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.layers._source import layer_source

from napari_sam.registry import release
from napari_sam.widgets.segment import SegmentWidget
from src_core.session import replay
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import balls


def _begin(desk: Desk, path: Path) -> None:
    """Open a file like the viewer does, and begin on it."""
    if not path.exists():
        tifffile.imwrite(path, balls(), photometric="minisblack")
    with layer_source(path=str(path)):
        image = desk.viewer.add_image(tifffile.imread(path))
    desk.interaction.start(image)
    desk.wait(lambda: not desk.interaction.loading)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cells.tif"


@pytest.fixture
def later() -> Any:
    """Another viewer, as in the next program."""
    desk = Desk(ViewerModel())
    yield desk
    release(desk.viewer)


def _work(desk: Desk, path: Path) -> None:
    _begin(desk, path)
    desk.go(6)
    desk.click(6, 16, 16)
    assert desk.interaction.accept()
    desk.wait()
    desk.interaction.propagate()
    desk.wait()
    desk.interaction.next_object()
    desk.click(6, 30, 46)
    desk.click(6, 2, 2, negative=True)
    desk.interaction.scene.boxes.add(np.array([[6, 20, 36], [6, 20, 57], [6, 41, 57], [6, 41, 36]]))
    desk.wait()


def test_objects_anchors_and_prompts_come_back(desk: Desk, later: Desk, path: Path, tmp_path: Path) -> None:
    _work(desk, path)
    before = desk.interaction.session.objects
    labels = np.asarray(desk.interaction.session.labels.array[:])
    release(desk.viewer)
    _begin(later, path)
    interaction = later.interaction
    assert interaction.session.objects == before and interaction.session.current == 2
    assert (
        interaction.session.objects[1].anchors == {PlaneRef("z", 6)} and interaction.session.objects[1].scores
    )
    points, boxes = interaction.scene.points, interaction.scene.boxes
    assert sorted(map(tuple, points.data.tolist())) == [(6, 2, 2), (6, 16, 16), (6, 30, 46)]
    signs = dict(zip(map(tuple, points.data.tolist()), points.features["label"], strict=True))
    assert signs[6, 2, 2] == "negative" and signs[6, 16, 16] == "positive"
    assert len(boxes.data) == 1 and boxes.shape_type == ["rectangle"]
    later.go(6)
    assert interaction.prompting.candidates is not None, "what was not accepted is asked again"
    release(later.viewer)
    again = replay(tmp_path / "cells.sam.zarr", tmp_path / "again.zarr")
    assert np.array_equal(again.labels.array[:], labels)


def test_waiting_candidates_come_back_as_they_were(desk: Desk, later: Desk, path: Path) -> None:
    _begin(desk, path)
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.cycle()
    before = desk.interaction.prompting.candidates
    assert desk.interaction.prompting.chosen == 1
    release(desk.viewer)
    later.go(2)
    _begin(later, path)
    prompting = later.interaction.prompting
    assert later.viewer.dims.current_step[0] == 6 and prompting.chosen == 1
    assert np.array_equal(prompting.candidates.masks, before.masks)
    assert np.array_equal(prompting.candidates.scores, before.scores)
    assert later.interaction.scene.preview.layer.data.any()
    later.click(6, 17, 18)  # refines what is shown
    assert prompting.candidates is not None and later.interaction.session.waiting is not None
    assert later.interaction.accept()
    later.wait()
    assert (later.plane(6) == 1).any() and later.interaction.session.waiting is None


def test_candidates_that_were_accepted_or_left_do_not_come_back(desk: Desk, later: Desk, path: Path) -> None:
    _begin(desk, path)
    desk.keep()
    desk.interaction.next_object()
    desk.click(6, 30, 46)
    assert desk.interaction.session.waiting is not None
    desk.go(2)
    assert desk.interaction.session.waiting is None
    release(desk.viewer)
    _begin(later, path)
    assert later.interaction.prompting.candidates is None


def test_undo_reaches_back_to_before_the_restart(
    desk: Desk, later: Desk, path: Path, warned: list[str]
) -> None:
    _work(desk, path)
    release(desk.viewer)
    _begin(later, path)
    interaction = later.interaction
    for _ in range(3):  # the box, the negative point, the point of object 2
        interaction.undo()
        later.wait()
    assert [tuple(p) for p in interaction.scene.points.data] == [(6, 16, 16)]
    assert not len(interaction.scene.boxes.data)
    assert interaction.session.undo_name == "propagate object 1"
    for _ in range(2):
        interaction.undo()
        later.wait()
    assert not np.asarray(interaction.session.labels.array[:]).any()
    interaction.undo()
    later.wait()
    assert not len(interaction.scene.points.data)
    for _ in range(6):
        interaction.redo()
        later.wait()
    assert len(interaction.scene.points.data) == 3 and len(interaction.scene.boxes.data) == 1
    assert interaction.session.redo_name is None and warned == []
    interaction.scene.boxes.add(np.array([[6, 7, 7], [6, 7, 25], [6, 25, 25], [6, 25, 7]]))
    later.wait()
    assert len(interaction.session.objects[2].prompts.shapes) == 2 and warned == []


def test_a_second_window_may_only_look(desk: Desk, later: Desk, path: Path, warned: list[str]) -> None:
    _work(desk, path)
    _begin(later, path)
    assert len(warned) == 1 and "open in another window" in warned[0]
    assert later.interaction.session.objects == desk.interaction.session.objects
    scene = later.interaction.scene
    assert not any(layer.editable for layer in (scene.labels, scene.points, scene.boxes))
    before = scene.points.data.copy()
    later.click(6, 30, 46)  # a script does it all the same
    assert np.array_equal(scene.points.data, before) and "only be looked at" in warned.pop()
    size = (path.parent / "cells.sam.zarr" / "session" / "journal.jsonl").stat().st_size
    later.interaction.next_object()
    assert len(warned) >= 2 and "only be looked at" in warned[-1]
    assert (path.parent / "cells.sam.zarr" / "session" / "journal.jsonl").stat().st_size == size
    desk.interaction.next_object()
    assert desk.interaction.session.current == 3


def test_a_second_window_goes_on_once_the_first_has_gone(
    desk: Desk, later: Desk, path: Path, warned: list[str], qtbot: Any
) -> None:
    _work(desk, path)
    panel = SegmentWidget(later.viewer)
    qtbot.addWidget(panel)
    _begin(later, path)
    later.wait()
    assert "only to look at" in panel.object.text() and "process" in panel.object.toolTip()
    assert "only be looked at" in panel.status.text() and "2 objects" in panel.status.text()
    for button in (panel.accept, panel.next, panel.undo, panel.propagate, panel.review.right):
        assert not button.isEnabled()
    later.interaction.undo()
    later.wait()
    assert "only be looked at" in warned[-1]
    release(desk.viewer)
    later.interaction.start(later.interaction.image)  # the user chooses the image once more
    later.wait(lambda: not later.interaction.loading)
    assert "only to look at" not in panel.object.text() and panel.next.isEnabled()
    assert later.interaction.scene.labels.editable
    later.interaction.next_object()
    assert later.interaction.session.current == 3


def test_a_journal_that_is_refused_costs_no_labels(
    desk: Desk, later: Desk, path: Path, warned: list[str]
) -> None:
    _work(desk, path)
    release(desk.viewer)
    journal = path.parent / "cells.sam.zarr" / "session" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"version":1', b'"version":9', 1))
    _begin(later, path)
    assert len(warned) == 1 and "version 9" in warned[0]
    assert list(later.interaction.session.objects) == [1] and later.plane(6).any()
    later.interaction.next_object()
    later.go(6)
    later.click(6, 30, 46)
    assert later.interaction.accept()
    later.wait()
    assert (later.plane(6) == 2).any()


def test_objects_made_of_a_layer_come_back_and_can_be_taken_back(desk: Desk, later: Desk, path: Path) -> None:
    _begin(desk, path)
    desk.interaction.use_layer(desk.viewer.add_points(np.array([[6.0, 16, 16], [5, 30, 46]]), name="seeds"))
    desk.wait(lambda: not desk.interaction.propagating)
    before = desk.interaction.session.objects
    assert {k for k, o in before.items() if o.anchors} == {1, 2}
    release(desk.viewer)
    _begin(later, path)
    session = later.interaction.session
    assert session.objects == before and session.current == 3 and session.labels.array[:].any()
    later.interaction.undo()
    later.wait()
    assert not session.labels.array[:].any() and set(session.objects) == {3}
