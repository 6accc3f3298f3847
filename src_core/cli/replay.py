"""`napari-sam replay`: the labels of a session once more, from its journal."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from src_core.cli.options import (
    DeviceOption,
    ImageAxesOption,
    OverwriteOption,
    console,
    load_predictor,
    open_image,
    progress_bar,
)
from src_core.errors import PromptError


def replay(
    session: Annotated[Path, typer.Argument(help="IMAGE.sam.zarr, or the journal in it.")],
    out: Annotated[Path, typer.Option(help="The OME-Zarr label image to write.")],
    image: Annotated[
        str | None, typer.Option(help="A larger version of the image: prompts and masks are rescaled to it.")
    ] = None,
    image_axes: ImageAxesOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Do everything that was done in a session again: the same labels, bit for bit, without a window.

    Needs neither the image nor a network, unless the labels are to be made on a larger version of the image.
    """
    if image is None and image_axes is not None:
        raise PromptError("--image-axes is about the larger image; give --image as well")
    with progress_bar("replaying") as progress:
        if image is None:
            from src_core.session import replay as run

            found = run(session, out, overwrite=overwrite, progress=progress)
        else:
            from src_core.session_rescaled import replay_larger

            volume, _ = open_image(image, axes=image_axes)
            load = partial(load_predictor, device=device)
            found = replay_larger(session, volume, out, load=load, overwrite=overwrite, progress=progress)
    console().print(f"{found.edits} edits, {found.objects} objects")
    console().print(f"wrote {out}")
