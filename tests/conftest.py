"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # Qt ends the process where it finds no display
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch in every worker would take all cores


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Share the tests out by file, windows all to one worker, as a display has one focus.

    Skip what draws in a window where Qt cannot draw: offscreen, it has no OpenGL.
    """
    for item in items:
        file = item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group("windows" if "/napari_sam/" in file else file))
    if os.environ.get("QT_QPA_PLATFORM") != "offscreen":
        return
    for item in items:
        if "make_napari_viewer" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason="needs a display; run under xvfb-run"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images with ground truth; tests that need it are skipped where it is absent."""
    root = os.environ.get("NAPARI_SAM_SHARED") or Path(__file__).parents[2] / "shared"
    data = Path(root) / "data"
    if not data.is_dir():
        pytest.skip(f"no real images at {data}; set NAPARI_SAM_SHARED to the folder that holds data/")
    return data
