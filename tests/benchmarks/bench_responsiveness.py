"""Measure how long the window is ever blocked while the plugin works, and how long a click takes.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m tests.benchmarks.bench_responsiveness [--no-vit-b]

A timer of 1 ms beats in the event loop of a shown window; a gap between two beats is time in which the window
could not have answered, and the work in it is the processor time that its thread took. The first and the last row
are windows with nothing to do: what the machine itself takes.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from qtpy.QtCore import QEventLoop, QTimer

from napari_sam import running, storage
from napari_sam.interaction import Interaction
from napari_sam.registry import interaction_of, release
from napari_sam.widgets.objects import ObjectsWidget
from napari_sam.widgets.segment import SegmentWidget
from src_core import zoo
from src_core.model.builder import build_sam
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings
from src_core.types import PlaneRef
from src_core.worker import Priority

PERMISSIVE = PropagationSettings(min_presence=0.0, min_score=-99.0, min_overlap=0.0, max_growth=1e9)
Row = tuple[str, ...]
HEADER = (
    "phase",
    "longest gap",
    "second longest",
    "gaps over 50 ms",
    "most work in a gap",
    "second most",
    "wall",
)


class Heartbeat:
    """Gaps between beats of a 1 ms timer in the event loop, in milliseconds.

    `work` holds the processor time of the window's thread in each gap: what other programs take from a busy
    machine is in `gaps` only.
    """

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self.work: list[float] = []
        self._last = self._now()
        self._timer = QTimer()
        self._timer.setInterval(1)
        self._timer.timeout.connect(self._beat)

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.thread_time()

    def _beat(self) -> None:
        last, self._last = self._last, self._now()
        for found, before, now in zip((self.gaps, self.work), last, self._last, strict=True):
            found.append(1000 * (now - before))

    def start(self) -> None:
        """Begin counting anew."""
        self.gaps, self.work, self._last = [], [], self._now()
        self._timer.start()

    def stop(self) -> None:
        """End with the gap since the last beat."""
        self._beat()
        self._timer.stop()


class Desk:
    """A shown window with the panel and a table of objects, on an image."""

    def __init__(self, data: Any, predictor: Predictor) -> None:
        self.viewer = napari.Viewer(title="responsiveness")
        self.image = self.viewer.add_image(data, contrast_limits=(0, 255))
        self.viewer.dims.set_current_step(0, data.shape[0] // 2)
        interaction_of(self.viewer).ahead.predictor = predictor  # the panel begins on the image at once
        self.panel = SegmentWidget(self.viewer)
        self.viewer.window.add_dock_widget(self.panel, name="Segment")
        self.viewer.window.add_dock_widget(ObjectsWidget(self.viewer), name="Objects")
        self.interaction: Interaction = self.panel.interaction
        self.beat = Heartbeat()

    def until(self, holds: Callable[[], bool], seconds: float = 600) -> None:
        """Run the event loop, as with somebody at the screen, until something holds."""
        end, held = time.monotonic() + seconds, False
        # An event loop of its own: to leave the application's would tell everybody that the program ends.
        loop, poll = QEventLoop(), QTimer()

        def look() -> None:
            nonlocal held
            held = held or holds()
            if held or time.monotonic() > end:
                loop.quit()

        poll.setInterval(5)
        poll.timeout.connect(look)
        poll.start()
        loop.exec()
        poll.stop()
        assert held, "it did not happen in time"

    def settle(self) -> None:
        """Wait until nothing is under way."""
        end = time.monotonic() + 0.3
        self.until(lambda: self.interaction.idle() and time.monotonic() > end)

    @contextmanager
    def phase(self, rows: list[Row], name: str) -> Iterator[None]:
        """Measure what happens inside."""
        self.beat.start()
        began = time.perf_counter()
        yield
        self.beat.stop()
        gaps, work = ([*sorted(found, reverse=True), 0.0, 0.0] for found in (self.beat.gaps, self.beat.work))
        longest = [f"{value:.0f} ms" for value in (*gaps[:2], *work[:2])]
        over, wall = sum(g > 50 for g in gaps), time.perf_counter() - began
        rows.append((name, *longest[:2], str(over), *longest[2:], f"{wall:.2f} s"))

    def close(self) -> None:
        """End the work and close the window."""
        release(self.viewer)
        self.viewer.close()


def discs(n_slices: int, side: int, count: int) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """Return a stack of bright columns on noise, and their centres."""
    grid = int(np.ceil(np.sqrt(count)))
    step = side // (grid + 1)
    centres = [(step * (1 + k // grid), step * (1 + k % grid)) for k in range(count)]
    y, x = np.mgrid[:side, :side]
    plane = np.random.default_rng(0).normal(40, 8, (side, side))
    for cy, cx in centres:
        plane[(y - cy) ** 2 + (x - cx) ** 2 < (step // 4) ** 2] = 180
    return np.repeat(np.clip(plane, 0, 255).astype(np.uint8)[None], n_slices, 0), centres


def nano() -> Predictor:
    """Return the network that ships, or one of its kind with drawn weights."""
    if zoo.named("nano").downloaded is not None:
        return Predictor.load("nano")
    torch.manual_seed(0)
    return Predictor(build_sam("nano"), "nano")


def idle(rows: list[Row]) -> None:
    """Measure what the machine and the window take by themselves."""
    desk = Desk(discs(12, 512, 4)[0], nano())
    desk.settle()
    with desk.phase(rows, "nothing to do"):
        end = time.monotonic() + 3
        desk.until(lambda: time.monotonic() > end)
    release(desk.viewer)
    with desk.phase(rows, "napari alone, 12 slices shown one after the other"):
        for z in range(12):
            desk.viewer.dims.set_current_step(0, z)
            end = time.monotonic() + 0.2
            desk.until(lambda end=end: time.monotonic() > end)
    desk.viewer.close()


def embed_vit_b(rows: list[Row]) -> None:
    """(a) A ViT-B embeds the slice on screen."""
    torch.manual_seed(0)
    desk = Desk(discs(1, 512, 4)[0], nano())
    desk.settle()  # the window has been drawn, so that only the network is measured
    large = Predictor(build_sam("vit_b"), "nano")
    with desk.phase(rows, "(a) ViT-B embeds a slice"):
        desk.interaction.ahead.predictor = large
        desk.interaction.renew_embeddings()
        desk.until(desk.interaction.idle)
    cache = desk.interaction.cache
    assert cache is not None and cache.predictor is large and 0 in cache.ready("z")
    desk.close()


def propagate(rows: list[Row], *, follow: bool, count: int = 20) -> None:
    """(b) Many objects are propagated together, with the view on one slice or following."""
    data, centres = discs(12, 512, count)
    desk = Desk(data, nano())
    desk.settle()
    session = desk.interaction.session
    assert session is not None, desk.panel.status.text()
    y, x = np.mgrid[:512, :512]
    with desk.phase(rows, f"(b) {count} objects are accepted"):
        for k, (cy, cx) in enumerate(centres):
            session.select(k + 1)
            mask = (y - cy) ** 2 + (x - cx) ** 2 < 300
            accept = functools.partial(session.accept, PlaneRef("z", 6), mask, k + 1)
            desk.interaction.worker.submit(accept, Priority.CLICK)
        desk.settle()
    seen: list[int] = []

    def show(progress: Any, _: Any) -> None:
        if progress is not None and progress.plane is not None:
            seen.append(progress.done)

    desk.interaction.follow = follow
    desk.interaction.progress_changed.connect(show)
    name = f"(b) {count} objects are propagated, the view {'following' if follow else 'at rest'}"
    with desk.phase(rows, name):
        desk.interaction.propagate(list(range(1, count + 1)))
        desk.until(lambda: not desk.interaction.propagating)
    desk.close()
    assert len(seen) >= 11


def large(rows: list[Row], folder: Path) -> list[Row]:
    """(c) A click and its mask in a stack of 64 x 2048 x 2048 pixels, (d) how long a click takes there."""
    plane, centres = discs(1, 2048, 9)
    array = zarr.create_array(folder / "image.zarr", shape=(64, 2048, 2048), chunks=(1, 512, 512), dtype="u1")
    for z in range(30, 35):
        array[z] = plane[0]
    desk = Desk(array, nano())
    desk.settle()
    interaction = desk.interaction
    timings: list[dict[str, float]] = []
    for number, (cy, cx) in enumerate(centres):
        told = rows if number == 1 else []
        with desk.phase(told, "(c) a click is answered and its outline shown"):
            timings.append(_click(desk, 32, cy, cx))
        with desk.phase(told, "(c) its mask is accepted and shown"):
            interaction.accept()
            desk.settle()
        with desk.phase(told, "(c) the next object is started"):
            interaction.next_object()
            desk.settle()
    with desk.phase(rows, "(c) a mask is undone"):
        interaction.undo()
        desk.settle()
    desk.close()
    return _medians(timings[1:], "2048 x 2048")


def small() -> list[Row]:
    """(d) How long a click takes on a slice of one tile."""
    data, centres = discs(8, 512, 16)
    desk = Desk(data, nano())
    desk.settle()
    timings = []
    for cy, cx in centres:
        timings.append(_click(desk, 4, cy, cx))
        desk.interaction.next_object()
        desk.settle()
    desk.close()
    return _medians(timings[1:], "512 x 512")


def _click(desk: Desk, z: int, y: int, x: int) -> dict[str, float]:
    """Add a point and follow it: through the queue, the network, and onto the screen."""
    interaction, marks = desk.interaction, {}
    prompting, cache = interaction.prompting, interaction.cache
    assert prompting is not None and cache is not None and interaction.scene is not None
    predictor, show = cache.predictor, prompting._show

    def asked(*args: Any, **kwargs: Any) -> Any:
        marks["network"] = time.perf_counter()
        found = Predictor.predict(predictor, *args, **kwargs)
        marks["answered"] = time.perf_counter()
        return found

    def shown(on_screen: Any) -> None:
        marks["show"] = time.perf_counter()
        show(on_screen)
        marks["shown"] = time.perf_counter()

    predictor.predict, prompting._show = asked, shown  # type: ignore[method-assign]
    began = time.perf_counter()
    interaction.scene.points.add(np.array([z, y, x], float))
    returned = time.perf_counter()
    desk.until(lambda: "shown" in marks)
    del predictor.predict, prompting._show
    return {
        "in the layer and back": returned - began,
        "queue": max(0.0, marks["network"] - returned),
        "network": marks["answered"] - marks["network"],
        "to the window": marks["show"] - marks["answered"],
        "into the preview": marks["shown"] - marks["show"],
        "total": marks["shown"] - began,
    }


def _medians(timings: list[dict[str, float]], name: str) -> list[Row]:
    return [(name, k, f"{1000 * float(np.median([t[k] for t in timings])):.1f} ms") for k in timings[0]]


def _table(header: tuple[str, ...], rows: list[Row]) -> list[str]:
    lines = [header, ("---",) * len(header), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines)]


def main() -> None:
    """Run all phases and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-vit-b", action="store_true", help="leave out the ViT-B, which takes a minute")
    parser.add_argument("--large-only", action="store_true", help="only the large stack, and napari alone")
    arguments = parser.parse_args()
    rows: list[Row] = []
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads of torch")
    running.propagate_session = functools.partial(running.propagate_session, settings=PERMISSIVE)
    with tempfile.TemporaryDirectory() as name:
        storage.pooch.os_cache = lambda _: Path(name) / "cache"  # type: ignore[assignment]
        idle(rows)
        if arguments.large_only:
            clicks = large(rows, Path(name))
        else:
            propagate(rows, follow=False)
            propagate(rows, follow=True)
            clicks = [*small(), *large(rows, Path(name))]
        if not (arguments.no_vit_b or arguments.large_only):
            embed_vit_b(rows)
        idle(rows)
    print(*_table(HEADER, rows), *_table(("slice", "step of a click", "median"), clicks), sep="\n")


if __name__ == "__main__":
    main()
