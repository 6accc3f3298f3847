"""A real window, real mouse and keys: click, correct by Shift-click, keep, propagate, compare with the truth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from OpenGL import GL
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_sam.opengl import MOST_ARRAYS
from napari_sam.sample_data import image_layer
from napari_sam.widgets.segment import SegmentWidget
from src_core import zoo
from src_core.samples import ground_truth, open_sample, sample_clicks
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import balls


class Hands:
    """A shown window and what a person does to it."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.desk = Desk(viewer)
        self.panel = SegmentWidget(viewer)
        viewer.window.add_dock_widget(self.panel, name="Segment")

    def settle(self) -> None:
        """Let the window draw and the worker finish."""
        self.desk.wait()
        for _ in range(3):
            QApplication.processEvents()
            time.sleep(0.02)

    def choose(self, name: str) -> None:
        """Choose an image in the panel."""
        self.panel.image.setCurrentIndex(self.panel.image.findText(name))
        self.panel.image.activated.emit(self.panel.image.currentIndex())
        self.viewer.reset_view()
        self.settle()

    def click(self, layer: Any, *data: float, shift: bool = False) -> None:
        """Click where a data position of a layer is on the canvas."""
        canvas = self.viewer.window._qt_viewer.canvas
        y, x = np.asarray(layer.data_to_world(data))[-2:]
        to_canvas = canvas.view.transform * canvas.view.scene.transform
        column, row = to_canvas.map([x, y, 0, 1])[:2]
        where = QPoint(round(float(column)), round(float(row)))
        assert canvas.native.rect().contains(where), "the position is on the canvas"
        modifier = Qt.KeyboardModifier.ShiftModifier if shift else Qt.KeyboardModifier.NoModifier
        QTest.mouseMove(canvas.native, where)
        QTest.mouseClick(canvas.native, Qt.MouseButton.LeftButton, modifier, where)
        self.settle()

    def key(self, key: Qt.Key, *, shift: bool = False, control: bool = False) -> None:
        """Press a key while the canvas has the focus."""
        native = self.viewer.window._qt_viewer.canvas.native
        native.setFocus()
        modifiers = Qt.KeyboardModifier.NoModifier
        if shift:
            modifiers |= Qt.KeyboardModifier.ShiftModifier
        if control:
            modifiers |= Qt.KeyboardModifier.ControlModifier
        QTest.keyClick(native, key, modifiers)
        self.settle()

    def propagate_by_key(self) -> None:
        """Press G and wait for the end."""
        self.key(Qt.Key.Key_G)
        self.desk.wait(lambda: not self.desk.interaction.propagating, seconds=120)
        self.settle()

    @property
    def labels(self) -> np.ndarray:
        """All labels on disk."""
        return np.asarray(self.desk.interaction.session.labels.array[:])


def _iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.fixture
def hands(make_napari_viewer: Any) -> Iterator[Hands]:
    hands = Hands(make_napari_viewer(show=True))
    hands.viewer.window.resize(1200, 800)
    yield hands
    hands.desk = None  # type: ignore[assignment]


def test_two_balls_by_mouse_and_keys(hands: Hands) -> None:
    data = balls()
    image = hands.viewer.add_image(data, name="balls", scale=(3, 0.5, 0.5), translate=(0, 10, 20))
    hands.viewer.dims.set_current_step(0, 6)
    hands.choose("balls")
    hands.desk.go(6)
    scene, prompting = hands.desk.interaction.scene, hands.desk.interaction.prompting

    hands.click(image, 6, 14, 14)
    hands.click(image, 6, 30, 46)
    assert list(scene.points.features["label"]) == ["positive", "positive"]
    assert np.allclose(scene.points.data, [[6, 14, 14], [6, 30, 46]], atol=0.6)
    assert prompting.candidates.masks[0][30, 46] and prompting.candidates.masks[0][14, 14]
    hands.click(image, 6, 30, 48, shift=True)
    assert list(scene.points.features["label"])[-1] == "negative"
    assert not prompting.candidates.masks[0][30, 46] and prompting.candidates.masks[0][14, 14]
    hands.click(image, 6, 16, 12)
    assert list(scene.points.features["label"])[-1] == "positive", "without Shift, points are positive again"

    hands.key(Qt.Key.Key_W)
    assert (hands.labels[6] == 1).any() and not (hands.labels[5] == 1).any()
    hands.propagate_by_key()
    hands.key(Qt.Key.Key_N)
    hands.click(image, 6, 30, 46)
    hands.key(Qt.Key.Key_W)
    hands.propagate_by_key()

    truth, right = data > 100, np.indices(data.shape)[2] >= 32
    assert _iou(hands.labels == 1, truth & ~right) > 0.8
    assert _iou(hands.labels == 2, truth & right) > 0.8
    hands.key(Qt.Key.Key_Z, control=True)
    assert (hands.labels[6] == 2).any() and not (hands.labels[5] == 2).any()
    hands.key(Qt.Key.Key_Z, control=True, shift=True)
    assert (hands.labels[5] == 2).any()


