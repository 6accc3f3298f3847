"""Strokes of napari's brush, fill and polygon as changes of planes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_sam.layers import OnScreen, plane_on_screen
from napari_sam.painting import PlaneChange, patches
from src_core.types import PlaneRef


class Easel:
    """A labels layer whose strokes are turned into changes."""

    def __init__(self, order: tuple[int, ...] = (0, 1, 2)) -> None:
        self.viewer = ViewerModel()
        self.image = self.viewer.add_image(np.zeros((5, 16, 18), np.uint8))
        self.labels: Labels = self.viewer.add_labels(np.zeros((5, 16, 18), np.uint32))
        self.viewer.dims.order = order
        for axis in range(3):
            self.viewer.dims.set_current_step(axis, 3)
        self.start = self.labels.data.copy()
        self.found: list[PlaneChange] = []
        self.labels.events.paint.connect(self._painted)

    @property
    def on_screen(self) -> OnScreen:
        return plane_on_screen(self.viewer, self.image)

    def _painted(self, event: object) -> None:
        self.found += patches(self.labels.data, event.value, self.on_screen)  # type: ignore[attr-defined]

    def check(self) -> None:
        """The changes, put into what was there before, give what is there now; and back."""
        replayed = self.start.copy()
        for plane, (y0, x0, y1, x1), before, after in self.found:
            shown = np.moveaxis(replayed, "zyx".index(plane.axis or ""), 0)[plane.index]
            assert np.array_equal(shown[y0:y1, x0:x1], before)
            shown[y0:y1, x0:x1] = after
        assert np.array_equal(replayed, self.labels.data)


def test_a_dab_of_the_brush() -> None:
    easel = Easel()
    easel.labels.brush_size = 5
    easel.labels.paint((3, 8, 8), 2)
    assert [c[0] for c in easel.found] == [PlaneRef("z", 3)]
    easel.check()


def test_a_stroke_of_several_dabs_with_two_labels_at_the_border() -> None:
    easel = Easel()
    easel.labels.brush_size = 7
    with easel.labels.block_history():
        for x in range(0, 18, 3):
            easel.labels.paint((3, 0, x), 1)
        easel.labels.paint((3, 1, 4), 2)
        easel.labels.paint((3, 0, 9), 0)
    easel.check()
    assert {1, 2} <= set(np.unique(easel.labels.data).tolist())


def test_a_brush_that_paints_in_three_dimensions() -> None:
    easel = Easel()
    easel.labels.n_edit_dimensions = 3
    easel.labels.brush_size = 4
    easel.labels.paint((2, 8, 8), 3)
    planes = {c[0].index for c in easel.found}
    assert len(planes) >= 3 and {c[0].axis for c in easel.found} == {"z"}
    easel.check()


@pytest.mark.parametrize("order, axis", [((1, 0, 2), "y"), ((2, 0, 1), "x"), ((1, 2, 0), "y")])
def test_other_orientations(order: tuple[int, ...], axis: str) -> None:
    easel = Easel(order)
    easel.labels.brush_size = 5
    easel.labels.paint((3, 3, 3), 2)
    assert {c[0] for c in easel.found} == {PlaneRef(axis, 3)}
    easel.check()


def test_filling_and_a_polygon() -> None:
    easel = Easel()
    easel.labels.fill((3, 8, 8), 6)
    easel.labels.paint_polygon([[3, 2, 2], [3, 2, 9], [3, 9, 9]], 7)
    easel.check()
    assert set(np.unique(easel.labels.data[3]).tolist()) == {6, 7}


def test_a_stroke_that_changes_nothing() -> None:
    easel = Easel()
    easel.labels.paint((3, 8, 8), 0)
    assert easel.found == []
    assert patches(easel.labels.data, [], easel.on_screen) == []
