"""`napari-sam replay`: the labels of a session once more, from its journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from src_core.cli.options import OverwriteOption, console, progress_bar


def replay(
    session: Annotated[Path, typer.Argument(help="IMAGE.sam.zarr, or the journal in it.")],
    out: Annotated[Path, typer.Option(help="The OME-Zarr label image to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Do everything that was done in a session again: the same labels, bit for bit, without a window.

    Needs neither the image nor a network.
    """
    from src_core.session import replay as run

    with progress_bar("replaying") as progress:
        found = run(session, out, overwrite=overwrite, progress=progress)
    console().print(f"{found.edits} edits, {found.objects} objects")
    console().print(f"wrote {out}")