def test_what_is_kept_can_be_seen(hands: Hands) -> None:
    image = hands.viewer.add_image(balls(), name="balls")
    hands.viewer.dims.set_current_step(0, 6)
    hands.choose("balls")
    hands.desk.go(6)
    before = hands.viewer.screenshot(canvas_only=True)
    hands.click(image, 6, 16, 16)
    offered = hands.viewer.screenshot(canvas_only=True)
    hands.key(Qt.Key.Key_W)
    hands.desk.interaction.scene.points.visible = False
    kept = hands.viewer.screenshot(canvas_only=True)
    assert (before != offered).any(-1).mean() > 0.001, "the outline of the candidate"
    assert (before != kept).any(-1).mean() > 0.02, "the filled mask"


@pytest.mark.skipif(zoo.named("nano").downloaded is None, reason="the weights of nano are not here")
def test_plant_nuclei_by_mouse_and_the_network_that_ships(hands: Hands) -> None:
    hands.desk.interaction.ahead.predictor = None
    data, arguments, _ = image_layer(open_sample("plant_nuclei"), "plant nuclei")
    image = hands.viewer.add_image(data, **arguments)
    truth = ground_truth("plant_nuclei")
    on_slice, in_all, filled = [], [], []
    for number, (z, y, x) in enumerate(sample_clicks("plant_nuclei", 3)):
        if number == 0:
            hands.viewer.dims.set_current_step(0, z)
            hands.choose("plant nuclei")
            hands.desk.go(z)
        else:
            hands.key(Qt.Key.Key_N)
        hands.click(image, z, y, x)
        hands.key(Qt.Key.Key_W)
        hands.propagate_by_key()
        found, true = hands.labels == number + 1, truth == truth[z, y, x]
        on_slice.append(_iou(found[z], true[z]))
        in_all.append(_iou(found, true))
        filled.append(int(found.any((1, 2)).sum()))
        assert (found & true).sum() > 0.3 * found.sum(), "it stays with its nucleus"
    assert np.mean(on_slice) > 0.6, on_slice
    assert np.mean(in_all) > 0.35, in_all
    assert min(filled) >= 3, filled


def test_nothing_is_drawn_from_a_layer_that_has_gone(hands: Hands) -> None:
    # What vispy has drawn last stays switched on in OpenGL, and drawing without it ends the process.
    image = hands.viewer.add_image(balls(), name="balls")
    hands.viewer.dims.set_current_step(0, 6)
    hands.choose("balls")
    hands.click(image, 6, 16, 16)
    hands.key(Qt.Key.Key_W)
    canvas = hands.viewer.window._qt_viewer.canvas.native

    def switched_on() -> int:
        canvas.makeCurrent()
        on = [GL.glGetVertexAttribiv(k, GL.GL_VERTEX_ATTRIB_ARRAY_ENABLED) for k in range(MOST_ARRAYS)]
        canvas.doneCurrent()
        return int(np.sum(on))

    assert switched_on(), "something has been drawn"
    hands.viewer.layers.remove(hands.desk.interaction.scene.labels)
    assert [layer.name for layer in hands.viewer.layers] == ["balls"] and not switched_on()
    assert hands.viewer.screenshot(canvas_only=True).any()
