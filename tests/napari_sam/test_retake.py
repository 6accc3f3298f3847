"""The script that takes the documentation's pictures still works, and takes those that the documentation shows."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from skimage.io import imread

from src_core import zoo

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"


@pytest.fixture(scope="module")
def retake() -> ModuleType:
    spec = importlib.util.spec_from_file_location("retake", IMAGES / "retake.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_it_takes_is_there_and_shown(retake: ModuleType) -> None:
    taken = set(re.findall(r'out / "([\w.]+\.png)"', (IMAGES / "retake.py").read_text()))
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {name for text in texts for name in re.findall(r"images/([\w.]+\.png)", text.read_text())}
    assert taken and taken <= {path.name for path in IMAGES.glob("*.png")}
    assert taken <= shown, "a picture that no text shows need not be taken"
    assert all((IMAGES / name).exists() for name in shown)


@pytest.mark.skipif(zoo.named("nano").downloaded is None, reason="the weights of nano are not here")
def test_the_picture_of_the_demo_is_taken(retake: ModuleType, tmp_path: Path) -> None:
    retake.demo(tmp_path)
    found, kept = imread(tmp_path / "demo_slices.png"), imread(IMAGES / "demo_slices.png")
    assert found.shape == kept.shape and found.std() > 1
