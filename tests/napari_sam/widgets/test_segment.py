"""The main panel follows the layers and the work, and its buttons do what they say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from qtpy.QtWidgets import QApplication, QLabel

from napari_sam.widgets.segment import SegmentWidget
from src_core import zoo
from src_core.errors import CheckpointError
from src_core.session_propagation import PropagationProgress
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import balls


@pytest.fixture
def panel(desk: Desk, qtbot: Any) -> SegmentWidget:
    panel = SegmentWidget(desk.viewer)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def _items(panel: SegmentWidget) -> list[str]:
    return [panel.image.itemText(k) for k in range(panel.image.count())]


def _choose(panel: SegmentWidget, name: str) -> None:
    panel.image.setCurrentIndex(panel.image.findText(name))
    panel.image.activated.emit(panel.image.currentIndex())


def _begin(desk: Desk, panel: SegmentWidget) -> None:
    desk.viewer.add_image(balls(), name="stack")
    _choose(panel, "stack")
    desk.go(6)


def test_images_come_go_and_change_their_names(desk: Desk, panel: SegmentWidget) -> None:
    assert _items(panel) == ["–"]
    first = desk.viewer.add_image(balls(), name="one")
    desk.viewer.add_labels(np.zeros((12, 48, 64), int))
    desk.viewer.add_image(balls(), name="two")
    assert _items(panel) == ["–", "one", "two"]
    _choose(panel, "one")
    assert panel.image.currentText() == "one" and desk.interaction.image is first
    assert _items(panel) == ["–", "one", "two"], "our own layers are no images"
    first.name = "renamed"
    assert panel.image.currentText() == "renamed"
    desk.viewer.layers.remove("two")
    assert _items(panel) == ["–", "renamed"] and panel.image.currentText() == "renamed"
    desk.viewer.layers.remove(first)
    assert _items(panel) == ["–"] and desk.interaction.session is None
    assert "removed" in panel.status.text() and "choose an image" in panel.status.text()
    assert not panel.next.isEnabled() and not panel.accept.isEnabled()


def test_the_only_image_is_begun_on_by_itself(desk: Desk, qtbot: Any) -> None:
    desk.viewer.add_image(balls(), name="stack")
    panel = SegmentWidget(desk.viewer)
    qtbot.addWidget(panel)
    assert panel.image.currentText() == "stack" and desk.interaction.session is not None


def test_choosing_nothing_keeps_the_image_in_use(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    _choose(panel, "–")
    assert panel.image.currentText() == "stack"


def test_an_image_that_cannot_be_used_says_why_and_leaves_the_other(
    desk: Desk, panel: SegmentWidget, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.widgets.segment.notify", lambda e: warned.append(str(e)))
    _begin(desk, panel)
    desk.viewer.add_image(np.zeros((12, 48, 3)), name="odd", axis_labels=("y", "x", "z"))
    _choose(panel, "odd")
    assert "transpose it" in panel.status.text() and "transpose it" in warned[0]
    assert panel.image.currentText() == "stack" and desk.interaction.session is not None


def test_candidates_have_buttons_with_their_scores(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    assert [b.text() for b in panel.candidate_buttons] == ["–"] * 3
    assert not panel.accept.isEnabled()
    desk.click(6, 16, 16)
    assert [b.text() for b in panel.candidate_buttons] == ["1:  0.90", "2:  0.70", "3:  0.50"]
    assert [b.isChecked() for b in panel.candidate_buttons] == [True, False, False]
    assert panel.accept.isEnabled() and "Candidate 1 of 3, score 0.90" in panel.status.text()
    panel.candidate_buttons[2].click()
    desk.wait()
    assert desk.interaction.prompting.chosen == 2
    assert [b.isChecked() for b in panel.candidate_buttons] == [False, False, True]
    chosen = desk.interaction.prompting.candidates.masks[2]
    panel.accept.click()
    desk.wait()
    assert np.array_equal(desk.plane(6) == 1, chosen)
    assert "Object 1 kept" in panel.status.text() and not panel.accept.isEnabled()


def test_object_and_sign_are_shown(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    assert "Object 1" in panel.object.text() and "OUTSIDE" not in panel.object.text()
    desk.interaction.flip_sign()
    desk.wait()
    assert "OUTSIDE" in panel.object.text() and "outside the object" in panel.status.text()
    desk.interaction.session.rename(1, "nucleus")
    panel.next.click()
    desk.wait()
    assert "Object 2" in panel.object.text()
    desk.interaction.select(1)
    desk.wait()
    assert "nucleus" in panel.object.text()


def test_undo_and_redo_say_what_they_would_do(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    assert not panel.undo.isEnabled() and not panel.redo.isEnabled()
    desk.click(6, 16, 16)
    assert panel.undo.isEnabled() and "prompt" in panel.undo.toolTip()
    desk.interaction.accept()
    desk.wait()
    assert "accept object 1" in panel.undo.toolTip()
    panel.undo.click()
    desk.wait()
    assert not desk.plane(6).any() and "accept object 1" in panel.redo.toolTip()
    assert panel.status.text() == "Candidate 1 of 3, score 0.90." or "Undo" in panel.status.text()
    panel.redo.click()
    desk.wait()
    assert desk.plane(6).any()


def test_propagating_shows_progress_time_left_and_stop(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    desk.click(6, 16, 16)
    shown: list[tuple[bool, bool, str, bool]] = []

    def look(progress: Any, left: Any) -> None:
        shown.append(
            (
                panel.progress.isVisible(),
                panel.stop.isVisible(),
                panel.progress.format(),
                panel.propagate.isEnabled(),
            )
        )

    desk.interaction.progress_changed.connect(look)
    panel.propagate.click()
    desk.wait(lambda: not desk.interaction.propagating)
    under_way = shown[1:-1]
    assert all(visible and stop for visible, stop, _, _ in under_way) and len(under_way) > 3
    assert not any(enabled for _, _, _, enabled in under_way)
    assert any("left" in text and text.startswith("slice ") for _, _, text, _ in under_way)
    assert not panel.progress.isVisible() and not panel.stop.isVisible() and panel.propagate.isEnabled()
    assert "Propagated" in panel.status.text()


def test_the_stop_button_stops(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    desk.click(6, 16, 16)
    desk.predictor.delay_s = 0.05
    desk.interaction.progress_changed.connect(lambda p, _: panel.stop.click() if p and p.done == 2 else None)
    panel.propagate.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert "Stopped; what was done is kept." in panel.status.text()
    assert 0 < sum((desk.plane(z) == 1).any() for z in range(12)) < 8


@pytest.mark.parametrize("seconds, text", [(3.4, "3 s left"), (240, "4 min left"), (None, "slice 1 of 9")])
def test_time_left_in_words(panel: SegmentWidget, seconds: float | None, text: str) -> None:
    panel._show_progress(PropagationProgress(1, 9), seconds)
    assert text in panel.progress.format() and panel.progress.value() == 1 and panel.progress.maximum() == 9


def test_all_objects_that_are_not_finished_are_propagated(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    for y, x in ((16, 16), (30, 46)):
        desk.click(6, y, x)
        desk.interaction.next_object()
        desk.wait()
    desk.interaction.session.set_done(1)
    panel.propagate_all.click()
    desk.wait(lambda: not desk.interaction.propagating)
    assert (desk.plane(4) == 2).any() and not (desk.plane(4) == 1).any()


def test_the_strip_shows_what_is_ready_filled_and_on_screen(desk: Desk, panel: SegmentWidget) -> None:
    _begin(desk, panel)
    strip = panel.review.strip
    assert strip.isVisible() and strip._count == 12 and strip._here == 6 and 6 in strip._ready
    desk.click(6, 16, 16)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating and 5 in strip._filled)
    assert strip._made == {6} and 6 not in strip._filled
    before = strip.grab().toImage()
    desk.go(2)
    desk.wait(lambda: strip._here == 2)
    assert strip.grab().toImage() != before
    desk.viewer.dims.order = (1, 0, 2)
    desk.wait(lambda: strip._count == 48)
    assert strip._made == set()


def test_a_single_image_has_no_strip(desk: Desk, panel: SegmentWidget) -> None:
    desk.viewer.add_image(balls()[6], name="flat")
    _choose(panel, "flat")
    desk.wait()
    assert not panel.review.strip.isVisible()


def test_the_keys_are_listed(panel: SegmentWidget) -> None:
    text = " ".join(label.text() for label in panel.findChildren(QLabel))
    for key in ("Click", "Shift-click", "W", "Q", "N", "G", "Shift-G", "U", "J", "K", "Control-Z"):
        assert f"<b>{key}</b>" in text


def test_a_model_without_its_file_is_one_warning_that_says_what_to_do(
    desk: Desk, panel: SegmentWidget, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        raise CheckpointError(f"the weights of {name} are not on this computer; download them in Models")

    monkeypatch.setattr("napari_sam.ahead.zoo.load", load)
    _begin(desk, panel)
    desk.interaction.set_model("vit_b")
    desk.wait()
    assert len(warned) == 1 and "download them" in warned[0] and "download them" in panel.status.text()
    desk.go(2)
    assert len(warned) == 1, "not once a slice"
    desk.click(2, 16, 16)
    assert len(warned) == 2, "but again when the user asks for something"
    desk.interaction.ahead.predictor = desk.predictor
    desk.interaction.set_model("nano")
    desk.go(6)
    desk.click(6, 16, 16)
    assert desk.interaction.prompting.candidates is not None, "and another model works at once"


def test_a_model_that_cannot_be_fetched_says_what_to_do_instead(
    desk: Desk,
    panel: SegmentWidget,
    warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def get(*_: Any, **__: Any) -> None:
        raise requests.ConnectionError("HTTPSConnectionPool(host='nowhere', port=443): Max retries exceeded")

    monkeypatch.setattr(requests, "get", get)
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    _begin(desk, panel)
    desk.interaction.set_model("vit_b")
    desk.wait()
    assert len(warned) == 1 and "HTTPSConnectionPool" not in warned[0]
    file = zoo.named("vit_b").file
    assert all(word in warned[0] for word in ("vit_b", "nano", file, str(tmp_path / "models")))
    assert panel.status.text() == warned[0]


def test_the_model_shown_is_the_one_in_use(
    desk: Desk, panel: SegmentWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    there = [SimpleNamespace(name="vit_t", downloaded="here"), SimpleNamespace(name="vit_h", downloaded=None)]
    monkeypatch.setattr("napari_sam.widgets.segment.zoo.models", lambda: there)
    desk.interaction.set_model("vit_t")
    desk.interaction.changed.emit()
    desk.wait()
    assert panel.model.currentData() == "vit_t" and panel.model.count() == 1
    desk.interaction.set_model("nano")
    desk.interaction.changed.emit()
    desk.wait()
    assert panel.model.currentIndex() == -1


def test_no_progress_is_left_when_the_image_goes_in_mid_propagation(desk: Desk, panel: SegmentWidget) -> None:
    desk.predictor.delay_s = 0.05
    _begin(desk, panel)
    desk.click(6, 16, 16)
    shown: list[object] = []
    desk.interaction.progress_changed.connect(lambda progress, _: shown.append(progress))
    desk.interaction.propagate()
    end = time.monotonic() + 30
    while len(shown) < 3 and time.monotonic() < end:
        QApplication.processEvents()
    assert desk.interaction.propagating and panel.progress.isVisible()
    desk.viewer.layers.remove(desk.interaction.image)
    desk.wait()
    assert not panel.progress.isVisible() and not panel.stop.isVisible()


def test_nothing_needs_room_that_it_has_not_had_before(desk: Desk, panel: SegmentWidget) -> None:
    # A panel that grows makes napari lay out and paint the whole window at once.
    _begin(desk, panel)
    before = panel.minimumSizeHint()
    panel._show_progress(PropagationProgress(3, 12), 5.0)
    assert panel.progress.isVisible() and panel.minimumSizeHint() == before
