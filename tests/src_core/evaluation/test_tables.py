from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src_core import evaluation as ev

ROWS = {"nano": {"objects": 12, "mIoU@1": 0.71234}, "vit_b": {"objects": 12, "ms per click": 123.456}}


def test_markdown_has_every_column_and_leaves_gaps() -> None:
    assert ev.markdown_table(ROWS, "model") == (
        "| model | objects | mIoU@1 | ms per click |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| nano | 12 | 0.712 |  |\n"
        "| vit_b | 12 |  | 123.5 |\n"
    )


def test_plot_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = ev.ObjectResult((0.2, 0.6, 0.95), None, None, 0.1)
    path = ev.plot_clicks({"nano": [result, result]}, tmp_path / "clicks.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_importing_the_package_is_light() -> None:
    code = "import sys, src_core.evaluation; print({'matplotlib', 'torch', 'napari'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
