"""Whatever is thrown at it: a word that says what to do, no traceback, no label lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Points
from napari.utils.key_bindings import coerce_keybinding

from napari_sam import storage
from napari_sam.widgets.segment import SegmentWidget
from src_core.errors import SessionError, VolumeError
from src_core.labels import LabelVolume
from src_core.types import PlaneRef
from tests.napari_sam.conftest import Desk
from tests.napari_sam.fakes import Threshold, balls

LEFT = (balls() > 100) & (np.indices(balls().shape)[2] < 32)


@pytest.fixture(autouse=True)
def no_traceback(warned: list[str]) -> Iterator[None]:
    """No test here may end in a notification that means a defect."""
    yield
    assert not [w for w in warned if w.startswith("ERROR")]


@pytest.fixture
def said(desk: Desk) -> list[str]:
    found: list[str] = []
    desk.interaction.said.connect(found.append)
    return found


# ------------------------------------------------------------------- images


def test_without_an_image_every_action_is_harmless(desk: Desk) -> None:
    interaction = desk.interaction
    for act in (
        interaction.accept,
        interaction.cycle,
        interaction.next_object,
        interaction.propagate,
        interaction.stop,
        interaction.flip_sign,
        interaction.undo,
        interaction.redo,
        interaction.look,
        interaction.show_current,
    ):
        act()
    interaction.select(3)
    interaction.set_model("vit_b")
    desk.wait()
    assert interaction.session is None and len(desk.viewer.layers) == 0


@pytest.mark.parametrize(
    "data, arguments, click",
    [
        (balls().astype(np.float32), {}, (6, 16, 16)),
        (np.where(balls() > 100, 1.0, np.nan), {"contrast_limits": (0, 1)}, (6, 16, 16)),
        (balls() > 100, {}, (6, 16, 16)),
        (balls().astype(np.int32) * 1000 - 60000, {}, (6, 16, 16)),
        (da.from_array(balls(), chunks=(1, 48, 64)), {}, (6, 16, 16)),
        ([balls(), balls()[:, ::2, ::2]], {"multiscale": True}, (6, 16, 16)),
        (balls()[None, None], {}, (0, 0, 6, 16, 16)),
        (balls()[None], {}, (0, 6, 16, 16)),
        (balls(), {"scale": (0.001, 1e-6, 1e-6), "translate": (1e3, -5, 2)}, (6, 16, 16)),
    ],
    ids="float nan bool int32 dask multiscale 5D 4D tiny-scale".split(),
)
def test_images_of_any_kind(desk: Desk, data: Any, arguments: dict[str, Any], click: tuple[int, ...]) -> None:
    desk.start(data, **arguments)
    desk.go(*click[:-2])
    desk.click(*click)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    found = np.asarray(desk.interaction.session.labels.array[:]).reshape(LEFT.shape) == 1
    assert np.array_equal(found, LEFT)


def test_six_dimensions_say_what_is_understood(desk: Desk) -> None:
    image = desk.viewer.add_image(np.zeros((1, 1, 1, 2, 8, 8), np.uint8))
    with pytest.raises(VolumeError, match="at most t, c, z, y, x"):
        desk.interaction.start(image)
    assert desk.interaction.session is None and len(desk.viewer.layers) == 1, "nothing was added"


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # napari's own word about such layers
def test_a_layer_tilted_out_of_the_plane(desk: Desk, said: list[str]) -> None:
    tilt = np.eye(4)
    tilt[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    desk.start(affine=tilt)
    desk.interaction.scene.points.add(np.array([6.0, 16, 16]))
    desk.wait()
    assert any("transform it back" in s for s in said) and desk.interaction.prompting.candidates is None


def test_a_layer_rotated_within_the_plane(desk: Desk) -> None:
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0, -1], [1, 0]]
    desk.start(affine=turn)
    desk.keep()
    assert np.array_equal(desk.plane(6) == 1, LEFT[6])


def test_another_layer_of_another_size(desk: Desk, said: list[str]) -> None:
    desk.start()
    desk.viewer.add_image(np.zeros((40, 100, 200), np.uint8))
    desk.keep()
    assert np.array_equal(desk.plane(6) == 1, LEFT[6])
    desk.go(30)
    assert any("outside the image; move it back" in s for s in said)
    desk.interaction.propagate()
    desk.interaction.accept()
    desk.go(6)
    assert (desk.plane(6) == 1).any()


def test_channels_as_rows_on_screen(desk: Desk, said: list[str]) -> None:
    desk.start(balls()[None])
    desk.viewer.dims.order = (1, 2, 0, 3)
    desk.wait()
    assert any("roll the axes back" in s for s in said)
    desk.viewer.dims.order = (0, 1, 2, 3)
    desk.go(0, 6)
    desk.click(0, 6, 16, 16)
    assert desk.interaction.prompting.candidates is not None


def test_an_image_whose_data_changes_size(desk: Desk, warned: list[str]) -> None:
    image = desk.start()
    desk.keep()
    path = desk.interaction.session.labels.path
    image.data = balls((20, 48, 64))
    desk.go(15)
    desk.click(15, 16, 16)
    desk.interaction.accept()
    desk.wait()
    assert (LabelVolume.open(path).read_plane("z", 6) == 1).any()


# ------------------------------------------------------------------- layers


def test_an_image_removed_while_a_click_is_answered(desk: Desk, said: list[str]) -> None:
    image = desk.start()
    desk.go(6)
    desk.interaction.scene.points.add(np.array([6.0, 16, 16]))  # not waiting for the answer
    desk.viewer.layers.remove(image)
    desk.wait()
    assert desk.interaction.session is None and len(desk.viewer.layers) == 0
    assert any("choose an image" in s for s in said)


def test_an_image_removed_while_propagating(desk: Desk) -> None:
    image = desk.start()
    desk.keep()
    labels = desk.interaction.session.labels
    desk.interaction.progress_changed.connect(
        lambda p, _: (
            desk.viewer.layers.remove(image) if p and p.done == 2 and image in desk.viewer.layers else 0
        )
    )
    desk.interaction.propagate()
    desk.wait(lambda: desk.interaction.session is None)
    filled = [z for z in range(12) if (labels.read_plane("z", z) == 1).any()]
    assert 6 in filled and all(np.array_equal(labels.read_plane("z", z) == 1, LEFT[z]) for z in filled)


@pytest.mark.parametrize("name", ["points", "boxes", "preview"])
def test_deleting_a_layer_to_click_in_brings_it_back(desk: Desk, said: list[str], name: str) -> None:
    desk.start()
    desk.keep()
    scene = desk.interaction.scene
    layer = scene.preview.layer if name == "preview" else getattr(scene, name)
    title = layer.name
    desk.viewer.layers.remove(layer)
    desk.wait()
    assert [x.name for x in desk.viewer.layers].count(title) == 1 and any(title in s for s in said)
    assert desk.interaction.session.objects[1].anchors == {PlaneRef("z", 6)}, "what was done is still known"
    desk.interaction.next_object()
    desk.click(6, 30, 46)
    desk.interaction.accept()
    desk.wait()
    assert {1, 2} <= set(np.unique(desk.plane(6)).tolist())
    for _ in range(2):
        desk.interaction.undo()
        desk.wait()
    assert len(desk.interaction.scene.points.data) == (0 if name == "points" else 1)


def test_deleting_all_layers_at_once(desk: Desk) -> None:
    desk.start()
    desk.keep()
    path = desk.interaction.session.labels.path
    desk.viewer.layers.clear()
    desk.wait()
    assert desk.interaction.session is None and len(desk.viewer.layers) == 0
    assert (LabelVolume.open(path).read_plane("z", 6) == 1).any()


def test_deleting_the_labels_layer_loses_neither_labels_nor_anchors(desk: Desk, said: list[str]) -> None:
    image = desk.start()
    desk.keep()
    desk.viewer.layers.remove(desk.interaction.scene.labels)
    desk.wait()
    assert desk.interaction.session is None and any("Labels on disk are kept" in s for s in said)
    desk.interaction.start(image)
    desk.wait()
    assert (desk.plane(6) == 1).any() and desk.interaction.session.objects[1].anchors == {PlaneRef("z", 6)}
    desk.interaction.undo()
    desk.wait()
    assert not desk.plane(6).any()


def test_going_to_another_image_and_back(desk: Desk) -> None:
    first = desk.start()
    desk.keep()
    desk.start(balls())
    desk.wait()
    assert not desk.plane(6).any()
    desk.interaction.start(first)
    desk.wait()
    assert (desk.plane(6) == 1).any() and desk.interaction.session.undo_name == "accept object 1"
    assert [x.name for x in desk.viewer.layers if x.name.startswith("SAM")] == [
        "SAM objects",
        "SAM preview (not saved)",
        "SAM boxes",
        "SAM points",
    ]


# ------------------------------------------------------------------- prompts


def test_points_outside_the_image(desk: Desk, warned: list[str]) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 200, 16)
    assert len(warned) == 1 and "outside the plane" in warned[0]
    desk.interaction.undo()
    desk.wait()
    desk.click(6, 16, 16)
    assert desk.interaction.prompting.candidates is not None


def test_a_point_outside_the_stack_is_on_no_slice(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(99, 16, 16)
    assert desk.interaction.prompting.candidates is None


def test_pasted_points(desk: Desk) -> None:
    desk.start(balls()[6])  # in stacks, napari 0.9 itself fails to paste
    desk.click(16, 16)
    points = desk.interaction.scene.points
    points.selected_data = {0}
    for name in ("Control-C", "Control-V"):
        Points.class_keymap[coerce_keybinding(name)](points)
    desk.wait()
    assert len(points.data) == 2 and list(points.features["object"]) == [1, 1]
    assert desk.interaction.prompting.candidates.masks[0].sum() == LEFT[6].sum()


def test_points_moved_by_hand_or_by_a_script(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 16, 16)
    desk.interaction.scene.points.data = np.array([[6.0, 30, 46]])
    desk.wait()
    assert desk.interaction.prompting.candidates.masks[0][30, 46]


@pytest.mark.filterwarnings("ignore:property used for .*_color dropped")  # napari's own word
def test_points_whose_features_are_spoilt(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    points = desk.interaction.scene.points
    points.features = {"something": []}
    points.add(np.array([6.0, 16, 16]))
    desk.wait()
    assert desk.interaction.prompting.candidates is not None


@pytest.mark.parametrize(
    ("value", "words"), [(7.0, "is constant"), (np.nan, "no pixel that is a finite number")]
)
def test_a_slice_without_anything_on_it_is_not_segmented(
    desk: Desk, warned: list[str], value: float, words: str
) -> None:
    stack = balls().astype(np.float32)
    stack[2] = value
    desk.start(stack, contrast_limits=(0, 255))
    desk.go(2)
    desk.click(2, 16, 16)
    assert len(warned) == 1 and words in warned[0] and desk.interaction.prompting.candidates is None
    desk.go(6)
    desk.click(6, 16, 16)
    assert len(warned) == 1 and desk.interaction.prompting.candidates is not None


def test_an_empty_shapes_layer_and_shapes_across_slices(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    boxes = desk.interaction.scene.boxes
    boxes.data = []
    slanted = np.array([[5, 10, 10], [5, 10, 20], [7, 20, 20], [7, 20, 10]], float)
    boxes.add_polygons(slanted)
    desk.wait()
    assert desk.interaction.prompting.candidates is None


def test_a_click_on_nothing(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    desk.click(6, 44, 4)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert not np.asarray(desk.interaction.session.labels.array[:]).any()


def test_propagating_without_a_mask_says_what_is_missing(desk: Desk, warned: list[str]) -> None:
    desk.start()
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert len(warned) == 1 and "accept a mask" in warned[0]


# -------------------------------------------------------------------- labels


def test_an_id_that_the_labels_cannot_hold(desk: Desk, warned: list[str]) -> None:
    desk.start()
    desk.keep()
    desk.interaction.select(2**32 - 1)
    desk.interaction.next_object()
    desk.wait()
    assert len(warned) == 1 and "cannot hold object 4294967296" in warned[0]
    desk.interaction.select(1)
    assert desk.interaction.session.current == 1


def test_labels_that_cannot_be_written_anywhere(
    desk: Desk, qtbot: Any, tmp_path: Path, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(storage.pooch, "os_cache", lambda _: tmp_path / "file")
    desk.viewer.add_image(balls())
    panel = SegmentWidget(desk.viewer)  # begins on the only image by itself
    qtbot.addWidget(panel)
    assert "make that folder writable" in panel.status.text() and len(warned) == 1
    assert desk.interaction.session is None and len(desk.viewer.layers) == 1


def test_a_disk_that_fills_up_while_propagating(
    desk: Desk, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start()
    desk.keep()
    labels = desk.interaction.session.labels
    write, count = labels.write_plane, iter(range(100))

    def fails(*args: Any, **kwargs: Any) -> Any:
        if next(count) == 3:
            raise SessionError("cannot write labels: the disk is full; free some space and propagate again")
        return write(*args, **kwargs)

    monkeypatch.setattr(labels, "write_plane", fails)
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert len(warned) == 1 and "free some space" in warned[0]
    filled = [z for z in range(12) if (desk.plane(z) == 1).any()]
    assert 6 in filled and len(filled) == 4
    desk.interaction.propagate()
    desk.wait(lambda: not desk.interaction.propagating)
    assert sum((desk.plane(z) == 1).any() for z in range(12)) == 9


def test_a_network_that_fails_is_told_and_the_next_click_works(
    desk: Desk, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.start()
    desk.go(6)
    answer = Threshold.predict_many
    monkeypatch.setattr(
        Threshold, "predict_many", lambda *a, **k: (_ for _ in ()).throw(MemoryError("too large"))
    )
    desk.click(6, 16, 16)
    assert warned == ["ERROR MemoryError: too large"]
    warned.clear()
    monkeypatch.setattr(Threshold, "predict_many", answer)
    desk.click(6, 17, 17)
    assert desk.interaction.prompting.candidates is not None


def test_many_clicks_while_the_network_is_busy(desk: Desk) -> None:
    desk.start()
    desk.go(6)
    points = desk.interaction.scene.points
    for k in range(10):
        points.add(np.array([6.0, 14 + k % 4, 14 + k // 4]))
    for z in (5, 7, 6):
        desk.viewer.dims.set_current_step(0, z)
    desk.wait()
    assert desk.interaction.prompting.candidates.masks[0].sum() == LEFT[6].sum()


def test_work_from_an_earlier_day_is_read_in_the_background(
    desk: Desk, tmp_path: Path, said: list[str]
) -> None:
    image = desk.viewer.add_image(balls(), name="stack")
    desk.interaction.start(image, tmp_path)
    desk.interaction.select(41)
    desk.keep()
    desk.viewer.layers.remove(image)
    again = desk.viewer.add_image(balls(), name="stack")
    desk.interaction.start(again, tmp_path)
    assert desk.interaction.loading
    desk.interaction.next_object()  # too early: its id is not known yet
    desk.interaction.propagate()
    assert any("Still reading" in s for s in said)
    desk.wait(lambda: not desk.interaction.loading)
    assert desk.interaction.session.current == 41 and 41 in desk.interaction.session.objects
    desk.interaction.next_object()
    assert desk.interaction.session.current == 42
