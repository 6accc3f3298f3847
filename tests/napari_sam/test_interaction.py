"""Clicks, candidates, objects, propagation and undo, with real layers and a fake network."""

from __future__ import annotations

import time

import numpy as np
import pytest
from napari.utils.key_bindings import coerce_keybinding

from src_core.errors import SessionError
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import balls

TRUTH = balls() > 100


def test_starting_adds_the_layers_and_embeds_the_slice_on_screen_first(desk: Desk) -> None:
    desk.viewer.add_image(balls())
    desk.viewer.dims.set_current_step(0, 6)
    desk.interaction.start(desk.viewer.layers[0])
    desk.wait()
    assert desk.interaction.scene.points in desk.viewer.layers
    assert desk.viewer.layers.selection.active is desk.interaction.scene.points
    assert desk.predictor.embedded[0] == ("z", 6)
    assert {i for _, i in desk.predictor.embedded} >= {5, 7}
    assert len(desk.predictor.embedded) == len(set(desk.predictor.embedded)), "nothing is embedded twice"


def test_a_click_shows_three_candidates_and_writes_nothing(desk: Desk) -> None:
    desk.start(balls((12, 300, 300)))
    desk.go(6)
    desk.click(6, 16, 16)
    assert len(desk.interaction.prompting.candidates) == 3
    shown = desk.interaction.scene.preview.layer
    assert shown.data.shape[0] == 1 and max(shown.data.shape) < 100, "the box of the mask, not the plane"
    assert shown.data.sum() == TRUTH[6][:, :32].sum()
    assert not desk.plane(6).any()


def test_the_preview_is_drawn_again_in_place(desk: Desk) -> None:
    desk.start(balls((12, 300, 300)))
    desk.go(6)
    desk.click(6, 16, 16)
    shown = desk.interaction.scene.preview.layer
    drawn, laid_out = shown.data, []
    shown.events.data.connect(laid_out.append)
    shown.events.translate.connect(laid_out.append)
    redrawn: list[object] = []
    shown.events.set_data.connect(redrawn.append)
    desk.interaction.cycle()
    assert shown.data is drawn and not laid_out, "napari has not laid out all layers again"
    assert redrawn and drawn.sum() == desk.interaction.prompting.candidates.masks[1].sum()
    desk.interaction.undo()
    desk.wait()
    assert not drawn.any()
    desk.click(6, 30, 46)
    y, x = (np.flatnonzero(shown.data[0].any(axis)) for axis in (1, 0))
    found = shown.data_to_world((0, y[0], x[0]))
    assert tuple(np.rint(found)) == (6, *(np.argwhere(TRUTH[6][:, 32:]).min(0) + np.array([0, 32])))


def test_the_preview_lies_on_its_slice_of_a_scaled_image(desk: Desk) -> None:
    desk.start(scale=(3, 0.5, 0.5), translate=(10, 20, 30))
    desk.go(6)
    desk.click(6, 16, 16)
    shown = desk.interaction.scene.preview.layer
    corner = np.asarray(desk.interaction.image.world_to_data(shown.data_to_world((0, 0, 0))))
    y, x = np.nonzero(shown.data[0])
    where = np.zeros((48, 64), bool)
    where[y + round(corner[1]), x + round(corner[2])] = True
    assert round(corner[0]) == 6 and np.array_equal(where, TRUTH[6] & (np.indices((48, 64))[1] < 32))
    assert np.allclose(shown.scale, (3, 0.5, 0.5))


