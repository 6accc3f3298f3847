"""The story that docs/sessions.md shows: propagated, corrected, reviewed, killed, opened again, exported.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/images/story.py

The window that works is killed with SIGKILL as soon as its last picture is taken; another one opens the image again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import napari
import numpy as np
from retake import SIZE, Studio, least_sure, run

import src_core.samples
from napari_sam.widgets.objects import ObjectsWidget
from napari_sam.widgets.segment import SegmentWidget
from src_core.beside import folder_beside
from src_core.labels import LabelVolume

SAMPLE = Path(src_core.samples.__file__).parent / "plant_nuclei.ome.tif"
THEME = "dark"
OBJECTS = 3


class Window(Studio):
    """A window on an image file, with the panels Segment and Objects."""

    def __init__(self, image: Path) -> None:
        self.viewer = napari.Viewer(title="napari-sam", show=True)
        self.viewer.open(str(image), plugin="napari")
        self.viewer.dims.set_current_step(0, self.viewer.layers[0].data.shape[0] // 2)
        self.panel = SegmentWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.panel, name="Segment", area="right")
        self.viewer.window.add_dock_widget(ObjectsWidget(self.viewer), name="Objects", area="right")
        self.viewer.window.resize(*SIZE)
        self.interaction = self.panel.interaction
        self.wait()
        self.viewer.reset_view()


def work(image: Path, out: Path) -> None:
    """Propagate, correct and review a few nuclei; then die without a word."""
    window = Window(image)
    session = window.interaction.session
    assert session is not None
    clicks = src_core.samples.sample_clicks("plant_nuclei", OBJECTS)
    window.start(clicks)
    window.take(out / "story_1_propagated.png", THEME)

    z, y, x = clicks[0]
    window.interaction.select(1)
    window.correct(least_sure(session.objects[1]), y, x)
    window.keep()
    window.propagate()
    window.take(out / "story_2_corrected.png", THEME)

    window.interaction.worst_slice()
    window.wait()
    for _ in range(300):
        if not left(window):
            break
        window.interaction.right_slice()
        window.wait()
    assert not left(window), "the queue did not become empty"
    window.take(out / "story_3_reviewed.png", THEME)
    window.click(z + 1, 4, 4)
    window.take(out / "story_4_before_the_kill.png", THEME)
    os.kill(os.getpid(), signal.SIGKILL)


def left(window: Window) -> int:
    """Return how many slices are left to review."""
    session = window.interaction.session
    assert session is not None
    return session.review.remaining("z")


def reopen(image: Path, out: Path, before: np.ndarray) -> None:
    """Open the image as if nothing had happened."""
    window = Window(image)
    session = window.interaction.session
    assert session is not None
    assert np.array_equal(labels(image), before), "labels differ after the kill"
    assert not left(window) and len(session.objects) >= OBJECTS
    window.take(out / "story_5_opened_again.png", THEME)
    window.close()


def labels(image: Path) -> np.ndarray:
    """Return the labels beside an image."""
    volume = LabelVolume.open(folder_beside(image) / "labels" / "objects", "r")
    return np.stack([volume.read_plane("z", z) for z in range(volume.shape[0])])


def export(image: Path, out: Path) -> None:
    """Measure the objects, and make their labels once more from the journal."""
    table, again = image.parent / "nuclei.csv", image.parent / "again.ome.zarr"
    run(["measure", str(image), "--out", str(table)])
    run(["replay", str(folder_beside(image)), "--out", str(again)])
    shutil.copyfile(table, out / "story_6_nuclei.csv")
    print(table.read_text(encoding="utf-8"))


def main() -> None:
    """Tell the whole story in a folder of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the pictures")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.work:
        work(options.work, options.out)
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "nuclei.ome.tif"
        shutil.copyfile(SAMPLE, image)
        child = [sys.executable, __file__, "--work", str(image), "--out", str(options.out)]
        ended = subprocess.run(child, check=False).returncode
        assert ended == -signal.SIGKILL, f"the window ended with {ended}"
        reopen(image, options.out, labels(image))
        export(image, options.out)


if __name__ == "__main__":
    sys.exit(main())
