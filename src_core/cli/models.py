"""`napari-sam models`: which weights there are, and fetching them."""

from __future__ import annotations

from typing import Annotated

import typer

from src_core.cli.options import console, progress_bar


def models(
    download: Annotated[str | None, typer.Option(metavar="NAME", help="Fetch this model's weights.")] = None,
) -> None:
    """List the models, or download one; an interrupted download goes on where it was."""
    from src_core import zoo

    if download is not None:
        info = zoo.named(download)
        with progress_bar(f"downloading {download}", in_bytes=True) as progress:
            path = zoo.download(info, progress)
        typer.echo(path)
        return
    from rich.table import Table

    table = Table()
    for column in ("name", "network", "licence", "MB", "here", "where"):
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    for info in zoo.models():
        here = info.downloaded
        size = info.size_mb if here is None else round(here.stat().st_size / 1e6)
        where = (
            str(here) if here is not None else info.note or ("ships with the package" if info.bundled else "")
        )
        mark = "no" if here is None else "yes"
        table.add_row(info.name, info.network, info.licence, str(size or ""), mark, where)
    console().print(table)
