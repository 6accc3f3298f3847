"""Options that several commands share, and how they show progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from src_core.predictor import Predictor
    from src_core.volumes import Volume

ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="OME-Zarr, zarr, TIFF, or its address.")]
ImageAxesOption = Annotated[
    str | None,
    typer.Option(
        "--image-axes",
        metavar="AXES",
        help="What the image's axes are, in their order, for instance tzyx; if not given, what the file says.",
    ),
]
ImageScaleOption = Annotated[
    str | None,
    typer.Option(
        "--image-scale",
        metavar="[Z,]Y,X",
        help="How large a pixel is along every axis, in micrometers; if not given, what the file says.",
    ),
]
PointOption = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="[Z,]Y,X", help="A pixel inside the object; may be repeated."),
]
NegativeOption = Annotated[
    list[str] | None,
    typer.Option("--negative", metavar="[Z,]Y,X", help="A pixel outside the object; may be repeated."),
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="[Z,]Y0,X0,Y1,X1", help="A box around the object, half-open."),
]
AxisOption = Annotated[str, typer.Option(help="The axis across the slices: z, y or x.")]
TimeOption = Annotated[int, typer.Option("--time", min=0, help="Time point.")]
ChannelOption = Annotated[int | None, typer.Option("--channel", min=0, help="Channel; 0 if not given.")]
RangeOption = Annotated[
    str | None, typer.Option("--range", metavar="START:STOP", help="Slices to fill, half-open.")
]
EmbeddingsOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Embeddings kept on disk; IMAGE.sam.zarr/embeddings if not given."),
]
ModelOption = Annotated[str, typer.Option(help="A model's name (`napari-sam models`) or a weights file.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is at the target.")]


def console() -> Console:
    """Return the console for results; progress goes to stderr."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def open_image(
    path: str, axis: str = "z", axes: str | None = None, scale: str | None = None
) -> tuple[Volume, bool]:
    """Open an image, with its axes and the size of its pixels if the file does not say; say whether it has slices.

    Raises
    ------
    VolumeError
        It cannot be opened, has no such axis along which slices lie, or `scale` is not a number for each.
    """
    from src_core.errors import VolumeError
    from src_core.volumes import open_volume

    try:
        sizes = None if scale is None else [float(size) for size in scale.split(",")]
    except ValueError:
        raise VolumeError(
            f"--image-scale is a number for every spatial axis (2,0.5,0.5), got {scale!r}"
        ) from None
    volume = open_volume(path, axes=axes, scale=sizes, units=None if sizes is None else "micrometer")
    volume.n_planes(axis)
    return volume, len(volume.spatial_axes) == 3


@contextmanager
def progress_bar(what: str, *, in_bytes: bool = False) -> Iterator[Callable[..., None]]:
    """Show a bar with the time left; yields progress(done, total, note="")."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, note="")

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total or None, note=note)

        yield update


def check_free(path: Path, *, overwrite: bool, image: Volume | None = None) -> None:
    """Raise `SessionError` if `path` may not be written: it exists, is a folder, or is `image` or in it."""
    from src_core.errors import SessionError
    from src_core.labels import check_apart

    if image is not None:
        check_apart(path, image)
    if path.exists() and (not overwrite or path.is_dir()):
        raise SessionError(f"{path} already exists; pass --overwrite or choose another path")


def check_folder(path: Path, *, overwrite: bool, image: Volume) -> None:
    """Raise `SessionError` if files may not be put into `path`: it is one, has some, or is `image` or in it."""
    from src_core.errors import SessionError
    from src_core.labels import check_apart

    check_apart(path, image)
    if path.exists() and not path.is_dir():
        raise SessionError(f"{path} is a file; name a folder")
    if path.is_dir() and not overwrite and any(path.iterdir()):
        raise SessionError(f"{path} has files in it already; pass --overwrite or choose another folder")


def write_aside(path: Path, write: Callable[[Path], object], *, overwrite: bool) -> None:
    """Write a file, and its folder if need be, so that `path` never holds half a file.

    Raises
    ------
    SessionError
        `path` exists and may not be replaced, or cannot be written.
    """
    from src_core.files import write_atomically
    from src_core.labels.files import disk_errors

    check_free(path, overwrite=overwrite)
    with disk_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)


def write_png(path: Path, picture: NDArray[np.uint8], *, overwrite: bool) -> None:
    """Write a picture, (H, W) or (H, W, 3), as `write_aside` does."""
    from PIL import Image

    write_aside(path, lambda part: Image.fromarray(picture).save(part, format="png"), overwrite=overwrite)


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a text file, as `write_aside` does."""
    write_aside(path, lambda part: part.write_text(text, encoding="utf-8"), overwrite=overwrite)


def load_predictor(name: str, device: str) -> Predictor:
    """Load a model, downloading it with a bar if need be."""
    from src_core import zoo
    from src_core.predictor import Predictor

    known = {m.name: m for m in zoo.models()}
    if name in known and known[name].downloaded is None and not known[name].bundled:
        with progress_bar(f"downloading {name}", in_bytes=True) as progress:
            return Predictor.load(name, device, progress)
    return Predictor.load(name, device)


def can_plot() -> bool:
    """Say whether plots can be drawn; without matplotlib, note that there will be none."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is not None:
        return True
    typer.echo("no plots: they need matplotlib; pip install 'napari-sam-stacks[plot]'", err=True)
    return False


def plane_range(text: str | None) -> tuple[int | None, int | None]:
    """Read START:STOP; None where the user leaves a side open.

    Raises
    ------
    PromptError
        It is no such range.
    """
    from src_core.errors import PromptError

    if text is None:
        return None, None
    start, colon, stop = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return (int(start) if start else None), (int(stop) if stop else None)
    except ValueError:
        raise PromptError(f"--range takes START:STOP, for instance 20:80, got {text!r}") from None
