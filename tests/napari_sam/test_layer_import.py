"""Layers that the user made or loaded become objects: real layers, a fake network."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.layers import Layer

from napari_sam.widgets.segment import SegmentWidget
from src_core.types import PlaneRef
from src_core.worker import Priority
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import balls

BRIGHT = balls() > 100
LEFT = BRIGHT & (np.indices(BRIGHT.shape)[2] < 32)
RIGHT = BRIGHT & ~LEFT
SEEDS = np.array([[6.0, 16, 16], [5, 30, 46]])


@pytest.fixture
def said(desk: Desk) -> list[str]:
    found: list[str] = []
    desk.interaction.said.connect(found.append)
    return found


def _use(desk: Desk, layer: Layer) -> None:
    desk.interaction.use_layer(layer)
    desk.wait(lambda: not desk.interaction.propagating)


def _ids(desk: Desk) -> np.ndarray:
    return np.asarray(desk.interaction.session.labels.array[:])


def _anchors(desk: Desk) -> dict[int, list[int]]:
    objects = desk.interaction.session.objects
    return {k: sorted(p.index for p in o.anchors) for k, o in objects.items() if o.anchors}


def _corners(z: float, y0: float, x0: float, y1: float, x1: float) -> np.ndarray:
    return np.array([[z, y0, x0], [z, y0, x1], [z, y1, x1], [z, y1, x0]])


# ------------------------------------------------------------------- points


def test_every_point_becomes_an_object_on_its_slice(desk: Desk, said: list[str], warned: list[str]) -> None:
    desk.start()
    _use(desk, desk.viewer.add_points(SEEDS, name="seeds"))
    ids = _ids(desk)
    assert np.array_equal(ids[6] == 1, LEFT[6]) and np.array_equal(ids[5] == 2, RIGHT[5])
    assert not ids[[0, 1, 2, 3, 4, 7, 8]].any()
    assert _anchors(desk) == {1: [6], 2: [5]}, "the empty object 1 gives its number to the first point"
    assert desk.interaction.session.current == 3, "the next click is for a new object"
    assert desk.viewer.layers.selection.active is desk.interaction.scene.points
    assert said[-1].startswith("2 objects made from “seeds”.") and not warned


def test_the_whole_import_is_one_step_of_the_history(desk: Desk) -> None:
    desk.start()
    session = desk.interaction.session
    _use(desk, desk.viewer.add_points(SEEDS, name="seeds"))
    after = _ids(desk)
    assert session.undo_name == "objects from seeds"
    desk.interaction.undo()
    desk.wait()
    assert not _ids(desk).any() and not _anchors(desk) and set(session.objects) == {3}
    assert session.undo_name is None
    desk.interaction.redo()
    desk.wait()
    assert np.array_equal(_ids(desk), after) and _anchors(desk) == {1: [6], 2: [5]}


def test_all_objects_of_a_layer_travel_together(desk: Desk, qtbot: Any, said: list[str]) -> None:
    desk.start()
    panel = SegmentWidget(desk.viewer)
    qtbot.addWidget(panel)
    _use(desk, desk.viewer.add_points(SEEDS))
    panel.propagate_all.click()
    desk.wait(lambda: not desk.interaction.propagating)
    ids = _ids(desk)
    assert np.array_equal(ids == 1, LEFT) and np.array_equal(ids == 2, RIGHT)
    assert said[-1] == "Propagated. Check the slices.", "the empty current object is not left out aloud"


@pytest.mark.parametrize(
    "image, points, data",
    [
        ({"scale": (3, 0.5, 0.5), "translate": (10, 20, 30)}, {}, [[28, 28, 38], [25, 35, 53]]),
        (
            {"scale": (3, 0.5, 0.5), "translate": (10, 20, 30)},
            {"scale": (3, 0.5, 0.5), "translate": (10, 20, 30)},
            SEEDS,
        ),
        ({}, {"scale": (2, 4, 2), "translate": (-2, 0, 6)}, [[4, 4, 5], [3.5, 7.5, 20]]),
        ({}, {"affine": np.eye(4)[[0, 2, 1, 3]]}, [[6, 16, 16], [5, 46, 30]]),
        ({"scale": (1e-6, 1e-6, 1e-6), "translate": (1e3, 0, 0)}, {"scale": (1e-6,) * 3}, None),
    ],
    ids=["image", "both", "points", "axes-swapped", "tiny-and-far"],
)
def test_whatever_the_scale_the_place_and_the_order_of_axes(
    desk: Desk, image: dict[str, Any], points: dict[str, Any], data: Any
) -> None:
    desk.start(**image)
    if data is None:
        points = {**points, "translate": (1e3, 0, 0)}
        data = SEEDS
    _use(desk, desk.viewer.add_points(np.asarray(data, float), **points))
    ids = _ids(desk)
    assert np.array_equal(ids[6] == 1, LEFT[6]) and np.array_equal(ids[5] == 2, RIGHT[5])


def test_in_another_orientation_the_slices_are_those_on_screen(desk: Desk) -> None:
    desk.start()
    desk.viewer.dims.order = (1, 0, 2)
    _use(desk, desk.viewer.add_points(SEEDS))
    objects = desk.interaction.session.objects
    assert objects[1].anchors == {PlaneRef("y", 16)} and objects[2].anchors == {PlaneRef("y", 30)}
    assert np.array_equal(_ids(desk)[:, 16] == 1, LEFT[:, 16])


def test_two_dimensional_points_count_for_the_slice_on_screen(desk: Desk) -> None:
    desk.start()
    desk.go(4)
    _use(desk, desk.viewer.add_points(SEEDS[:, 1:]))
    assert _anchors(desk) == {1: [4], 2: [4]} and np.array_equal(_ids(desk)[4] > 0, BRIGHT[4])


def test_two_dimensional_points_need_the_slices_they_were_made_for(
    desk: Desk, warned: list[str], said: list[str]
) -> None:
    desk.start()
    layer = desk.viewer.add_points(SEEDS[:, 1:], name="flat")
    desk.viewer.dims.order = (1, 0, 2)
    _use(desk, layer)
    assert len(warned) == 1 and "“flat” says nothing about z: roll the axes back" in warned[0]
    assert not _ids(desk).any() and desk.interaction.session.undo_name is None


def test_names_and_signs_of_points_are_honoured(desk: Desk) -> None:
    joined = BRIGHT.copy()
    joined[6, 20:28, 30:34] = True
    desk.start(np.where(joined, 220, 20).astype(np.uint8))
    features = pd.DataFrame(
        {"object": [7, 7, 4, np.nan], "label": ["positive", "negative", "positive", "positive"]}
    )
    data = np.array([[6.0, 16, 16], [6, 30, 46], [3, 30, 46], [6, 24, 32]])
    _use(desk, desk.viewer.add_points(data, features=features))
    assert _anchors(desk) == {7: [6], 4: [3], 8: [6]}, "points without a name are objects of their own"
    assert np.array_equal(_ids(desk)[6] == 7, LEFT[6])


def test_points_of_one_name_are_one_object_on_several_slices(desk: Desk) -> None:
    desk.start()
    data = np.array([[6.0, 16, 16], [6, 30, 46], [4, 16, 16]])
    _use(desk, desk.viewer.add_points(data, features={"object": ["cell a", "cell a", "cell a"]}))
    assert _anchors(desk) == {1: [4, 6]}
    assert np.array_equal(_ids(desk)[6] == 1, BRIGHT[6]), "both points were asked together"


def test_a_nameless_negative_point_is_outside_the_nearest_object_of_its_slice(
    desk: Desk, warned: list[str]
) -> None:
    desk.start()
    data = np.array([[6.0, 16, 16], [6, 30, 46], [6, 17, 17], [2, 5, 5]])
    signs = {"label": ["positive", "positive", "negative", "negative"]}
    _use(desk, desk.viewer.add_points(data, features=signs))
    # The negative point lies on the left ball, which the fake network therefore takes back.
    assert not (_ids(desk)[6][:, :32]).any() and np.array_equal(_ids(desk)[6] == 2, RIGHT[6])
    assert len(warned) == 1 and "1 outside points without an object on their slice" in warned[0]
    assert "1 where the network sees nothing" in warned[0]


def test_points_outside_and_at_other_times_are_left_out_with_their_number(
    desk: Desk, warned: list[str], said: list[str]
) -> None:
    desk.start(np.stack([balls(), balls()]))
    desk.viewer.dims.set_current_step(0, 1)
    data = np.array([[1.0, 6, 16, 16], [0, 6, 30, 46], [1, 6, 90, 46], [1, 40, 16, 16], [1, np.nan, 1, 1]])
    _use(desk, desk.viewer.add_points(data))
    ids = _ids(desk)
    assert not ids[0].any() and np.array_equal(ids[1, 6] == 1, LEFT[6])
    assert len(warned) == 1 and "3 outside the image, 1 on other time points or channels" in warned[0]
    assert "1 object made" in said[-1] and "Left out: 3 outside" in said[-1]


def test_a_layer_with_more_dimensions_counts_where_the_sliders_stand(desk: Desk, warned: list[str]) -> None:
    desk.start()
    layer = desk.viewer.add_points(np.array([[2.0, 6, 16, 16], [0, 6, 30, 46]]))
    desk.viewer.dims.set_current_step(0, 2)
    _use(desk, layer)
    assert _anchors(desk) == {1: [6]} and np.array_equal(_ids(desk)[6] == 1, LEFT[6])
    assert "1 on other time points" in warned[0]


def test_an_image_without_slices(desk: Desk) -> None:
    desk.start(balls()[6])
    _use(desk, desk.viewer.add_points(SEEDS[:, 1:]))
    assert np.array_equal(_ids(desk) == 1, LEFT[6]) and np.array_equal(_ids(desk) == 2, RIGHT[6])


# --------------------------------------------------- what is there already


def test_objects_that_exist_stay_as_they_are(desk: Desk, warned: list[str], said: list[str]) -> None:
    desk.start()
    desk.keep()
    session = desk.interaction.session
    session.set_done(1)
    before = _ids(desk)
    names = {"object": [1, 1]}
    _use(desk, desk.viewer.add_points(np.array([[6.0, 17, 17], [5, 16, 16]]), features=names))
    assert np.array_equal(_ids(desk)[6], before[6]), "the point on the finished object changed nothing"
    assert session.objects[1].anchors == {PlaneRef("z", 6)} and session.current == 1
    assert _anchors(desk)[2] == [5], "its other point made an object under a free number"
    assert "1 labelled already" in warned[0]
    session.allow_overwrite = True
    _use(desk, desk.viewer.add_points(np.array([[6.0, 17, 17]])))
    assert np.array_equal(_ids(desk)[6], before[6]), (
        "finished objects stay also where others may be overwritten"
    )
    assert "No object made" in said[-1]


def test_two_points_on_one_object_make_one(desk: Desk, warned: list[str]) -> None:
    desk.start()
    desk.interaction.session.allow_overwrite = True
    _use(desk, desk.viewer.add_points(np.array([[6.0, 16, 16], [6, 17, 17]])))
    assert _anchors(desk) == {1: [6]} and set(desk.interaction.session.objects) == {1, 3}
    assert "1 labelled already" in warned[0]


def test_an_object_being_drawn_keeps_its_number(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    _use(desk, desk.viewer.add_points(SEEDS[1:]))
    assert desk.interaction.session.current == 1 and _anchors(desk) == {2: [5]}
    assert desk.interaction.scene.points.features["object"].tolist() == [1]


def test_stopping_keeps_what_is_done_and_undo_takes_it_back(desk: Desk, said: list[str]) -> None:
    desk.start()
    desk.predictor.delay_s = 0.05
    data = np.array([[float(z), y, x] for z in range(3, 10) for y, x in ((16, 16), (30, 46))])
    layer = desk.viewer.add_points(data)
    shown: list[Any] = []

    def stop(progress: Any, left: Any) -> None:
        shown.append((progress, left))
        if progress is not None and progress.done >= 4:
            desk.interaction.stop()

    desk.interaction.progress_changed.connect(stop)
    _use(desk, layer)
    made = _anchors(desk)
    assert 2 <= len(made) < 14 and said[-1].startswith("Stopped; what was done is kept.")
    assert set(desk.interaction.session.objects) == {*made, 15}, "objects that got no mask have gone"
    assert any(left is not None for _, left in shown) and shown[-1] == (None, None)
    assert shown[0][0].total == 14
    desk.interaction.undo()
    desk.wait()
    assert not _ids(desk).any() and set(desk.interaction.session.objects) == {15}


def test_stopping_before_it_begins_leaves_nothing(desk: Desk, said: list[str]) -> None:
    desk.start()
    layer = desk.viewer.add_points(SEEDS)
    desk.wait()
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(20)

    desk.interaction.worker.submit(hold, Priority.CLICK)
    assert held.wait(20)
    desk.interaction.use_layer(layer)
    assert set(desk.interaction.session.objects) == {1, 2, 3}, "their numbers are reserved"
    desk.interaction.stop()
    go_on.set()
    desk.wait(lambda: not desk.interaction.propagating)
    assert set(desk.interaction.session.objects) == {3} and desk.interaction.session.undo_name is None
    assert said[-1].startswith("Stopped; what was done is kept. No object made")


def test_a_click_gets_in_between_and_undo_waits(desk: Desk, said: list[str]) -> None:
    desk.start()
    desk.go(6)
    desk.predictor.delay_s = 0.05
    data = np.array([[float(z), 16, 16] for z in range(2, 11) if z != 6])
    answered: list[bool] = []

    def click(progress: Any, left: Any) -> None:
        if progress is not None and progress.done == 2 and not answered:
            answered.append(False)
            desk.interaction.undo()
            desk.interaction.use_layer(desk.viewer.layers[-1])
            desk.interaction.scene.points.add(np.array([6.0, 30, 46]))
        if answered and desk.interaction.prompting.candidates is not None and desk.interaction.propagating:
            answered[0] = True

    desk.interaction.progress_changed.connect(click)
    _use(desk, desk.viewer.add_points(data))
    assert answered == [True], "the answer to the click came while the import was under way"
    assert said.count("Stop what is under way first (Shift-G).") == 2
    assert len(_anchors(desk)) == 8


# ------------------------------------------------------------------- shapes


def test_every_shape_is_an_object(desk: Desk, warned: list[str]) -> None:
    desk.start()
    layer = desk.viewer.add_shapes(name="drawn")
    layer.add_rectangles([_corners(6, 7, 7, 25, 25)])
    layer.add_ellipses([_corners(6, 24, 40, 36, 52)])
    layer.add_polygons([_corners(4, 12, 12, 20, 20)])
    layer.add_paths([np.array([[8.0, 30, 44], [8, 30, 48]])])
    layer.add_lines([np.array([[3.0, 16, 14], [3, 16, 18]])])
    _use(desk, layer)
    assert _anchors(desk) == {1: [6], 2: [6], 3: [4], 4: [8], 5: [3]} and not warned
    ids = _ids(desk)
    assert np.array_equal(ids[6] == 1, LEFT[6]) and np.array_equal(ids[6] == 2, RIGHT[6])
    assert np.array_equal(ids[4] == 3, LEFT[4]) and np.array_equal(ids[8] == 4, RIGHT[8])
    assert np.array_equal(ids[3] == 5, LEFT[3])


def test_shapes_of_another_scale_without_slices_and_across_slices(desk: Desk, warned: list[str]) -> None:
    desk.start()
    desk.go(6)
    flat = desk.viewer.add_shapes([_corners(0, 3, 3, 13, 13)[:, 1:]], shape_type="rectangle", scale=(2, 2))
    _use(desk, flat)
    assert _anchors(desk) == {1: [6]} and not warned
    slanted = np.array([[2.0, 30, 44], [8, 30, 48]])
    shapes = [slanted, np.array([[6.0, 90, 90], [6, 95, 95]])]
    _use(desk, desk.viewer.add_shapes(shapes, shape_type="line"))
    assert len(_anchors(desk)) == 1
    assert "1 not on one slice of the present view, 1 outside the image" in warned[0]


# ------------------------------------------------------------------- labels


def _rough() -> np.ndarray:
    """Two rough regions: 5 in a row of slices, largest on slice 6; 9 on slices 4 and 8."""
    rough = np.zeros(BRIGHT.shape, np.int32)
    for z, r in ((5, 2), (6, 4), (7, 3)):
        rough[z, 16 - r : 17 + r, 16 - r : 17 + r] = 5
    rough[4, 29:32, 45:48] = rough[8, 29:32, 45:48] = 9
    return rough


def test_every_label_is_an_object_on_its_largest_slice_in_a_row(desk: Desk, warned: list[str]) -> None:
    desk.start()
    _use(desk, desk.viewer.add_labels(_rough(), name="rough"))
    assert _anchors(desk) == {5: [6], 9: [4, 8]} and not warned
    ids = _ids(desk)
    assert np.array_equal(ids[6] == 5, LEFT[6]) and np.array_equal(ids[4] == 9, RIGHT[4])
    assert desk.interaction.session.undo_name == "objects from rough"
    assert desk.interaction.session.current == 10


def test_labels_of_another_scale_and_without_slices(desk: Desk) -> None:
    desk.start(scale=(2, 1, 1))
    desk.go(6)
    small = _rough()[:, ::2, ::2]
    layer = desk.viewer.add_labels(small, scale=(2, 2, 2), translate=(0, 0.5, 0.5))
    _use(desk, layer)
    assert _anchors(desk) == {5: [6], 9: [4, 8]}
    _use(desk, desk.viewer.add_labels((RIGHT[6] * 3).astype(int)))
    assert _anchors(desk) == {3: [6], 5: [6], 9: [4, 8]}
    assert np.array_equal(_ids(desk)[6] == 3, RIGHT[6])


def test_labels_that_are_turned_in_the_plane(desk: Desk) -> None:
    desk.start()
    turn = np.eye(4)[[0, 2, 1, 3]]
    _use(desk, desk.viewer.add_labels(_rough().transpose(0, 2, 1), affine=turn))
    assert _anchors(desk) == {5: [6], 9: [4, 8]} and np.array_equal(_ids(desk)[6] == 5, LEFT[6])


@pytest.mark.parametrize("label", [2**32 - 1, 2**32 + 3, 2**40])
def test_a_label_that_the_labels_cannot_hold_gets_a_free_number(desk: Desk, label: int) -> None:
    desk.start()
    rough = _rough().astype(np.int64)
    rough[rough == 9] = label
    _use(desk, desk.viewer.add_labels(rough))
    assert _anchors(desk) == {5: [6], 6: [4, 8]}
    desk.interaction.next_object()
    assert desk.interaction.session.current == 8, "there are numbers left"


def test_stopping_while_labels_are_read_makes_nothing(
    desk: Desk, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start()
    desk.interaction.progress_changed.connect(lambda p, _: desk.interaction.stop() if p else None)
    _use(desk, desk.viewer.add_labels(_rough()))
    assert not _anchors(desk) and said[-1] == "Stopped; nothing has been made."


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("kind", ["points", "shapes", "labels", "points 2D"])
def test_empty_layers_say_so(desk: Desk, said: list[str], warned: list[str], kind: str) -> None:
    desk.start()
    viewer = desk.viewer
    layer = {
        "points": lambda: viewer.add_points(ndim=3, name="bare"),
        "points 2D": lambda: viewer.add_points(name="bare"),
        "shapes": lambda: viewer.add_shapes(name="bare"),
        "labels": lambda: viewer.add_labels(np.zeros(BRIGHT.shape, int), name="bare"),
    }[kind]()
    _use(desk, layer)
    assert said[-1] == "No object made from “bare”: it is empty here." and not warned
    assert set(desk.interaction.session.objects) == {1} and desk.interaction.session.undo_name is None


def test_layers_of_other_kinds_and_no_image_are_harmless(desk: Desk, warned: list[str]) -> None:
    points = desk.viewer.add_points(SEEDS)
    desk.interaction.use_layer(points)
    image = desk.start()
    _use(desk, image)
    assert len(warned) == 1 and "neither points nor shapes nor labels" in warned[0]


def test_the_image_going_away_meanwhile_ends_the_import(
    desk: Desk, warned: list[str], said: list[str]
) -> None:
    image = desk.start()
    desk.predictor.delay_s = 0.05
    data = np.array([[float(z), 16, 16] for z in range(2, 11)])
    layer = desk.viewer.add_points(data)
    session, path = desk.interaction.session, desk.interaction.session.labels.path
    gone: list[int] = []

    def remove(progress: Any, left: Any) -> None:
        if progress is not None and progress.done == 3 and not gone:
            gone.append(1)
            desk.viewer.layers.remove(image)

    desk.interaction.progress_changed.connect(remove)
    desk.interaction.use_layer(layer)
    desk.wait(lambda: bool(gone))
    assert desk.interaction.session is None and path.exists() and not warned
    assert "The layer was removed" in said[-1] and not any(
        o.empty for o in session.objects.values() if o.id < 10
    )


def test_more_objects_than_the_labels_can_hold(desk: Desk, warned: list[str], monkeypatch: Any) -> None:
    desk.start()
    session = desk.interaction.session
    monkeypatch.setattr(session, "_largest_id", 255)
    _use(desk, desk.viewer.add_points(np.tile(SEEDS, (140, 1))))
    assert len(warned) == 1 and "cannot hold 280 more objects" in warned[0]
    assert set(session.objects) == {1} and not _ids(desk).any()


# --------------------------------------------------------------- the button


def test_the_button_lists_layers_that_can_be_used(desk: Desk, qtbot: Any) -> None:
    panel = SegmentWidget(desk.viewer)
    qtbot.addWidget(panel)
    button = panel.from_layer
    assert not button.isEnabled() and "no such layer yet" in button.toolTip()
    desk.start(name="stack")
    assert not button.isEnabled(), "the panel's own layers are not offered"
    seeds = desk.viewer.add_points(SEEDS, name="a & b")
    desk.viewer.add_labels(_rough(), name="rough")
    assert button.isEnabled() and "no such layer" not in button.toolTip()
    button.fill()
    assert [a.text() for a in button.choices.actions()] == ["a && b  (2 points)", "rough  (labels)"]
    button.choices.actions()[0].trigger()
    desk.wait(lambda: not desk.interaction.propagating and "2 objects made" in panel.status.text())
    assert button.isEnabled() and len(_anchors(desk)) == 2
    desk.viewer.layers.remove(seeds)
    desk.viewer.layers.remove("rough")
    assert not button.isEnabled()


def test_progress_counts_objects(desk: Desk, qtbot: Any) -> None:
    panel = SegmentWidget(desk.viewer)
    qtbot.addWidget(panel)
    desk.start()
    shown: list[str] = []
    desk.interaction.progress_changed.connect(lambda p, _: shown.append(panel.progress.format()))
    _use(desk, desk.viewer.add_labels(_rough()))
    assert any(text.startswith("slice 12 of 12") for text in shown), "reading the layer"
    assert any(text.startswith("object 3 of 3") for text in shown)


# ---------------------------------------------------------- in a real window


def test_in_a_window_seeds_of_a_scaled_stack_are_chosen_sent_and_taken_back(
    window: Desk, qtbot: Any, warned: list[str]
) -> None:
    place = {"scale": (3.0, 0.5, 0.5), "translate": (10.0, 20, 30)}
    window.start(**place)
    panel = SegmentWidget(window.viewer)
    window.viewer.window.add_dock_widget(panel)
    window.viewer.add_points(SEEDS, name="seeds", **place)
    window.viewer.add_shapes([_corners(6, 90, 90, 95, 95)], name="far", **place)
    panel.from_layer.fill()
    seeds, far = panel.from_layer.choices.actions()
    seeds.trigger()
    window.wait(lambda: not window.interaction.propagating)
    assert panel.status.text().startswith("2 objects made from “seeds”.") and panel.undo.isEnabled()
    assert panel.object.text() == "<b>Object 3</b>"
    panel.propagate_all.click()
    window.wait(lambda: not window.interaction.propagating)
    assert np.array_equal(_ids(window) == 1, LEFT) and np.array_equal(_ids(window) == 2, RIGHT)
    far.trigger()
    window.wait(lambda: not window.interaction.propagating)
    assert len(warned) == 1 and "1 outside the image" in warned[0]
    for _ in range(2):
        panel.undo.click()
        window.wait()
    assert not _ids(window).any() and not panel.undo.isEnabled()
