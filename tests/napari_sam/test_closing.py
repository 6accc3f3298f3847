"""Panels and viewers that are closed, in any order, at any moment: nothing stays alive, no label is lost."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication

from napari_sam import registry
from napari_sam.registry import interaction_of
from napari_sam.shortcuts import SHORTCUTS
from napari_sam.widgets.models import ModelsWidget
from napari_sam.widgets.objects import ObjectsWidget
from napari_sam.widgets.propagate import PropagateWidget
from napari_sam.widgets.segment import SegmentWidget
from src_core.labels import LabelVolume
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import Threshold, balls

PANELS: dict[str, Callable[[Any], Any]] = {
    "Segment": SegmentWidget,
    "Propagate": PropagateWidget,
    "Objects": ObjectsWidget,
    "Models": ModelsWidget,
}


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("napari-sam")]


def _until(holds: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        for _ in range(20):  # much quicker than looking for garbage
            QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()
        time.sleep(0.01)


class Held(Threshold):
    """A network that stops in the midst of a propagation until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.go, self.gone = 4, threading.Event(), threading.Event()

    def predict_many(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            self.go.wait(600)
            self.gone.set()
        return super().predict_many(*args, **kwargs)


def _dock(viewer: Any, name: str) -> tuple[Any, Any]:
    panel = PANELS[name](viewer)
    return panel, viewer.window.add_dock_widget(panel, name=name)


def _desk(viewer: Any, predictor: Threshold | None = None) -> Desk:
    desk = Desk(viewer)
    if predictor is not None:
        desk.interaction.ahead.predictor = desk.predictor = predictor
    return desk


@pytest.mark.parametrize("names", [[n] for n in PANELS] + [list(PANELS)], ids=",".join)
def test_closing_the_viewer_ends_everything(make_napari_viewer: Any, names: list[str]) -> None:
    viewer = make_napari_viewer()
    watched: dict[str, Any] = {}
    for name in names:
        panel, _ = _dock(viewer, name)
        watched[name] = weakref.ref(panel)
        del panel, _
    desk = _desk(viewer)
    desk.start()
    desk.keep()
    scene = desk.interaction.scene
    for thing in (desk.interaction, scene, desk.interaction.session, scene.points, desk.interaction.main):
        watched[type(thing).__name__] = weakref.ref(thing)
    del thing
    path = desk.interaction.session.labels.path
    assert sorted(_threads()) == ["napari-sam inference", "napari-sam journal"]
    viewer.close()
    del viewer, desk, scene
    _until(lambda: not _threads() and not any(r() for r in watched.values()))
    assert not registry._interactions and not registry._users
    assert (LabelVolume.open(path).read_plane("z", 6) == 1).any()


def test_closing_the_viewer_in_mid_propagation(
    make_napari_viewer: Any, caplog: Any, warned: list[str]
) -> None:
    viewer = make_napari_viewer()
    _dock(viewer, "Segment")
    held = Held()
    desk = _desk(viewer, held)
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    steps: list[object] = []
    desk.interaction.progress_changed.connect(lambda p, _: steps.append(p))
    desk.interaction.propagate()
    _until(lambda: len(steps) >= 3)
    path, interaction = desk.interaction.session.labels.path, desk.interaction
    viewer.close()
    _until(lambda: interaction._closed)
    assert not held.gone.is_set(), "closing has not waited for the network"
    held.go.set()
    _until(lambda: not _threads())
    assert not warned
    written = LabelVolume.open(path)
    filled = [z for z in range(12) if (written.read_plane("z", z) == 1).any()]
    assert 6 in filled and 1 < len(filled) < 9
    expected = (balls() > 100) & (np.indices(balls().shape)[2] < 32)
    assert all(np.array_equal(written.read_plane("z", z) == 1, expected[z]) for z in filled)
    assert not [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")]


def test_closing_the_panel_ends_the_work_and_leaves_the_labels_on_view(window: Desk) -> None:
    viewer = window.viewer
    _, dock = _dock(viewer, "Segment")
    callbacks = len(viewer.mouse_drag_callbacks)
    image = window.start()
    window.go(6)
    window.click(6, 16, 16)
    window.interaction.accept()
    window.wait()
    assert len(viewer.keymap) == len(SHORTCUTS)
    dock.destroyOnClose()  # what the cross in the dock's title calls
    _until(lambda: not _threads())
    assert len(viewer.keymap) == 0 and len(viewer.mouse_drag_callbacks) == callbacks
    assert [layer.name for layer in viewer.layers] == [image.name, "SAM objects"]
    assert (np.asarray(viewer.layers["SAM objects"].data[6]) == 1).any()
    viewer.dims.set_current_step(0, 2)  # nothing of ours answers any more
    viewer.layers["SAM objects"].paint((2, 5, 5), 1)


def test_a_panel_opened_again_goes_on_with_the_same_labels(window: Desk) -> None:
    viewer = window.viewer
    _, dock = _dock(viewer, "Segment")
    window.start()
    window.go(6)
    window.click(6, 16, 16)
    window.interaction.next_object()
    window.wait()
    path = window.interaction.session.labels.path
    dock.destroyOnClose()
    _until(lambda: not _threads())
    again = _desk(viewer)
    panel, _ = _dock(viewer, "Segment")
    again.wait(lambda: not again.interaction.loading)
    assert panel.image.currentText() == "Image" and again.interaction.session.labels.path == path
    assert [layer.name for layer in viewer.layers].count("SAM objects") == 1
    assert len(viewer.layers) == 5
    assert again.interaction.session.current == 2, "the object that had been started"
    again.go(6)
    again.click(6, 30, 46)
    again.interaction.accept()
    again.wait()
    assert {1, 2} <= set(np.unique(again.plane(6)).tolist())
    assert (np.asarray(viewer.layers["SAM objects"].data[6]) == 2).any()


def test_hiding_a_panel_or_moving_its_dock_ends_nothing(window: Desk) -> None:
    _, dock = _dock(window.viewer, "Segment")
    window.start()
    window.go(6)
    dock.hide()
    dock.setFloating(True)
    dock.close()
    dock.show()
    dock.setFloating(False)
    window.wait()
    window.click(6, 16, 16)
    assert window.interaction.prompting.candidates is not None


def test_the_work_lasts_as_long_as_one_panel_is_open(window: Desk) -> None:
    _, segment = _dock(window.viewer, "Segment")
    _dock(window.viewer, "Objects")
    window.start()
    segment.destroyOnClose()
    window.wait(lambda: len(window.viewer.keymap) == 0)
    assert _threads() and window.interaction.session is not None
    panel, _ = _dock(window.viewer, "Segment")
    assert panel.interaction is window.interaction and panel.image.currentText() == "Image"


def test_two_viewers_do_not_know_each_other(make_napari_viewer: Any) -> None:
    desks = []
    for _ in range(2):
        viewer = make_napari_viewer()
        _dock(viewer, "Segment")
        desks.append(_desk(viewer))
    first, second = desks
    assert first.interaction is not second.interaction
    for desk in desks:
        desk.start()
        desk.go(6)
    first.click(6, 16, 16)
    first.interaction.accept()
    first.wait()
    second.click(6, 30, 46)
    assert first.interaction.session.labels.path != second.interaction.session.labels.path
    assert not second.plane(6).any() and first.plane(6).any()
    first.viewer.close()
    _until(lambda: len(_threads()) == 2)
    second.interaction.accept()
    second.wait()
    assert (second.plane(6) == 1).any() and interaction_of(second.viewer) is second.interaction
    second.viewer.close()
    _until(lambda: not _threads())


def test_the_end_of_the_program_ends_all(window: Desk) -> None:
    window.start()
    registry.release_all()
    assert not _threads() and not registry._interactions
