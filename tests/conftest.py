"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images with ground truth; tests that need it are skipped where it is absent."""
    root = os.environ.get("NAPARI_SAM_SHARED") or Path(__file__).parents[2] / "shared"
    data = Path(root) / "data"
    if not data.is_dir():
        pytest.skip(f"no real images at {data}; set NAPARI_SAM_SHARED to the folder that holds data/")
    return data
