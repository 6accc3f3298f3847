"""The manifest is valid, what it names exists, and its samples open."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.layers import Image
from npe2 import PluginManager, PluginManifest
from qtpy.QtWidgets import QWidget

from napari_sam.registry import interaction_of, release
from src_core.samples import ground_truth
from tests.napari_sam.fakes import balls
from tests.napari_sam.test_reader import write_image

ROOT = Path(__file__).parents[2]
MANIFEST = PluginManifest.from_file(ROOT / "napari.yaml")
COMMANDS = {c.id: c for c in MANIFEST.contributions.commands or ()}


def _named(python_name: str) -> object:
    module, name = python_name.split(":")
    return getattr(import_module(module), name)


def test_the_manifest_is_valid_and_found_by_its_entry_point() -> None:
    MANIFEST.validate_imports()
    try:
        distribution("napari-sam-stacks")
    except PackageNotFoundError:
        pytest.skip("the package is not installed here, so it has no entry points")
    points = {e.name: e.value for e in entry_points(group="napari.manifest")}
    assert points[MANIFEST.name] == "napari_sam_manifest:napari.yaml"
    assert MANIFEST.name == "napari-sam-stacks"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda c: c.id)
def test_every_command_is_there(command: object) -> None:
    assert callable(_named(command.python_name))  # type: ignore[attr-defined]


def test_widgets_take_a_viewer_and_are_widgets() -> None:
    from magicgui.widgets import Container

    widgets = MANIFEST.contributions.widgets or []
    assert [w.display_name for w in widgets] == ["Segment", "Propagate", "Objects", "Automatic", "Models"]
    for widget in widgets:
        class_ = _named(COMMANDS[widget.command].python_name)
        assert isinstance(class_, type) and issubclass(class_, (QWidget, Container))
        assert list(inspect.signature(class_.__init__).parameters) == ["self", "napari_viewer"]


def test_menus_are_napari_s_and_their_commands_are_ours() -> None:
    from napari._app_model.constants import MenuId

    menus = MANIFEST.contributions.menus or {}
    assert menus
    for menu, items in menus.items():
        assert menu in {m.value for m in MenuId} and menu in MenuId.contributables()
        assert {i.command for i in items} <= set(COMMANDS)  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["plant_nuclei", "drawn_nuclei"])
def test_samples_open_with_their_truth_in_the_same_place(key: str) -> None:
    sample = next(s for s in MANIFEST.contributions.sample_data or () if s.key == key)
    (image, look, kind), (truth, placed, truth_kind) = _named(COMMANDS[sample.command].python_name)()  # type: ignore[operator]
    assert (kind, truth_kind) == ("image", "labels") and not placed["visible"]
    assert tuple(image.shape) == truth.shape and np.array_equal(truth, ground_truth(key))
    assert placed["scale"] == look["scale"] and look["scale"][0] > look["scale"][1]


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Iterator[Any]:
    """A viewer with this plugin among the registered ones."""
    viewer = make_napari_viewer()
    manager = PluginManager.instance()
    if MANIFEST.name not in manager:
        with manager.events.plugins_registered.blocked():  # no second entry in the menus of the whole run
            manager.register(MANIFEST)
    yield viewer
    release(viewer)


def test_napari_opens_the_samples(viewer: Any) -> None:
    viewer.open_sample("napari-sam-stacks", "plant_nuclei")
    assert [type(layer).__name__ for layer in viewer.layers] == ["Image", "Labels"]


def test_napari_opens_every_panel(viewer: Any) -> None:
    for widget in MANIFEST.contributions.widgets or ():
        dock, _ = viewer.window.add_plugin_dock_widget(MANIFEST.name, widget.display_name)
        assert dock.name.startswith(widget.display_name)
    assert len(viewer.window.dock_widgets) == 5


def test_panels_opened_from_the_menu_share_what_scripts_see(viewer: Any) -> None:
    # napari gives each of them a proxy of the viewer, whose layers are proxies too.
    image = viewer.add_image(balls(), name="balls")
    opened = [
        viewer.window.add_plugin_dock_widget(MANIFEST.name, widget.display_name)[1]
        for widget in MANIFEST.contributions.widgets or ()
    ]
    interaction = interaction_of(viewer)
    assert all(panel.interaction is interaction for panel in opened)
    assert interaction.viewer is viewer
    assert interaction.image is image, "the only image is begun on"
    assert viewer.layers.selection.active is interaction.scene.points


def test_napari_opens_a_zarr_with_its_place_and_its_labels_hidden(viewer: Any, tmp_path: Path) -> None:
    path = write_image(tmp_path / "cells.ome.zarr")
    image_layer, labels_layer = None, None
    for layer in viewer.open(path, plugin=MANIFEST.name):
        image_layer, labels_layer = (
            (layer, labels_layer) if isinstance(layer, Image) else (image_layer, layer)
        )
    assert image_layer is not None and labels_layer is not None
    assert viewer.layers.selection.active is image_layer
    for layer in (image_layer, labels_layer):
        assert tuple(layer.scale) == (2.0, 0.5, 0.5) and {str(u) for u in layer.units} == {"micrometer"}
        assert Path(layer.source.path) == path
    assert not labels_layer.visible and labels_layer.name == "nuclei"
