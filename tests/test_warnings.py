"""Warnings are errors for our own modules and not for the third parties we only import."""

from __future__ import annotations

import warnings

import pytest


@pytest.mark.parametrize(
    "module", ["src_core", "src_core.volumes.plane", "napari_sam", "napari_sam.widgets.segment"]
)
def test_our_modules_may_not_warn(module: str) -> None:
    with pytest.raises(DeprecationWarning):
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)


@pytest.mark.parametrize("module", ["napari", "napari.layers.base", "npe2.manifest"])
def test_third_parties_may(module: str) -> None:
    warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)
    with pytest.raises(UserWarning):
        warnings.warn_explicit("odd", UserWarning, "file.py", 1, module=module)
