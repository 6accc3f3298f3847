"""`napari-sam auto`: every object of a plane or a stack, without a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from src_core.cli.auto_output import (
    begin_exports,
    check_exports,
    check_plane_output,
    export_stack,
    is_begun,
    write_plane,
)
from src_core.cli.options import (
    AxisOption,
    ChannelOption,
    DeviceOption,
    EmbeddingsOption,
    ImageArgument,
    ImageAxesOption,
    ImageScaleOption,
    ModelOption,
    OverwriteOption,
    RangeOption,
    TimeOption,
    check_folder,
    check_free,
    console,
    load_predictor,
    open_image,
    plane_range,
    progress_bar,
)
from src_core.cli.propagate import stored_embeddings

if TYPE_CHECKING:
    from src_core.linking import StackReport
    from src_core.predictor import Predictor
    from src_core.tracking.run import Tracked
    from src_core.volumes import Volume

N_WORST = 5
"""How many objects the summary names for review."""


def auto(
    image: ImageArgument,
    out: Annotated[
        Path,
        typer.Option(help="The OME-Zarr label image to write; for one slice also a .tif or a COCO .json."),
    ],
    plane: Annotated[
        int | None, typer.Option(help="Only this slice; a stack is searched as a whole.")
    ] = None,
    tiff: Annotated[Path | None, typer.Option(help="Also write the stack's labels to this TIFF.")] = None,
    coco: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write each slice's masks as COCO RLE, one JSON each."),
    ] = None,
    tracks: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Follow the objects of a time series; the tracks go here as the Cell Tracking Challenge has them.",
        ),
    ] = None,
    seeds: Annotated[
        bool | None,
        typer.Option("--seeds/--link", help="Search a few slices and propagate, or search all and link."),
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Least predicted IoU of a mask.")] = None,
    min_stability: Annotated[float | None, typer.Option(help="Least stability of a mask's outline.")] = None,
    min_contrast: Annotated[
        float | None, typer.Option(help="Least contrast of a mask's outline, as a part of what is usual.")
    ] = None,
    min_area: Annotated[int | None, typer.Option(help="Smaller masks are dropped, in pixels.")] = None,
    min_slices: Annotated[int | None, typer.Option(help="Objects on fewer slices are dropped.")] = None,
    points_per_side: Annotated[
        int, typer.Option(help="Density of the point grid, for each network tile.")
    ] = 32,
    full_grid: Annotated[bool, typer.Option("--full-grid", help="Ask at every point of the grid.")] = False,
    layers: Annotated[int, typer.Option(help="Also search enlarged crops, 2x2 in the first layer.")] = 0,
    model: ModelOption = "nano",
    axis: AxisOption = "z",
    planes: RangeOption = None,
    time: TimeOption = 0,
    channel: ChannelOption = None,
    image_axes: ImageAxesOption = None,
    image_scale: ImageScaleOption = None,
    device: DeviceOption = "auto",
    embeddings: EmbeddingsOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Find every object of a slice or a stack.

    Every searched slice is kept at once. Killed or interrupted, it goes on where it was when the same command is
    given again.

    \b
    Examples:
    napari-sam auto cells.ome.zarr --out objects.ome.zarr
    napari-sam auto cells.ome.zarr --plane 24 --out masks.json
    """  # noqa: D301 - click's mark for lines that must stay as they are
    volume, sliced = open_image(image, axis, image_axes, image_scale)
    start, stop = plane_range(planes)
    from src_core.automatic import SearchSettings, Thresholds, automatic_masks
    from src_core.linking import LinkSettings, segment_stack

    given: dict[str, Any] = {
        "min_score": min_score,
        "min_stability": min_stability,
        "min_contrast": min_contrast,
        "min_area_px": min_area,
    }
    thresholds = Thresholds(**{k: v for k, v in given.items() if v is not None})
    search = SearchSettings(points_per_side, adaptive=not full_grid, layers=layers)
    chosen = {"method": None if seeds is None else "seeds" if seeds else "link", "min_slices": min_slices}
    links = LinkSettings(**{k: v for k, v in chosen.items() if v is not None})  # type: ignore[arg-type]
    how: dict[str, Any] = {"search": search, "thresholds": thresholds}
    for_stacks: dict[str, Any] = {
        "--range": planes,
        "--tiff": tiff,
        "--coco": coco,
        "--embeddings": embeddings,
    }
    check_exports(out, tiff, coco, tracks)
    if tracks is not None:
        other = {"--plane": plane, "--time": time or None, "--axis": None if axis == "z" else axis}
        _refuse("for a whole time series (--tracks)", other | for_stacks)
        check_folder(tracks, overwrite=overwrite or is_begun(out, tracks), image=volume)
        _follow(load_predictor(model, device), volume, out, tracks, channel, overwrite, links=links, **how)
        return
    for_stacks |= {"--seeds or --link": seeds, "--min-slices": min_slices}
    if not sliced:
        _refuse(f"for {volume.name}, which has no slices", {"--plane": plane, **for_stacks})
    if not sliced or plane is not None:
        _refuse("for one slice (--plane), whose file --out names", for_stacks)
        check_plane_output(out, volume, overwrite)
        found_plane = volume.plane(**({axis: plane} if sliced else {}), t=time, c=channel)
        predictor = load_predictor(model, device)
        with progress_bar("searching") as progress:
            records = automatic_masks(predictor, found_plane, progress=progress, **how)
        write_plane(
            volume, out, records, found_plane.shape, axis if sliced else None, plane or 0, time, overwrite
        )
        console().print(f"{len(records)} objects; wrote {out}")
        return
    if tiff is not None:
        check_free(tiff, overwrite=overwrite or is_begun(out, tiff), image=volume)
    if coco is not None:
        check_folder(coco, overwrite=overwrite or is_begun(out, coco), image=volume)
    predictor = load_predictor(model, device)
    store = stored_embeddings(predictor, volume, embeddings, axis, time, channel)
    with progress_bar("searching") as progress:
        report = segment_stack(
            predictor,
            volume,
            out,
            axis=axis,
            start=start,
            stop=stop,
            t=time,
            c=channel,
            links=links,
            embed=None if store is None else store.along(axis, time),
            overwrite=overwrite,
            progress=progress,
            before_end=lambda report: export_stack(report, out, tiff, coco, axis, time),
            **how,
        )
    for line in describe(report, axis):
        console().print(line)
    console().print(f"wrote {out}")


