"""`napari-sam propagate`: objects through a stack, into a label volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from src_core.cli.options import (
    AxisOption,
    BoxOption,
    ChannelOption,
    DeviceOption,
    EmbeddingsOption,
    ImageArgument,
    ImageAxesOption,
    ImageScaleOption,
    ModelOption,
    NegativeOption,
    OverwriteOption,
    PointOption,
    RangeOption,
    TimeOption,
    console,
    load_predictor,
    open_image,
    plane_range,
    progress_bar,
)
from src_core.cli.prompts import typed_prompts
from src_core.errors import PromptError

if TYPE_CHECKING:
    from src_core.embeddings import EmbeddingStore
    from src_core.predictor import Predictor
    from src_core.propagation import Report
    from src_core.volumes import Volume


def propagate(
    ctx: typer.Context,
    image: ImageArgument,
    out: Annotated[Path, typer.Option(help="The OME-Zarr label image to write.")],
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    object_id: Annotated[
        list[str] | None,
        typer.Option("--object", metavar="ID", help="Whose the following prompts are; 1 before the first."),
    ] = None,
    model: ModelOption = "nano",
    axis: AxisOption = "z",
    axes: Annotated[
        str | None,
        typer.Option(
            metavar="AXES",
            help="Propagate along the first of these axes, for instance zyx, then along the others, and fuse. nano "
            "does so by itself where the image says how large its voxels are; a single axis is for doing without.",
        ),
    ] = None,
    planes: RangeOption = None,
    time: TimeOption = 0,
    channel: ChannelOption = None,
    image_axes: ImageAxesOption = None,
    image_scale: ImageScaleOption = None,
    device: DeviceOption = "auto",
    embeddings: EmbeddingsOption = None,
    overwrite: OverwriteOption = False,
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Write coarser levels, too, for viewers of large labels.")
    ] = False,
    min_presence: Annotated[
        float | None, typer.Option(help="An object ends where it is less likely to be there.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="An object ends where the network is less sure of its mask.")
    ] = None,
    min_overlap: Annotated[
        float | None,
        typer.Option(help="An object ends where its mask overlaps less with the last one (IoU)."),
    ] = None,
    max_growth: Annotated[
        float | None, typer.Option(help="An object ends where its area grows by more than this factor.")
    ] = None,
) -> None:
    """Propagate objects through a stack, from the planes where they are prompted.

    Every plane is saved at once. Killed, it goes on where it was when the same command is given again.
    Embeddings that `napari-sam embed` made are used; with --embeddings, missing ones are kept there, too.

    \b
    Example:
    napari-sam propagate cells.ome.zarr --out labels.ome.zarr
        --point 50,120,88 --object 2 --box 48,10,20,60,70
    """  # noqa: D301 - click's mark for lines that must stay as they are
    del point, negative, box, object_id  # read in the order in which they were typed
    if axes is not None:
        if axis not in ("z", axes[:1]):
            raise PromptError(
                f"prompts are on planes along the first of --axes, {axes[:1]}; --axis {axis} says another"
            )
        axis = axes[:1] or axis
    volume, sliced = open_image(image, axis, image_axes, image_scale)
    prompts = typed_prompts(ctx, axis, sliced=sliced)
    start, stop = plane_range(planes)
    from src_core.propagation import PropagationSettings, propagate_to_labels

    given = {
        "min_presence": min_presence,
        "min_score": min_score,
        "min_overlap": min_overlap,
        "max_growth": max_growth,
        "across": None if axes is None else tuple(axes[1:]),
    }
    settings = PropagationSettings(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    predictor = load_predictor(model, device)
    store = None
    if sliced:
        store = stored_embeddings(predictor, volume, embeddings, axis, time, channel, out)
    common: dict[str, Any] = {
        "t": time,
        "c": channel,
        "settings": settings,
        "embed": None if store is None else store.along(axis, time),
        "overwrite": overwrite,
        "pyramid": pyramid,
    }
    with progress_bar("propagating") as progress:
        common["progress"] = progress
        report = propagate_to_labels(
            predictor, volume, prompts, out, axis=axis, start=start, stop=stop, **common
        )
    screen = console()
    if report.resumed:
        screen.print("went on from an unfinished run")
    warn_unanswered(report, axis)
    for line in describe(report, axis):
        screen.print(line)
    screen.print(f"wrote {out}")
    if store is not None and store.problem is not None:
        typer.echo(f"napari-sam: {store.problem}", err=True)


def stored_embeddings(
    predictor: Predictor,
    volume: Volume,
    folder: Path | None,
    axis: str,
    t: int,
    channel: int | None,
    out: Path | None = None,
) -> EmbeddingStore | None:
    """Open the embeddings the user names, or those beside the image if there are any.

    An unfinished propagation at `out` ends as it has begun, whatever has been embedded or deleted since.
    """
    from src_core.embeddings import EmbeddingStore
    from src_core.propagation.store import RunStore

    if folder is not None:
        return EmbeddingStore(predictor, volume, folder, channel=channel)
    if volume.path is None:
        return None
    store = EmbeddingStore(predictor, volume, channel=channel, keep=False)
    begun = None if out is None else (RunStore(out).request() or {}).get("embeddings")
    with_them = store.exists(axis, t) if begun is None else begun == "stored"
    return store if with_them else None


def warn_unanswered(report: Report, axis: str) -> None:
    """Say on stderr where the network saw nothing, and what comes of it."""
    for plane, k in report.unanswered:
        left = "that plane starts nothing" if k in report.objects else "the object is left out"
        typer.echo(
            f"warning: object {k}: the network sees nothing at its prompts on {axis}={plane}, so {left}; "
            "give a box or more points",
            err=True,
        )


def describe(report: Report, axis: str) -> list[str]:
    """Say in a line per object where it is, why it ended, and where to look first."""
    lines = []
    for k, found in report.objects.items():
        parts = [f"object {k}: {axis}={found.first}..{found.last}"]
        for plane, reason in found.stops:
            what = "gap" if found.first < plane < found.last else "ended"
            parts.append(f"{what} at {axis}={plane}: {reason}")
        if found.scores:
            worst = min(found.scores, key=lambda plane: found.scores[plane])
            parts.append(f"least sure at {axis}={worst} ({found.scores[worst]:.2f})")
        lines.append("; ".join(parts))
    return lines
