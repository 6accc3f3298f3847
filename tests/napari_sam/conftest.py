"""A viewer with the panel, a fake network, and labels in a temporary folder."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QApplication

from napari_sam import storage, workers
from napari_sam.interaction import Interaction
from napari_sam.registry import interaction_of, release
from tests.napari_sam.fakes import Threshold, balls


@pytest.fixture(autouse=True)
def labels_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep labels of in-memory images out of the user's folders."""
    monkeypatch.setattr(storage.pooch, "os_cache", lambda _: tmp_path / "cache")


class Desk:
    """A viewer, its interaction, and hands to work with."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.interaction: Interaction = interaction_of(viewer)
        self.predictor = Threshold()
        self.interaction.ahead.predictor = self.predictor

    def start(self, data: Any = None, **arguments: Any) -> Any:
        """Add an image and begin on it."""
        image = self.viewer.add_image(balls() if data is None else data, **arguments)
        self.interaction.start(image)
        return image

    def wait(self, until: Callable[[], bool] | None = None, seconds: float = 20) -> None:
        """Run the event loop until the worker is idle and `until` holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            if self.interaction.idle() and (until is None or until()):
                for _ in range(5):
                    QApplication.processEvents()
                if self.interaction.idle():
                    return
            time.sleep(0.005)
        raise AssertionError("the work did not end in time")

    def go(self, *steps: int) -> None:
        """Move the sliders."""
        for axis, step in enumerate(steps):
            self.viewer.dims.set_current_step(axis, step)
        self.wait()

    def click(self, *data: float, negative: bool = False) -> None:
        """Add a point in data coordinates of the points layer."""
        self.interaction.scene.set_defaults(negative)
        self.interaction.scene.points.add(np.array(data))
        self.wait()

    def keep(self) -> None:
        """Click on the object at (16, 16) of slice 6, and keep the answer."""
        self.go(6)
        self.click(6, 16, 16)
        self.interaction.accept()
        self.wait()

    def two_objects(self, current: int = 3) -> None:
        """Begin on an image, and keep a mask of either object on slice 6; an empty third is there then."""
        self.start()
        self.go(6)
        for y, x in ((16, 16), (30, 46)):
            self.click(6, y, x)
            self.interaction.next_object()
            self.wait()
        if current != 3:
            self.interaction.select(current)
            self.wait()

    def filled(self, identity: int = 1) -> set[int]:
        """The slices that an object is on."""
        return {z for z in range(12) if (self.plane(z) == identity).any()}

    def plane(self, index: int) -> np.ndarray:
        """The labels on slice z = index."""
        return self.interaction.session.labels.read_plane("z", index)


@pytest.fixture
def desk(qapp: QApplication) -> Iterator[Desk]:
    """Layers without a window, and a fake network."""
    yield from _desk(ViewerModel())


@pytest.fixture
def window(make_napari_viewer: Any) -> Iterator[Desk]:
    """A window, not shown, and a fake network."""
    yield from _desk(make_napari_viewer())


def _desk(viewer: Any) -> Iterator[Desk]:
    desk = Desk(viewer)
    yield desk
    release(viewer)
    desk.interaction = None  # type: ignore[assignment]
    gc.collect()


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the user has been told by notifications; errors, which mean a defect, are marked."""
    told: list[str] = []
    monkeypatch.setattr(workers, "show_warning", told.append)
    monkeypatch.setattr(workers, "show_error", lambda text: told.append(f"ERROR {text}"))
    return told
