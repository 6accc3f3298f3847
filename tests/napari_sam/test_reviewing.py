"""From the worst slice to the next, until nothing is left to look at."""

from __future__ import annotations

import numpy as np
import pytest

from src_core.session import Unsure
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk

SCORES = {3: {1: 0.7, 2: 0.9}, 4: {1: 0.35, 2: 0.8}, 8: {1: 0.95, 2: 0.5}}


def _z(index: int) -> PlaneRef:
    return PlaneRef("z", index)


@pytest.fixture
def filled(desk: Desk) -> Desk:
    """Two objects with masks of the user's on slice 6, filled on a few slices; a third is the current one."""
    desk.two_objects()
    session = desk.interaction.session
    with session.edit("propagate") as edit:
        for z, scores in SCORES.items():
            session.write_step(edit, _z(z), {k: session.mask(_z(6), k) for k in scores}, scores)
    desk.wait()
    return desk


def _here(desk: Desk) -> tuple[int, int]:
    """The slice on screen and the current object."""
    return desk.interaction.on_screen().plane.index, desk.interaction.session.current


def test_the_worst_slice_is_shown_and_its_object_selected(filled: Desk) -> None:
    said: list[str] = []
    filled.interaction.said.connect(said.append)
    filled.interaction.worst_slice()
    filled.wait()
    assert _here(filled) == (4, 1) and filled.interaction.scene.labels.selected_label == 1
    assert any("Object 1 on slice 4, confidence 0.35" in text for text in said)


def test_again_goes_on_to_the_next_and_comes_round(filled: Desk) -> None:
    seen = []
    for _ in range(7):
        filled.interaction.worst_slice()
        filled.wait()
        seen.append(_here(filled))
    assert seen == [(4, 1), (8, 2), (3, 1), (4, 2), (3, 2), (8, 1), (4, 1)]
    assert filled.interaction.review.remaining() == 6, "looking alone reviews nothing"


def test_a_slice_that_is_right_is_kept_and_the_next_worst_shown_until_none_is_left(filled: Desk) -> None:
    said: list[str] = []
    filled.interaction.said.connect(said.append)
    before = np.asarray(filled.interaction.session.labels.array[:])
    filled.interaction.worst_slice()
    filled.wait()
    seen = []
    while filled.interaction.review.remaining():
        seen.append(_here(filled))
        filled.interaction.right_slice()
        filled.wait()
    assert seen == [(4, 1), (8, 2), (3, 1), (4, 2), (3, 2), (8, 1)]
    assert "No slice is left to review." in said[-1]
    session = filled.interaction.session
    assert session.objects[1].anchors == {_z(z) for z in (3, 4, 6, 8)}
    assert np.array_equal(session.labels.array[:], before)
    filled.interaction.undo()
    filled.wait()
    assert filled.interaction.review.remaining() == 1 and session.review.worst("z") == Unsure(0.95, 8, 1)


def test_a_corrected_slice_is_kept_as_corrected(filled: Desk) -> None:
    filled.interaction.worst_slice()
    filled.wait()
    filled.click(4, 30, 46)  # the network answers a point in the other ball with that ball
    corrected = filled.interaction.prompting.candidates.masks[0]
    assert not np.array_equal(corrected, filled.plane(4) == 1)
    filled.interaction.session.allow_overwrite = True
    filled.interaction.right_slice()
    filled.wait()
    assert np.array_equal(filled.plane(4) == 1, corrected)
    assert _z(4) in filled.interaction.session.objects[1].anchors
    assert _here(filled) == (8, 2)


def test_one_object_can_be_reviewed_by_itself(filled: Desk) -> None:
    filled.interaction.select(2)
    filled.interaction.review.all_objects = False
    assert filled.interaction.review.remaining() == 3
    assert filled.interaction.review.lowest() == {3: 0.9, 4: 0.8, 8: 0.5}
    filled.interaction.worst_slice()
    filled.wait()
    assert _here(filled) == (8, 2)
    for _ in range(3):
        filled.interaction.right_slice()
        filled.wait()
    assert filled.interaction.review.remaining() == 0
    filled.interaction.review.all_objects = True
    assert filled.interaction.review.remaining() == 3
    assert filled.interaction.review.lowest() == {3: 0.7, 4: 0.35, 8: 0.95}