def test_cycling_changes_what_is_accepted(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.cycle()
    assert desk.interaction.prompting.chosen == 1
    larger = desk.interaction.prompting.candidates.masks[1]
    desk.interaction.accept()
    desk.wait()
    assert np.array_equal(desk.plane(6) == 1, larger)


def test_accept_writes_the_object_and_makes_an_anchor(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    assert desk.interaction.accept()
    desk.wait()
    assert np.array_equal(desk.plane(6) == 1, TRUTH[6] & (np.indices((48, 64))[1] < 32))
    assert desk.interaction.session.objects[1].anchors == {PlaneRef("z", 6)}
    assert desk.interaction.prompting.candidates is None
    assert not desk.interaction.accept(), "nothing is left to accept"


def test_accept_never_erases_a_neighbour(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.next_object()
    desk.wait()
    before = desk.plane(6).copy()
    assert (before == 1).any()
    desk.click(6, 16, 16)  # the same place, as object 2
    desk.interaction.accept()
    desk.wait()
    assert np.array_equal(desk.plane(6) == 1, before == 1)


def test_next_object_keeps_a_waiting_candidate(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.next_object()
    desk.wait()
    assert (desk.plane(6) == 1).any()
    assert desk.interaction.session.current == 2
    assert desk.interaction.scene.points.feature_defaults["object"][0] == 2


def test_keys_may_come_before_the_answer(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    scene, interaction = desk.interaction.scene, desk.interaction
    scene.points.add(np.array((6, 16, 16)))
    assert interaction.accept()
    desk.wait()
    assert (desk.plane(6) == 1).any(), "W keeps what is still being looked for"
    interaction.next_object()
    scene.points.add(np.array((6, 30, 46)))
    interaction.next_object()
    scene.points.add(np.array((6, 2, 2)))
    desk.wait()
    assert (desk.plane(6) == 2).any(), "so does N, although the next click comes before the answer"
    assert interaction.session.current == 3


@pytest.mark.parametrize("everything", [True, False])
def test_propagating_waits_for_the_answer(desk: Desk, warned: list[str], everything: bool) -> None:
    desk.two_objects()
    desk.interaction.session.delete(2)
    desk.interaction.scene.points.add(np.array((6, 30, 46)))
    assert desk.interaction.session.current == 3
    if everything:
        desk.interaction.propagate_all()
    else:
        desk.interaction.propagate()
    desk.wait(lambda: (desk.plane(6) == 3).any() and not desk.interaction.propagating)
    assert not warned
    assert (desk.plane(7) == 3).any(), "the mask that was just clicked travels too"
    assert (desk.plane(7) == 1).any() == everything


def test_w_and_g_may_both_come_before_the_answer(desk: Desk, warned: list[str]) -> None:
    desk.start()
    desk.go(6)
    desk.interaction.scene.points.add(np.array((6, 16, 16)))
    desk.interaction.accept()
    desk.interaction.propagate()
    desk.wait(lambda: (desk.plane(7) == 1).any() and not desk.interaction.propagating)
    assert not warned


def test_an_answer_kept_beforehand_is_kept_on_its_own_slice(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.interaction.scene.points.add(np.array((6, 16, 16)))
    desk.interaction.accept()
    desk.viewer.dims.set_current_step(0, 8)
    desk.wait()
    assert (desk.plane(6) == 1).any() and not (desk.plane(8) == 1).any()


def test_steps_that_arrive_after_the_end_are_not_shown(desk: Desk) -> None:
    desk.start()
    desk.keep()
    shown: list[object] = []
    desk.interaction.progress_changed.connect(lambda progress, _: shown.append(progress))
    desk.interaction.propagate()
    end = time.monotonic() + 20
    while not desk.interaction.worker.idle() and time.monotonic() < end:
        time.sleep(0.01)  # the window's thread is busy: closing, perhaps
    desk.interaction.leave()
    desk.wait()
    assert not shown, "panels may have gone by then"


def test_negative_points_reach_the_network(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.click(6, 30, 46)
    assert desk.interaction.prompting.candidates.masks[0].sum() == TRUTH[6].sum()
    desk.click(6, 29, 45, negative=True)
    assert desk.interaction.prompting.candidates.masks[0].sum() == TRUTH[6][:, :32].sum()
    assert list(desk.interaction.scene.points.features["label"]) == ["positive", "positive", "negative"]


def test_a_new_point_is_not_left_selected_and_delete_still_removes_it(desk: Desk) -> None:
    desk.start()
    desk.go(5)
    desk.click(5, 16, 16)
    desk.go(6)
    desk.click(6, 16, 16)
    desk.click(6, 30, 46, negative=True)
    points = desk.interaction.scene.points
    assert not points.selected_data, "a ring would hide the colour of its sign"
    delete = points.keymap[coerce_keybinding("Delete")]
    delete(points)
    desk.wait()
    assert np.array_equal(points.data, [[5, 16, 16], [6, 16, 16]])
    desk.interaction.undo()
    desk.wait()
    assert list(points.features["label"]) == ["positive", "positive", "negative"]
    points.selected_data = {1}
    delete(points)
    desk.wait()
    assert np.array_equal(points.data, [[5, 16, 16], [6, 30, 46]]), "what is selected goes first"
    for _ in range(3):
        delete(points)
        desk.wait()
    assert np.array_equal(points.data, [[5, 16, 16]]), "points on other slices are left alone"


def test_what_the_user_selects_stays_selected(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.click(6, 18, 18)
    points = desk.interaction.scene.points
    points.selected_data = {0}
    desk.wait()
    assert set(points.selected_data) == {0}


def test_a_rectangle_is_a_box_and_an_ellipse_a_mask(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    corners = np.array([[6, 20, 36], [6, 20, 56], [6, 40, 56], [6, 40, 36]], float)
    desk.interaction.scene.boxes.add_rectangles(corners)
    desk.wait()
    assert desk.interaction.prompting.candidates.masks[0].sum() == TRUTH[6][:, 32:].sum()
    desk.interaction.undo()
    desk.wait()
    assert desk.interaction.prompting.candidates is None
    assert len(desk.interaction.scene.boxes.data) == 0
    desk.interaction.scene.boxes.add_ellipses(corners)
    desk.wait()
    assert desk.interaction.prompting.candidates.masks[0].sum() == TRUTH[6][:, 32:].sum()


def test_prompts_are_asked_again_on_coming_back_to_their_slice(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.go(2)
    assert desk.interaction.prompting.candidates is None
    desk.go(6)
    assert desk.interaction.prompting.candidates is not None


def test_propagation_fills_the_object_and_stops_by_itself(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.propagate()  # accepts first
    desk.wait(lambda: not desk.interaction.propagating)
    found = np.array([desk.plane(z) == 1 for z in range(12)])
    left = TRUTH & (np.indices(TRUTH.shape)[2] < 32)
    assert np.array_equal(found, left)


def test_undo_and_redo_walk_through_points_accept_and_propagation(desk: Desk) -> None:
    desk.start()
    desk.keep()
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    full = [desk.plane(z).copy() for z in range(12)]

    desk.interaction.undo()
    desk.wait()
    assert not desk.plane(5).any()
    assert desk.plane(6).any()
    desk.interaction.undo()
    desk.wait()
    assert not desk.plane(6).any()
    assert desk.interaction.session.objects[1].anchors == set()
    desk.interaction.undo()
    desk.wait()
    assert len(desk.interaction.scene.points.data) == 0
    for _ in range(3):
        desk.interaction.redo()
        desk.wait()
    assert len(desk.interaction.scene.points.data) == 1
    assert all(np.array_equal(desk.plane(z), full[z]) for z in range(12))


def test_a_correction_is_kept_and_only_its_stretch_is_computed_again(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    desk.go(8)
    stroke = np.zeros((48, 64), bool)
    stroke[40:44, 4:8] = True
    desk.interaction.session.accept(PlaneRef("z", 8), stroke, 1)
    desk.interaction.cache.predictor.embedded.clear()
    untouched = [desk.plane(z).copy() for z in range(7)]
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert np.array_equal(desk.plane(8) == 1, stroke), "an anchor is never overwritten"
    assert all(np.array_equal(desk.plane(z), untouched[z]) for z in range(7))


def test_brush_strokes_become_anchors_and_can_be_undone(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    labels = desk.interaction.scene.labels
    labels.selected_label = 1
    labels.brush_size = 5
    labels.paint((6, 10, 10), 1)
    desk.wait()
    assert (desk.plane(6) == 1).sum() > 10
    assert desk.interaction.session.objects[1].anchors == {PlaneRef("z", 6)}
    desk.interaction.undo()
    desk.wait()
    assert not desk.plane(6).any()
    assert not desk.interaction.session.objects[1].anchors


@pytest.mark.parametrize("axis, index, click", [(1, 16, (6, 16, 16)), (2, 46, (6, 30, 46))])
def test_any_orientation(desk: Desk, axis: int, index: int, click: tuple[int, ...]) -> None:
    desk.start(scale=(2, 1, 1))
    order = [axis, *(d for d in range(3) if d != axis)]
    desk.viewer.dims.order = order
    desk.viewer.dims.set_current_step(axis, index)
    desk.wait()
    desk.click(*click)
    assert desk.interaction.prompting.candidates is not None
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    data = np.asarray(desk.interaction.session.labels.array[:])
    half = np.indices(TRUTH.shape)[2] < 32
    assert np.array_equal(data == 1, TRUTH & (half if click[2] == 16 else ~half))


def test_time_series_of_stacks(desk: Desk) -> None:
    desk.start(np.stack([np.zeros_like(balls()) + 20, balls()]))
    desk.go(1, 6)
    desk.click(1, 6, 16, 16)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    data = np.asarray(desk.interaction.session.labels.array[:])
    assert not data[0].any()
    assert np.array_equal(data[1] == 1, TRUTH & (np.indices(TRUTH.shape)[2] < 32))


def test_channels_share_their_labels(desk: Desk) -> None:
    stack = np.stack([np.full_like(balls(), 20), balls()])
    desk.start(stack[None], axis_labels=("t", "c", "z", "y", "x"))
    desk.go(0, 1, 6)
    desk.click(0, 1, 6, 16, 16)
    desk.interaction.accept()
    desk.wait()
    assert desk.interaction.session.labels.axes == ("t", "z", "y", "x")
    assert desk.interaction.scene.labels.data.shape == (1, 2, 12, 48, 64)
    expected = TRUTH[6] & (np.indices((48, 64))[1] < 32)
    for channel in (0, 1):
        assert np.array_equal(np.asarray(desk.interaction.scene.labels.data[0, channel, 6]) == 1, expected)


def test_a_single_image_has_no_stack(desk: Desk) -> None:
    said: list[str] = []
    desk.start(balls()[6])
    desk.wait()
    desk.click(16, 16)
    desk.interaction.said.connect(said.append)
    desk.interaction.accept()
    desk.wait()
    desk.interaction.propagate()
    assert any("no slices" in s for s in said)
    assert (desk.interaction.session.labels.read_plane(None, 0) == 1).sum() == TRUTH[6][:, :32].sum()


def test_colour_images(desk: Desk) -> None:
    desk.start(np.repeat(balls()[..., None], 3, axis=-1), rgb=True)
    desk.keep()
    assert (desk.plane(6) == 1).any()


def test_changed_contrast_makes_new_embeddings(desk: Desk) -> None:
    image = desk.start()
    desk.wait()
    desk.predictor.embedded.clear()
    image.contrast_limits = (0, 100)
    desk.wait(lambda: bool(desk.predictor.embedded))


def test_dragged_contrast_limits_embed_once_at_the_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    image = desk.start()
    desk.wait()
    renewed: list[tuple[float, float]] = []
    renew = desk.interaction.renew_embeddings
    monkeypatch.setattr(
        desk.interaction,
        "renew_embeddings",
        lambda: (renewed.append(desk.interaction.session.volume.contrast_limits_of()), renew()),
    )
    for high in range(200, 100, -10):
        image.contrast_limits = (0, high)
        desk.wait()
    assert not renewed, "nothing while the drag lasts"
    desk.wait(lambda: bool(renewed))
    assert renewed == [(0, 110)]


def test_removing_the_image_ends_quietly_and_keeps_labels(desk: Desk) -> None:
    image = desk.start()
    desk.keep()
    labels = desk.interaction.session.labels
    desk.viewer.layers.remove(image)
    desk.wait()
    assert desk.interaction.session is None
    assert (labels.read_plane("z", 6) == 1).any()


def test_work_goes_on_where_it_was_left(desk: Desk, tmp_path: object) -> None:
    image = desk.viewer.add_image(balls(), name="stack")
    desk.interaction.start(image, tmp_path)
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.next_object()
    desk.wait()
    desk.viewer.layers.remove(image)
    again = desk.viewer.add_image(balls(), name="stack")
    desk.interaction.start(again, tmp_path)
    assert (desk.plane(6) == 1).any()
    assert 1 in desk.interaction.session.objects


def test_stopping_keeps_what_is_done(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    steps: list[object] = []

    def stop_soon(progress: object, _: object) -> None:
        steps.append(progress)
        if len(steps) == 3:
            desk.interaction.stop()

    desk.interaction.progress_changed.connect(stop_soon)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    filled = [z for z in range(12) if (desk.plane(z) == 1).any()]
    assert 6 in filled
    assert len(filled) < TRUTH.any((1, 2)).sum()
    desk.interaction.undo()
    desk.wait()
    assert [z for z in range(12) if (desk.plane(z) == 1).any()] == [6]


@pytest.mark.parametrize("finished", [False, True])
def test_the_brush_leaves_other_objects_alone(desk: Desk, warned: list[str], finished: bool) -> None:
    desk.two_objects()
    desk.interaction.session.set_done(1, finished)
    before, labels = desk.plane(6).copy(), desk.interaction.scene.labels
    assert labels.selected_label == 3
    for _ in range(3):
        labels.brush_size = 9
        labels.paint((6, 16, 24), 3)  # across the border of object 1
        desk.wait()
    after = desk.plane(6)
    assert np.array_equal(after == 1, before == 1) and np.array_equal(after == 2, before == 2)
    assert (after == 3).any(), "what is free is painted"
    assert np.array_equal(np.asarray(labels.data[6]), after)
    assert len(warned) == 1 and "not painted over" in warned[0], "once, not for every stroke"
    assert PlaneRef("z", 6) in desk.interaction.session.objects[3].anchors
    desk.interaction.undo()
    desk.wait()
    assert np.array_equal(desk.plane(6) == 1, before == 1)


def test_the_brush_waits_for_an_undo_that_is_half_done(
    desk: Desk, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.two_objects()
    session, labels = desk.interaction.session, desk.interaction.scene.labels

    def full(*_: object, **__: object) -> None:
        raise SessionError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(SessionError, match="half done"):
        patch.setattr(session.labels, "write_box", full)
        session.undo()
    before, known = desk.plane(6).copy(), session.undo_name
    labels.paint((6, 2, 2), 3)
    desk.wait()
    assert np.array_equal(desk.plane(6), before) and np.array_equal(np.asarray(labels.data[6]), before)
    assert session.undo_name == known and any("nothing is painted" in words for words in warned)
    desk.interaction.undo()
    desk.wait()
    labels.paint((6, 2, 2), 3)
    desk.wait()
    assert (desk.plane(6) == 3).any() and session.undo_name == "paint"


def test_the_brush_overwrites_where_that_is_allowed_but_never_what_is_finished(
    desk: Desk, warned: list[str]
) -> None:
    desk.two_objects()
    session, labels = desk.interaction.session, desk.interaction.scene.labels
    session.allow_overwrite = True
    labels.brush_size = 5
    labels.paint((6, 16, 16), 3)
    desk.wait()
    assert desk.plane(6)[16, 16] == 3 and not warned
    session.set_done(2)
    for value in (3, 0, 2):
        before = desk.plane(6).copy()
        labels.brush_size = 5
        labels.paint((6, 30, 46) if value != 2 else (6, 44, 4), value)
        desk.wait()
        assert np.array_equal(desk.plane(6), before), "neither covered, erased nor enlarged"
    assert len(warned) == 1


def test_the_eraser_erases_drafts(desk: Desk, warned: list[str]) -> None:
    desk.two_objects()
    desk.interaction.scene.labels.paint((6, 16, 16), 0)
    desk.wait()
    assert desk.plane(6)[16, 16] == 0 and not warned


def test_an_empty_candidate_is_not_kept(desk: Desk) -> None:
    said: list[str] = []
    desk.interaction.said.connect(said.append)
    desk.start()
    desk.go(6)
    desk.click(6, 44, 4)
    assert not desk.interaction.accept() and "sees nothing" in said[-1]
    assert not desk.interaction.session.objects[1].anchors
    desk.click(6, 16, 16)
    assert desk.interaction.accept()
    desk.wait()
    assert (desk.plane(6) == 1).any()


def test_propagating_all_says_which_objects_have_no_mask(desk: Desk) -> None:
    said: list[str] = []
    desk.interaction.said.connect(said.append)
    desk.two_objects()  # object 3 has been started
    desk.interaction.propagate([1, 2, 3])
    desk.wait(lambda: not desk.interaction.propagating)
    assert "object 3" in said[-1]
    assert sum((desk.plane(z) == 1).any() for z in range(12)) == 9


def test_the_view_follows_a_propagation_where_that_is_wanted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.running.FOLLOW_MS", 0)
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    shown: list[int] = []
    desk.viewer.dims.events.current_step.connect(lambda e: shown.append(int(e.value[0])))
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert not shown, "not asked for"
    desk.interaction.undo()
    desk.wait()
    desk.start(balls())  # another scene, with the faster throttle
    desk.go(6)
    desk.click(6, 16, 16)
    shown.clear()
    desk.interaction.follow = True
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert shown and set(shown) <= set(range(12))
