"""The strip tells sure from unsure, and the line below counts what is left."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor

from napari_sam.widgets.segment import SegmentWidget
from napari_sam.widgets.strip import EMPTY, FAIR, HERE, MADE, SURE, UNSURE, SliceStrip, colour_of
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk


def _z(index: int) -> PlaneRef:
    return PlaneRef("z", index)


@pytest.fixture
def strip(qtbot: Any) -> SliceStrip:
    strip = SliceStrip()
    qtbot.addWidget(strip)
    strip.resize(200, 14)
    return strip


def _colour(strip: SliceStrip, x: int) -> QColor:
    return QColor(strip.grab().toImage().pixel(x, 3))


def test_confidence_goes_from_orange_to_green() -> None:
    for at, colour in (UNSURE, FAIR, SURE):
        assert colour_of(at) == colour
    assert colour_of(0) == UNSURE[1] and colour_of(1) == SURE[1]
    assert colour_of(0.5) not in (UNSURE[1], FAIR[1])


def test_cells_have_the_colour_of_what_is_there(strip: SliceStrip) -> None:
    strip.show_slices(10, 9, {}, {2: 0.4, 3: 0.9}, {5})
    assert _colour(strip, 50) == UNSURE[1] and _colour(strip, 70) == SURE[1]
    assert _colour(strip, 110) == MADE and _colour(strip, 182) == HERE
    assert _colour(strip, 150) != MADE and EMPTY.alpha() < 255


def test_of_slices_that_share_a_pixel_the_least_sure_is_seen(strip: SliceStrip) -> None:
    strip.show_slices(4000, 0, {}, {k: 0.9 for k in range(2000, 2040)} | {2020: 0.1}, set())
    colours = [_colour(strip, x) for x in range(98, 106)]
    assert UNSURE[1] in colours


def test_a_click_chooses_the_slice_under_it(strip: SliceStrip, qtbot: Any) -> None:
    chosen: list[int] = []
    strip.chosen.connect(chosen.append)
    strip.show_slices(10, 0, {}, {}, set())
    for x in (1, 45, 199):
        qtbot.mouseClick(strip, Qt.MouseButton.LeftButton, pos=QPoint(x, 5))
    assert chosen == [0, 2, 9]


def test_the_line_counts_down_and_buttons_review(desk: Desk, qtbot: Any) -> None:
    desk.two_objects()
    panel = SegmentWidget(desk.viewer)
    qtbot.addWidget(panel)
    panel.show()
    review = panel.review
    desk.wait(lambda: review.summary.text() == "No slices to review")
    assert not review.worst.isEnabled()
    session = desk.interaction.session
    with session.edit("propagate") as edit:
        for z, scores in {3: {1: 0.7}, 4: {1: 0.5, 2: 0.6}}.items():
            session.write_step(edit, _z(z), {k: session.mask(_z(6), k) for k in scores}, scores)
    desk.wait(lambda: review.summary.text() == "3 slices to review")
    assert review.strip._filled == {3: 0.7, 4: 0.5}
    review.worst.click()
    desk.wait(lambda: review.strip._here == 4)
    assert session.current == 1
    review.right.click()
    desk.wait(lambda: review.summary.text() == "2 slices to review")
    assert session.current == 2
    assert review.strip._filled == {3: 0.7, 4: 0.6}
    review.everything.setChecked(False)
    desk.wait(lambda: review.summary.text() == "1 slice to review")
    assert review.strip._filled == {4: 0.6}
    session.set_done(2)
    desk.wait(lambda: review.summary.text() == "No slices to review")
    assert review.strip._made == {4, 6}
    assert not review.right.isEnabled(), "a finished object is locked"
    qtbot.mouseClick(review.strip, Qt.MouseButton.LeftButton, pos=QPoint(1, 5))
    desk.wait()
    assert desk.interaction.on_screen().plane.index == 0


def test_the_choice_is_kept_when_the_panel_is_opened_again(desk: Desk, qtbot: Any) -> None:
    desk.start()
    desk.interaction.review.all_objects = False
    panel = SegmentWidget(desk.viewer)
    qtbot.addWidget(panel)
    assert not panel.review.everything.isChecked()