def test_accepting_nothing_changes_nothing_and_stays(filled: Desk, warned: list[str]) -> None:
    filled.interaction.select(1)
    filled.go(11)
    filled.interaction.right_slice()
    filled.wait()
    assert _here(filled) == (11, 1) and "object 1 is not on slice 11" in warned[-1]
    assert filled.interaction.review.remaining() == 6


def test_only_what_lies_along_the_axis_on_screen_is_reviewed(filled: Desk) -> None:
    filled.viewer.dims.order = (1, 0, 2)
    filled.wait()
    assert filled.interaction.review.remaining() == 0
    filled.interaction.worst_slice()
    filled.wait()
    assert filled.interaction.on_screen().plane.axis == "y"


def test_a_propagation_fills_the_queue_and_undo_empties_it(desk: Desk) -> None:
    desk.start()
    desk.keep()
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert desk.interaction.review.remaining() == 10, "and whether it ends where it ended"
    assert set(desk.interaction.review.lowest()) == {1, 2, 3, 4, 5, 7, 8, 9, 10, 11}
    desk.interaction.undo()
    desk.wait()
    assert desk.interaction.review.remaining() == 0


def test_an_end_is_asked_about_and_kept_with_the_same_key(desk: Desk) -> None:
    desk.start()
    desk.keep()
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    desk.interaction.select(1)
    state = desk.interaction.session.objects[1]
    with desk.interaction.session.edit("propagate") as edit:
        nothing: dict = {}
        desk.interaction.session.write_step(edit, _z(11), nothing, nothing, {1: 0.02})
    said: list[str] = []
    desk.interaction.said.connect(said.append)
    desk.interaction.worst_slice()
    desk.wait()
    assert _here(desk) == (11, 1)
    assert "Object 1 seems to end before slice 11, confidence 0.02. K if it is right" in said[-1]
    assert _outline(desk) is None
    desk.interaction.right_slice()
    desk.wait()
    assert _z(11) in state.anchors and _z(11) not in state.ends and desk.interaction.review.remaining() == 9
    assert _here(desk) != (11, 1)


def _outline(desk: Desk) -> np.ndarray | None:
    """The outlined mask on the slice on screen."""
    layer = desk.interaction.scene.preview.layer
    if not layer.visible or not layer.data.any():
        return None
    z, y, x = (int(v) for v in layer.translate)
    assert z == desk.interaction.on_screen().plane.index
    found = np.zeros((48, 64), bool)
    found[y : y + layer.data.shape[1], x : x + layer.data.shape[2]] = layer.data[0]
    return found


def test_the_object_to_look_at_is_outlined_until_nothing_is_left(filled: Desk) -> None:
    filled.interaction.worst_slice()
    filled.wait()
    assert np.array_equal(_outline(filled), filled.plane(4) == 1)
    for _ in range(6):
        filled.interaction.right_slice()
        filled.wait()
    assert _outline(filled) is None


def test_an_object_out_of_view_is_brought_into_it(filled: Desk) -> None:
    filled.interaction.worst_slice()
    filled.wait()
    camera = getattr(filled.viewer, "scene", filled.viewer).camera
    before = camera.center
    filled.interaction.right_slice()  # the next one is in view
    filled.wait()
    assert camera.center == before
    filled.interaction.scene.labels.corner_pixels = np.array([[0, 30, 0], [0, 47, 30]])  # as if zoomed in
    filled.interaction.worst_slice()
    filled.wait()
    assert _here(filled) == (3, 1)
    assert np.allclose(camera.center[1:], (16, 16), atol=0.5)
