"""The examples in docs/examples run as they are written."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import tifffile

from src_core import zoo
from src_core.samples import ground_truth, sample_clicks

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "segment_a_stack.py"


@pytest.mark.skipif(zoo.named("nano").downloaded is None, reason="the weights of nano are not here")
def test_segment_a_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = runpy.run_path(str(SCRIPT))["main"](tmp_path)
    truth = ground_truth("plant_nuclei")
    assert labels.shape == truth.shape and set(np.unique(labels).tolist()) == {0, 1, 2}
    assert np.array_equal(tifffile.imread(tmp_path / "nuclei.tif"), labels)
    assert "nucleus 2:" in capsys.readouterr().out
    for k, (z, y, x) in enumerate(sample_clicks("plant_nuclei", 2), start=1):
        assert labels[z, y, x] == k
        assert (labels == k).any((1, 2)).sum() > 1, "it went beyond the slice of the click"
