"""The panel that finds everything: preview, sliders that do not ask the network, drafts, the stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.layers import Tracks

from napari_sam.proposals import NAME
from napari_sam.tracks import NAME as TRACKS
from napari_sam.widgets.automatic import FILM, FOLLOW, LINK, NO_IMAGE, SEEDS, AutomaticWidget
from napari_sam.widgets.automatic import STACK as STACK_TEXT
from src_core.predictor import Predictor
from src_core.synthetic import make_stack
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk

STACK = make_stack(8_000_304, (4, 64, 64), "nuclei", 10.0)


@pytest.fixture
def panel(desk: Desk, qtbot: Any) -> AutomaticWidget:
    panel = AutomaticWidget(desk.viewer)
    qtbot.addWidget(panel.native)
    desk.interaction.ahead.predictor = Predictor.load("nano", "cpu")
    return panel


def shown(desk: Desk) -> np.ndarray | None:
    return np.asarray(desk.viewer.layers[NAME].data) if NAME in desk.viewer.layers else None


def preview(desk: Desk, panel: AutomaticWidget) -> np.ndarray:
    panel.preview.native.click()
    desk.wait(lambda: not desk.interaction.propagating, 120)
    found = shown(desk)
    assert found is not None
    return found.copy()


def test_nothing_can_be_pressed_without_an_image(panel: AutomaticWidget) -> None:
    assert not (panel.preview.enabled or panel.keep.enabled or panel.run.enabled or panel.stop.enabled)


def test_a_slice_is_shown_and_sliders_choose_without_the_network(
    desk: Desk, panel: AutomaticWidget, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start(STACK.image)
    desk.go(1)
    assert panel.preview.enabled and not panel.keep.enabled
    active = desk.viewer.layers.selection.active
    found = preview(desk, panel)
    assert found.shape == (1, 64, 64) and found.max() >= 3
    assert desk.viewer.layers[NAME].translate[0] == 1, "on its own slice"
    assert desk.viewer.layers.selection.active is active and panel.keep.enabled
    assert panel.count.value == f"{found.max()} objects on this slice"
    assert not desk.plane(1).any(), "nothing is kept yet"

    def ask(*_: Any, **__: Any) -> None:
        raise AssertionError("the network is asked")

    monkeypatch.setattr(Predictor, "predict_many", ask)
    panel.score.value = 1.0
    assert not shown(desk).any() and panel.count.value == "0 objects on this slice"
    panel.score.value = 0.3
    assert shown(desk).max() >= found.max()
    panel.area.value = 100_000
    assert not shown(desk).any()


def test_drafts_are_objects_with_confidences_and_one_undo_takes_them_back(
    desk: Desk, panel: AutomaticWidget
) -> None:
    desk.start(STACK.image)
    desk.go(1)
    count = int(preview(desk, panel).max())
    panel.keep.native.click()
    desk.wait(lambda: not desk.interaction.propagating)
    session = desk.interaction.session
    drafts = [o for o in session.objects.values() if o.scores]
    assert len(drafts) == count == len(np.unique(desk.plane(1))) - 1
    assert all(0 < s <= 1 for o in drafts for s in o.scores.values()) and not any(o.anchors for o in drafts)
    assert shown(desk) is None and f"{count} draft objects" in panel.report.value
    worst = min(drafts, key=lambda o: sum(o.scores.values()) / len(o.scores))
    assert session.current == worst.id, "the review begins with the least sure"
    desk.interaction.undo()
    desk.wait()
    assert not desk.plane(1).any()


def test_what_is_labelled_already_stays(desk: Desk, panel: AutomaticWidget) -> None:
    desk.start(STACK.image)
    desk.go(1)
    count = int(preview(desk, panel).max())
    for _ in range(2):
        if shown(desk) is None:
            preview(desk, panel)
        panel.keep.native.click()
        desk.wait(lambda: not desk.interaction.propagating)
    assert len(np.unique(desk.plane(1))) - 1 == count
    assert f"{count} were labelled already" in panel.report.value


def test_without_an_image_it_says_what_to_do(desk: Desk, panel: AutomaticWidget) -> None:
    assert panel.report.value == NO_IMAGE and not panel.preview.enabled
    desk.start(STACK.image)
    assert panel.report.value == "" and panel.preview.enabled


def test_another_slice_puts_the_preview_away(desk: Desk, panel: AutomaticWidget) -> None:
    desk.start(STACK.image)
    desk.go(1)
    preview(desk, panel)
    desk.go(2)
    assert shown(desk) is None and not panel.keep.enabled and panel.count.value == ""


@pytest.mark.parametrize("seeds", [False, True])
def test_the_stack_becomes_drafts_and_a_stopped_run_goes_on(
    desk: Desk, panel: AutomaticWidget, seeds: bool
) -> None:
    desk.start(STACK.image)
    desk.go(1)
    assert panel.method.value == SEEDS
    if not seeds:
        panel.method.value = LINK
    told: list[str] = []
    stopping = [True]

    def progressed(progress: Any, _: Any) -> None:
        told.append(panel.report.value)
        if stopping[0] and progress is not None and progress.done:
            panel.stop.native.click()

    desk.interaction.progress_changed.connect(progressed)
    panel.run.native.click()
    assert panel.stop.enabled and not panel.run.enabled
    desk.wait(lambda: not desk.interaction.propagating, 120)
    session = desk.interaction.session
    if not seeds:
        assert not any(o.scores for o in session.objects.values())
        assert "goes on from here" in panel.report.value
    stopping[0] = False
    panel.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating, 120)
    drafts = [o for o in session.objects.values() if o.scores]
    assert len(drafts) >= 2 and any(len(o.scores) >= 3 for o in drafts)
    stack = np.stack([desk.plane(z) for z in range(4)])
    assert {o.id for o in drafts} == set(np.unique(stack).tolist()) - {0}
    assert (
        any(("steps done" if seeds else "slices searched") in text for text in told)
        and "draft object" in panel.report.value
    )
    assert not list(session.labels.path.parent.glob("*automatic*")), "the search is not kept"


@pytest.mark.parametrize(
    "image", [STACK.image[1:2], np.zeros((2, 64, 64), np.uint8)], ids=["one slice", "blank"]
)
def test_a_stack_of_one_slice_is_searched_and_a_blank_one_has_no_least_sure_object(
    desk: Desk, panel: AutomaticWidget, image: np.ndarray
) -> None:
    desk.start(image)
    panel.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating, 120)
    drafts = [o for o in desk.interaction.session.objects.values() if o.scores]
    assert bool(drafts) == image.any(), panel.report.value
    assert panel.report.value.startswith(f"{len(drafts)} draft object")
    assert ("least sure" in panel.report.value) == bool(drafts)
    desk.viewer.layers.clear()
    assert panel.report.value == NO_IMAGE


def film(depth: int = 0) -> np.ndarray:
    """One slice whose objects move by two pixels a time point; the same on each of `depth` slices."""
    frames = np.stack([np.roll(STACK.image[1], 2 * t, 1) for t in range(3)])
    return np.stack([frames] * depth, 1) if depth else frames


def follow(desk: Desk, panel: AutomaticWidget) -> Tracks:
    panel.run.native.click()
    desk.wait(lambda: not desk.interaction.propagating, 240)
    (layer,) = [x for x in desk.viewer.layers if isinstance(x, Tracks)]
    return layer


@pytest.mark.parametrize("depth", [0, 2])
def test_a_film_is_followed_and_its_tracks_are_shown_where_the_image_is(
    desk: Desk, panel: AutomaticWidget, depth: int
) -> None:
    axes = ("t", "z", "y", "x") if depth else ("t", "y", "x")
    units = ("s", "um", "um", "um") if depth else ("s", "um", "um")
    scale = (5.0, 2.0, 0.5, 0.5) if depth else (5.0, 0.5, 0.5)
    image = desk.start(film(depth), axis_labels=axes, units=units, scale=scale)
    assert panel.method.value == FOLLOW and panel.run.text == FILM and not panel.span.enabled
    active = desk.viewer.layers.selection.active
    layer = follow(desk, panel)
    assert desk.viewer.layers.selection.active is active
    assert layer.name == TRACKS and layer.ndim == image.ndim
    assert np.allclose(layer.scale, image.scale) and layer.units == image.units
    session = desk.interaction.session
    ids = {o.id for o in session.objects.values() if o.scores}
    assert ids == set(layer.data[:, 0].astype(int)) and len(ids) >= 3
    assert not list(session.labels.path.parent.glob("*automatic*")), "the search is not kept"
    for k, t, *_, y, x in layer.data:
        places = [PlaneRef("z", z, int(t)) for z in range(depth)] if depth else [PlaneRef("z", int(t))]
        drawn = np.stack([session.labels.read_plane(p.axis, p.index, p.t) for p in places])
        inside = np.argwhere(drawn == k)[:, 1:]
        assert np.allclose(inside.mean(0), (y, x)), "the middle of the object with this id"
    assert sum(all((d == k).any() for d in drawn) for k in ids) >= 3, "ids stay"
    again = follow(desk, panel) if not depth else layer
    assert again is layer, "the same layer, brought up to date"
    panel.reset_choices()  # what napari does whenever layers come or go
    assert panel.method.value == FOLLOW


def test_time_is_offered_only_where_it_may_be(desk: Desk, panel: AutomaticWidget) -> None:
    desk.start(STACK.image)
    assert FOLLOW in panel.method.choices and panel.method.value == SEEDS
    assert panel.run.text == STACK_TEXT and panel.span.enabled
    desk.start(STACK.image, axis_labels=("z", "y", "x"))
    assert FOLLOW not in panel.method.choices
