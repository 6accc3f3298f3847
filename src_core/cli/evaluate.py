"""`napari-sam evaluate`: a model's numbers, as a table, as JSON and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from src_core.cli.options import (
    DeviceOption,
    ModelOption,
    OverwriteOption,
    can_plot,
    check_free,
    load_predictor,
    progress_bar,
    write_aside,
    write_text,
)


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("data"),
    sets: Annotated[
        list[str] | None, typer.Option("--sets", help="A set's name; may be repeated; all five if not given.")
    ] = None,
    more_sets: Annotated[list[str] | None, typer.Argument(metavar="[SETS]...", help="More sets.")] = None,
    model: ModelOption = "nano",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("napari-sam-evaluation"),
    objects: Annotated[
        int | None, typer.Option(min=1, help="Objects per set; 120 in 2D and 40 in 3D if not given.")
    ] = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Measure a model: simulated clicks in 2D, propagation through volumes in 3D."""
    from src_core.evaluation.suite import SETS, run_suite
    from src_core.evaluation.tables import markdown_table, plot_clicks
    from src_core.locks import sole_writer

    plots = can_plot()
    predictor = load_predictor(model, device)
    names = [*(sets or ()), *(more_sets or ())] or SETS
    results = out / _stem(model)  # other models may be measured at the same time
    targets = {kind: results.with_name(f"{results.name}.{kind}") for kind in ("md", "json", "png")}
    with sole_writer(results):
        for target in targets.values():  # measuring takes long: better to know before
            check_free(target, overwrite=overwrite)
        with progress_bar("evaluating") as progress:
            result = run_suite(predictor, data, names, objects, progress)
        text = f"# {model}\n"
        for title, rows in (
            ("2D: simulated clicks", result.summary_2d),
            ("3D: propagation", result.summary_3d),
        ):
            if rows:
                text += f"\n## {title}\n\n{markdown_table(rows, 'set')}"
        typer.echo(text)
        write_text(targets["md"], text, overwrite=overwrite)
        write_text(targets["json"], result.to_json(), overwrite=overwrite)
        drawn = {k: r for k, r in result.clicks.items() if r}
        if plots and drawn:
            write_aside(targets["png"], lambda part: plot_clicks(drawn, part), overwrite=overwrite)
        else:
            del targets["png"]
        for target in targets.values():
            typer.echo(f"wrote {target}")


def _stem(model: str) -> str:
    """Return what a model's results are called: two files of one name have different weights."""
    from src_core import zoo

    if model in {info.name for info in zoo.models()}:
        return model
    path = Path(model).expanduser()
    return f"{path.stem}-{zoo.fingerprint(path)[:8]}"
