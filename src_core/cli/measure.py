"""`napari-sam measure`: volume, surface, position and intensity of labelled objects, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from src_core.cli.options import (
    ImageArgument,
    ImageAxesOption,
    ImageScaleOption,
    OverwriteOption,
    check_free,
    console,
    open_image,
    progress_bar,
    write_text,
)

if TYPE_CHECKING:
    from src_core.session import ObjectState


def measure(
    image: ImageArgument,
    out: Annotated[Path, typer.Option(help="The table to write, as .csv.")],
    labels: Annotated[
        Path | None, typer.Option(help="A label image; IMAGE.sam.zarr/labels/objects if not given.")
    ] = None,
    image_axes: ImageAxesOption = None,
    image_scale: ImageScaleOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure every labelled object: volume, surface, centroid, slices, mean intensity of every channel.

    Reads slice by slice. Names and states come from the session beside the labels, if there is one.
    """
    from src_core.beside import folder_beside
    from src_core.errors import SessionError
    from src_core.labels import LabelVolume
    from src_core.measuring import Measuring, table

    volume, _ = open_image(image, axes=image_axes, scale=image_scale)
    path = folder_beside(Path(image)) / "labels" / "objects" if labels is None else labels
    check_free(out, overwrite=overwrite, image=volume)
    if path.resolve() in (out.resolve(), *out.resolve().parents):
        raise SessionError(f"{out} is or lies in the labels to measure; choose another path")
    measuring = Measuring(volume, LabelVolume.open(path, "r"))
    with progress_bar("measuring") as progress:
        for step in measuring.steps():
            progress(step.done, step.total)
    rows = measuring.rows()
    write_text(out, table(rows, volume, _objects(path)), overwrite=overwrite)
    console().print(f"{len(rows)} rows")
    console().print(f"wrote {out}")


def _objects(labels: Path) -> dict[int, ObjectState]:
    """Return what the session beside labels knows of them; nothing without one."""
    from src_core.beside import JOURNAL, session_beside
    from src_core.session.loading import Reader, read_lines

    folder = session_beside(labels)
    lines = None if folder is None else read_lines(folder / JOURNAL)
    reader = Reader()
    for entry in lines.entries if lines is not None else ():
        reader.read(entry)
    return reader.table.objects
