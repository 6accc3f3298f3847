"""Results as tables for people and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from src_core.evaluation.clicks import MAX_CLICKS, ObjectResult
from src_core.evaluation.metrics import iou_after

Summaries = Mapping[str, Mapping[str, float]]
"""Row name (a model, a data set) -> column name -> number, as from the `summary` methods."""


def markdown_table(rows: Summaries, first: str = "") -> str:
    """Write summaries as a Markdown table; numbers that a row lacks stay empty.

    Parameters
    ----------
    rows
        The summaries; columns appear in the order in which they first occur.
    first
        Heading of the first column.
    """
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = [[first, *columns], ["---", *("---:" for _ in columns)]]
    for name, row in rows.items():
        lines.append([name, *(_number(row[column]) if column in row else "" for column in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plot_clicks(results: Mapping[str, Sequence[ObjectResult]], path: str | Path) -> Path:
    """Plot the mean IoU after each click, one line per method, to a PNG file.

    Parameters
    ----------
    results
        Method -> its results, not empty.
    path
        The file to write.

    Returns
    -------
    Path
        The file.
    """
    # A Figure without pyplot: no window toolkit is chosen, no global state is left behind.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for name, objects in results.items():
        n_clicks = min(max(len(r.ious) for r in objects), MAX_CLICKS)
        clicks = range(1, n_clicks + 1)
        means = [np.mean([iou_after(r.ious, k) for r in objects]) for k in clicks]
        axes.plot(clicks, means, marker="o", markersize=3, label=name)
    axes.set(xlabel="clicks", ylabel="mean IoU", ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    path = Path(path)
    figure.savefig(path, format="png", dpi=150)
    return path


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
