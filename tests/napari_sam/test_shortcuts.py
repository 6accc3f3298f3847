"""Every key does what the list says, and takes none of napari's."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from app_model.types import KeyBinding
from napari.components import ViewerModel
from napari.layers import Image, Labels, Points, Shapes
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts

from napari_sam.interaction import Interaction
from napari_sam.shortcuts import SHORTCUTS, bind, unbind
from tests.napari_sam.conftest import Desk

OVERRIDDEN = {"Ctrl+Z", "Ctrl+Shift+Z"}
"""napari's own undo of a labels layer does not know of anchors and propagation, so ours takes its place."""


@pytest.fixture
def keys(desk: Desk) -> Desk:
    bind(desk.viewer, desk.interaction)
    desk.start()
    desk.go(6)
    return desk


def _press(desk: Desk, key: str) -> None:
    desk.viewer.keymap[coerce_keybinding(key)](desk.viewer)
    desk.wait()


def test_w_keeps_the_mask(keys: Desk) -> None:
    keys.click(6, 16, 16)
    _press(keys, "W")
    assert (keys.plane(6) == 1).any()


def test_q_shows_the_next_candidate_and_comes_round(keys: Desk) -> None:
    keys.click(6, 16, 16)
    seen = []
    for _ in range(4):
        seen.append(keys.interaction.prompting.chosen)
        _press(keys, "Q")
    assert seen == [0, 1, 2, 0]


def test_n_keeps_and_starts_the_next_object(keys: Desk) -> None:
    keys.click(6, 16, 16)
    _press(keys, "N")
    assert (keys.plane(6) == 1).any() and keys.interaction.session.current == 2


def test_g_propagates_and_shift_g_stops(keys: Desk) -> None:
    keys.click(6, 16, 16)
    _press(keys, "G")
    keys.wait(lambda: not keys.interaction.propagating)
    assert sum((keys.plane(z) == 1).any() for z in range(12)) == 9
    _press(keys, "Control-Z")
    keys.predictor.delay_s = 0.05
    keys.interaction.progress_changed.connect(
        lambda p, _: keys.viewer.keymap[coerce_keybinding("Shift-G")](keys.viewer) if p else None
    )
    _press(keys, "G")
    keys.wait(lambda: not keys.interaction.propagating)
    assert sum((keys.plane(z) == 1).any() for z in range(12)) < 9


def test_u_changes_the_sign_of_the_next_points(keys: Desk) -> None:
    _press(keys, "U")
    keys.interaction.scene.points.add([6, 16, 16])
    keys.wait()
    _press(keys, "U")
    keys.interaction.scene.points.add([6, 30, 46])
    keys.wait()
    assert list(keys.interaction.scene.points.features["label"]) == ["negative", "positive"]


def test_control_z_undoes_and_control_shift_z_redoes(keys: Desk) -> None:
    keys.click(6, 16, 16)
    _press(keys, "W")
    _press(keys, "Control-Z")
    assert not keys.plane(6).any()
    _press(keys, "Control-Shift-Z")
    assert keys.plane(6).any()


@pytest.mark.parametrize("layer", ["points", "boxes", "labels"])
def test_our_layers_undo_the_same_way(keys: Desk, layer: str) -> None:
    keys.click(6, 16, 16)
    _press(keys, "W")
    own = getattr(keys.interaction.scene, layer)
    own.keymap[coerce_keybinding("Control-Z")](own)
    keys.wait()
    assert not keys.plane(6).any()
    own.keymap[coerce_keybinding("Control-Shift-Z")](own)
    keys.wait()
    assert keys.plane(6).any()


@pytest.mark.parametrize("key", [key for key, _, _ in SHORTCUTS])
def test_no_key_fails_without_an_image(desk: Desk, warned: list[str], key: str) -> None:
    bind(desk.viewer, desk.interaction)
    _press(desk, key)
    assert not [w for w in warned if w.startswith("ERROR")]


def test_keys_are_given_back(desk: Desk) -> None:
    bind(desk.viewer, desk.interaction)
    assert len(desk.viewer.keymap) == len(SHORTCUTS)
    unbind(desk.viewer)
    assert len(desk.viewer.keymap) == 0


def _of_napari(class_: Any) -> dict[str, str]:
    import napari.layers.labels._labels_key_bindings
    import napari.layers.points._points_key_bindings
    import napari.layers.shapes._shapes_key_bindings  # noqa: F401

    return {str(key): getattr(call, "__name__", "?") for key, call in class_.class_keymap.items()}


def test_no_key_is_one_of_napari() -> None:
    import napari
    from napari._app_model import get_app_model  # the menus' shortcuts are nowhere in public

    ours = {str(coerce_keybinding(key)) for key, _, _ in SHORTCUTS}
    assert len(ours) == len(SHORTCUTS) and napari.__version__
    taken: dict[str, str] = {}
    for name, bindings in default_shortcuts.items():
        taken |= {str(b): name for b in bindings}
    assert len(taken) > 50
    for class_ in (ViewerModel, Image, Labels, Points, Shapes):
        taken |= _of_napari(class_)
    for rule in get_app_model().keybindings:
        taken[str(rule.keybinding)] = rule.command_id
    clashes = {key: taken[key] for key in ours & taken.keys()}
    assert set(clashes) <= OVERRIDDEN, clashes
    assert str(KeyBinding.from_str("Ctrl+Z")) in taken, "the comparison sees napari's keys"


def test_every_shortcut_is_an_action_with_words() -> None:
    for (key, words, call), (other, _, _) in itertools.product(SHORTCUTS, SHORTCUTS):
        assert words and getattr(Interaction, call.__name__) is call
        assert key == other or coerce_keybinding(key) != coerce_keybinding(other)


def test_j_goes_to_the_worst_slice_and_k_keeps_it(keys: Desk) -> None:
    keys.click(6, 16, 16)
    _press(keys, "G")
    keys.wait(lambda: not keys.interaction.propagating)
    review = keys.interaction.session.review
    worst, left = review.worst("z"), review.remaining("z")
    _press(keys, "J")
    assert keys.interaction.on_screen().plane.index == worst.index
    _press(keys, "K")
    following = review.worst("z")
    assert keys.interaction.on_screen().plane.index == following.index != worst.index
    assert keys.interaction.review.remaining() == left - 1
