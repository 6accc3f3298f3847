"""`napari-sam train`: nano from scratch, on drawn stacks and the user's labelled images."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from src_core.cli.options import can_plot, console, progress_bar, write_aside
from src_core.errors import SamError

if TYPE_CHECKING:
    from src_core.training.config import TrainConfig

PATHS = ("images", "out", "start")
"""Settings that are paths, and text in a TOML file."""
TEST_SPLIT_OF = "dsb2018"
"""The one training set of which `napari-sam evaluate` uses a part."""


def train(
    out: Annotated[Path, typer.Option(help="Folder for weights, log and drawn stacks.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of .npz files with image and labels; without, drawn stacks only."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights to train further; without, from random ones.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides weights, data and prompts.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with any fields of TrainConfig; options win over it.")
    ] = None,
) -> None:
    """Train the small network, or go on with the run found in --out."""
    settings = _config(out, images, start, steps, seed, config)
    plots = can_plot()
    from src_core.training.config import training_files
    from src_core.training.loop import train as run

    training_files(settings)
    with progress_bar("training") as progress:
        weights = run(settings, lambda done, total, loss: progress(done, total, f"loss {loss:.3f}"))
    screen = console()
    screen.print(f"weights: {weights}")
    if plots:
        plot = out / "training.png"
        write_aside(plot, lambda part: _plot(out / "log.jsonl", part), overwrite=True)
        screen.print(f"plot of loss and scores: {plot}")


def _config(
    out: Path,
    images: Path | None,
    start: Path | None,
    steps: int | None,
    seed: int | None,
    config: Path | None,
) -> TrainConfig:
    from dataclasses import fields

    from src_core.evaluation import test_files
    from src_core.training.config import TrainConfig

    given = _read_toml(config) if config is not None else {}
    known = {f.name: f for f in fields(TrainConfig)}
    if unknown := sorted(given.keys() - known.keys()):
        raise SamError(f"{config} has unknown settings {', '.join(unknown)}; known are {', '.join(known)}")
    defaults = TrainConfig(out)
    for name, value in given.items():
        expected = str if name in PATHS else type(getattr(defaults, name))
        if expected is float and type(value) is int:
            given[name] = float(value)
        elif expected is tuple and type(value) is list:
            given[name] = tuple(str(v) for v in value)
        elif type(value) is not expected:
            raise SamError(f"{config}: {name} must be a {expected.__name__}, got {value!r}")
    options: dict[str, Any] = {"out": out, "images": images, "start": start, "steps": steps, "seed": seed}
    merged = given | {k: v for k, v in options.items() if v is not None}
    merged |= {name: Path(merged[name]) for name in PATHS if merged.get(name) is not None}
    folder = merged.get("images")
    if folder is not None and folder.resolve().name == TEST_SPLIT_OF:
        merged["excluded"] = tuple(sorted({*merged.get("excluded", ()), *test_files(folder)}))
    return TrainConfig(**merged)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SamError(f"{path} is not valid TOML ({error})") from error


def _plot(log: Path, path: Path) -> None:
    """Draw the loss, and below it the scores of the training samples, each smoothed over a fiftieth of the run."""
    import numpy as np
    from matplotlib.figure import Figure

    records: dict[int, dict[str, float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        records[record["step"]] = record  # a resumed run repeats steps; the last time counts
    order = sorted(records)
    figure = Figure(figsize=(6, 7), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for name in ("loss", "first", "corrected", "walk", "ends", "affinity"):
        steps = [step for step in order if name in records[step]]
        if not steps:
            continue
        values = np.array([records[step][name] for step in steps])
        width = max(1, len(values) // 50)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes = above if name == "loss" else below
        (line,) = axes.plot(steps[width - 1 :], smooth, label=name)
        axes.plot(steps, values, alpha=0.15, color=line.get_color(), linewidth=0.5)
    above.set(ylabel="loss")
    below.set(xlabel="step", ylabel="mean IoU; ends: fraction right", ylim=(0, 1))
    below.legend(loc="lower right")
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.savefig(path, format="png", dpi=150)
