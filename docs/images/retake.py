"""Take all pictures of the documentation anew, with the network that ships and the window as it is now.

    xvfb-run -a -s "-screen 0 1600x1000x24" python docs/images/retake.py

Writes every PNG beside this file; `--out FOLDER` writes them elsewhere, to look at before they are taken over.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QEventLoop, QTimer

from napari_sam import storage
from napari_sam.demo import build_demo
from napari_sam.registry import release
from src_core.cli import app
from src_core.masks import innermost
from src_core.samples import ground_truth, sample_clicks

SIZE = (1300, 820)
DARK, LIGHT = "dark", "light"


class Studio:
    """The demo's window and the hands that work in it."""

    def __init__(self) -> None:
        self.viewer, self.panel = build_demo()
        self.viewer.window.resize(*SIZE)
        self.interaction = self.panel.interaction
        self.wait()
        self.viewer.reset_view()

    def wait(self, holds: Callable[[], bool] = lambda: True, seconds: float = 300) -> None:
        """Run the event loop until nothing is under way and something holds."""
        end, settled = time.monotonic() + seconds, time.monotonic() + 0.5
        loop, poll = QEventLoop(), QTimer()

        def over() -> bool:
            return self.interaction.worker.idle() and time.monotonic() > settled and holds()

        poll.timeout.connect(lambda: loop.quit() if over() or time.monotonic() > end else None)
        poll.start(20)
        loop.exec()
        poll.stop()
        if not over():
            raise TimeoutError("the work in the window did not end")

    def click(self, z: int, y: float, x: float, *, negative: bool = False) -> None:
        """Click on a slice."""
        self.viewer.dims.set_current_step(0, z)
        self.wait()
        scene = self.interaction.scene
        assert scene is not None
        scene.set_defaults(negative)
        scene.points.add(np.array([z, y, x], float))
        self.wait()

    def keep(self) -> None:
        """Press W."""
        self.interaction.accept()
        self.wait()

    def propagate(self) -> None:
        """Press G and wait."""
        self.interaction.propagate()
        self.wait(lambda: not self.interaction.propagating)

    def start(self, clicks: Iterable[tuple[int, int, int]]) -> None:
        """Keep an object for each click, and send all of them through the stack."""
        for z, y, x in clicks:
            self.click(z, y, x)
            self.keep()
            self.interaction.next_object()
            self.wait()
        session = self.interaction.session
        assert session is not None
        self.interaction.propagate(session.unfinished())
        self.wait(lambda: not self.interaction.propagating)

    def correct(self, z: int, y: float, x: float) -> None:
        """Click on the object of a slice, and beside it."""
        self.click(z, y, x)
        self.click(z, *_beside(self, z), negative=True)

    def take(self, path: Path, theme: str) -> None:
        """Write a picture of the window."""
        self.viewer.theme = theme
        self.wait()
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        print(f"wrote {path}")

    def close(self) -> None:
        """Close the window."""
        release(self.viewer)
        self.viewer.close()


def tutorial(out: Path) -> None:
    """Take the three steps of the tutorial: a click, a propagation, a correction."""
    studio = Studio()
    z, y, x = sample_clicks("plant_nuclei", 1)[0]
    studio.click(z, y, x)
    studio.take(out / "tutorial_click.png", DARK)
    studio.keep()
    studio.propagate()
    state = studio.interaction.session.objects[1]  # type: ignore[union-attr]
    filled = sorted(p.index for p in state.scores)
    studio.viewer.dims.set_current_step(0, filled[len(filled) // 2] if filled else z)
    studio.take(out / "tutorial_propagate.png", DARK)
    studio.correct(least_sure(state) if filled else z, y, x)
    studio.take(out / "tutorial_correct.png", LIGHT)
    studio.close()


def review(out: Path) -> None:
    """Take the least sure slice of several objects."""
    studio = Studio()
    studio.start(sample_clicks("plant_nuclei", 4))
    studio.interaction.worst_slice()
    studio.wait()
    studio.take(out / "tutorial_review.png", DARK)
    studio.close()


def layer(out: Path) -> None:
    """Take seeds of another program that became objects."""
    studio = Studio()
    truth = ground_truth("plant_nuclei")
    masks = [truth == k for k in np.unique(truth)[1:]]
    largest = [int(mask.sum((1, 2)).argmax()) for mask in masks]
    seeds = np.array([(z, *innermost(mask[z])) for z, mask in zip(largest, masks, strict=True)])
    image = studio.interaction.image
    assert image is not None
    found = studio.viewer.add_points(
        seeds, name="seeds", size=3, scale=image.scale, translate=image.translate, units=image.units
    )
    inner = [z for z in largest if 0 < z < len(truth) - 1]
    z = max(inner, key=inner.count)
    studio.viewer.dims.set_current_step(0, z)
    studio.interaction.use_layer(found)
    studio.wait(lambda: not studio.interaction.propagating)
    studio.take(out / "tutorial_layer.png", DARK)
    studio.close()


def least_sure(state: Any) -> int:
    """Return the filled slice of an object with the lowest confidence, the first of equal ones."""
    return int(min(state.scores, key=lambda plane: (state.scores[plane], plane.index)).index)


def run(command: list[str]) -> None:
    """Run a command of napari-sam."""
    try:
        app(command)
    except SystemExit as end:
        if end.code:
            raise


def _beside(studio: Studio, z: int) -> tuple[float, float]:
    """Return a place beside the outlined mask: where a click outside the object makes sense."""
    found = studio.interaction.prompting.candidates  # type: ignore[union-attr]
    assert found is not None
    mask = found.masks[0]
    if not mask.any():
        return (4.0, 4.0)
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    left = columns.min() - 6
    return (
        float(rows.mean().clip(0, height - 1)),
        float(left if left >= 0 else min(columns.max() + 6, width - 1)),
    )


def demo(out: Path) -> None:
    """Take what `napari-sam demo --headless` draws."""
    with tempfile.TemporaryDirectory() as name:
        run(["demo", "--headless", "--out", name])
        shutil.copyfile(Path(name) / "plant_nuclei.slices.png", out / "demo_slices.png")
    print(f"wrote {out / 'demo_slices.png'}")


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        # The sample's labels belong to nobody: not into the user's folders.
        storage.pooch.os_cache = lambda _: Path(name)  # type: ignore[assignment]
        tutorial(out)
        review(out)
        layer(out)
        demo(out)


if __name__ == "__main__":
    sys.exit(main())
