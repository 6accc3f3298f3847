"""Imports point one way: the library needs neither napari nor Qt, and nobody waits for torch at start-up."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import src_core

ROOT = Path(__file__).parents[1]


def _run(code: str) -> set[str]:
    """Run `code` in a fresh interpreter and return the top-level modules it has loaded."""
    script = textwrap.dedent(code) + textwrap.dedent("""
        import json, sys
        print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_no_module_of_the_library_imports_napari_or_qt() -> None:
    loaded = _run("""
        import importlib, pkgutil
        import src_core
        names = [m.name for m in pkgutil.walk_packages(src_core.__path__, "src_core.")]
        assert len(names) > 50, names
        for name in names:
            if not name.endswith("__main__"):
                importlib.import_module(name)
        for name in src_core.__all__:
            getattr(src_core, name)
    """)
    assert "torch" in loaded  # else nothing was imported
    forbidden = {
        "napari",
        "napari_sam",
        "npe2",
        "qtpy",
        "superqt",
        "magicgui",
        "PyQt5",
        "PyQt6",
        "PySide6",
        "vispy",
    }
    assert not loaded & forbidden


def test_the_library_and_the_plugin_start_without_torch_and_zarr() -> None:
    assert not _run("import src_core, src_core.errors, src_core.prompts") & {
        "torch",
        "zarr",
        "dask",
        "skimage",
    }
    assert not _run("import napari_sam") & {"torch", "zarr", "dask", "skimage"}


def test_the_public_names_are_the_documented_ones() -> None:
    assert src_core.__all__ == sorted(src_core._HOME)
    assert set(src_core.__all__) <= set(dir(src_core))
    for name in src_core.__all__:
        assert getattr(src_core, name).__name__ == name
    assert not hasattr(src_core, "no_such_name")