def _follow(
    predictor: Predictor,
    volume: Volume,
    out: Path,
    folder: Path,
    channel: int | None,
    overwrite: bool,
    **how: Any,
) -> None:
    """Segment every time point, follow the objects, and write labels and tracks."""
    from src_core.tracking import track, write_ctc

    def write(found: Tracked) -> None:
        if found.tracking is not None:
            begin_exports(out, folder)
            write_ctc(found.tracking, found.labels, folder)

    with progress_bar("following") as progress:
        _, tracking = track(
            predictor,
            volume,
            out,
            c=channel,
            overwrite=overwrite,
            progress=progress,
            before_end=write,
            **how,
        )
    if tracking is not None:
        divisions = len({t.parent for t in tracking.tracks.values() if t.parent is not None})
        console().print(f"{len(tracking.tracks)} tracks, {divisions} divisions; wrote {out} and {folder}")


def _refuse(what: str, options: dict[str, Any]) -> None:
    """Raise `PromptError` for options that would be ignored."""
    from src_core.errors import PromptError

    if given := [name for name, value in options.items() if value is not None]:
        raise PromptError(f"{' and '.join(given)} cannot be given {what}")


def describe(report: StackReport, axis: str) -> list[str]:
    """Say how many objects there are, and which to look at first."""
    lines = ["went on from an unfinished run"] if report.resumed else []
    lines.append(f"{len(report.objects)} objects")
    worst = sorted(report.objects.items(), key=lambda item: item[1].confidence)[:N_WORST]
    for k, found in worst:
        lines.append(
            f"object {k}: {axis}={found.first}..{found.last}, confidence {found.confidence:.2f}, "
            f"least sure at {axis}={found.worst} ({found.scores[found.worst]:.2f})"
        )
    return lines
