"""The weights that ship: a fresh install works offline, so a checkout without them is broken, not incomplete.

This test is never to be skipped.
"""

from __future__ import annotations

from pathlib import Path

import src_core

MAX_BYTES = 16_000_000


def test_the_weights_ship_with_the_package_and_stay_small() -> None:
    folder = Path(src_core.__file__).parent / "weights"
    weights = folder / "nano.safetensors"
    assert weights.is_file(), f"{weights} is missing: the package cannot segment anything offline"
    assert weights.stat().st_size > 1_000_000
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= MAX_BYTES
