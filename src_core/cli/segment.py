"""`napari-sam segment`: one object on one plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from src_core.cli.options import (
    AxisOption,
    BoxOption,
    ChannelOption,
    DeviceOption,
    ImageArgument,
    ImageAxesOption,
    ModelOption,
    NegativeOption,
    OverwriteOption,
    PointOption,
    TimeOption,
    console,
    load_predictor,
    open_image,
    write_aside,
    write_png,
)
from src_core.cli.prompts import PromptCommand, typed_prompts
from src_core.errors import PromptError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from src_core.volumes import Volume

__all__ = ["PromptCommand", "segment"]


def segment(
    ctx: typer.Context,
    image: ImageArgument,
    out: Annotated[Path, typer.Option(help="labels.ome.zarr, mask.tif or mask.png.")],
    point: PointOption = None,
    negative: NegativeOption = None,
    box: BoxOption = None,
    model: ModelOption = "nano",
    axis: AxisOption = "z",
    time: TimeOption = 0,
    channel: ChannelOption = None,
    image_axes: ImageAxesOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Segment one object on one plane: a 2-D image, or one slice of a stack."""
    del point, negative, box  # read in the order in which they were typed
    if out.suffix not in (".zarr", ".tif", ".tiff", ".png"):
        raise PromptError(f"--out {out} must end in .ome.zarr, .tif or .png")
    volume, sliced = open_image(image, axis, image_axes)
    prompts = typed_prompts(ctx, axis, sliced=sliced)
    if len(prompts) > 1:
        planes = " and ".join(f"{axis}={i}" for i in sorted(prompts))
        raise PromptError(f"the prompts lie on {planes}; segment takes one plane, propagate takes several")
    (index, asked), *_ = prompts.items()
    import numpy as np

    from src_core.labels import check_apart
    from src_core.propagation.anchors import best_mask, check_contrast

    plane = volume.plane(**{axis: index}, t=time, c=channel)
    check_contrast(plane, volume.name)
    for prompt in asked.values():
        prompt.check_inside(plane.shape)
    if out.suffix != ".zarr":
        check_apart(out, volume)
    predictor = load_predictor(model, device)
    found = predictor.predict(predictor.embed(plane, lazily=True), next(iter(asked.values())))
    mask = best_mask(found, f"the prompts in {volume.name}")
    _save(out, volume, mask, plane.axis, index, time, overwrite)
    screen = console()
    saved = next(n for n, candidate in enumerate(found.masks, start=1) if np.array_equal(candidate, mask))
    for n, (score, candidate) in enumerate(zip(found.scores, found.masks, strict=True), start=1):
        chosen = "  (saved)" if n == saved else ""
        screen.print(f"candidate {n}: score {score:.2f}, {candidate.sum()} pixels{chosen}")
    screen.print(f"wrote {out}")


def _save(
    out: Path, volume: Volume, mask: NDArray[np.bool_], axis: str | None, index: int, t: int, overwrite: bool
) -> None:
    if out.suffix == ".zarr":
        from src_core.labels import LabelVolume, create_labels

        def fill(folder: Path) -> None:
            LabelVolume.open(folder).write_plane(axis, index, {1: mask}, t=t)

        create_labels(volume, out, overwrite=overwrite, prepare=fill)
        return
    picture: NDArray[np.uint8] = mask.astype("uint8") * 255
    if out.suffix == ".png":
        write_png(out, picture, overwrite=overwrite)
    else:
        from src_core.automatic.exporting import plane_to_tiff

        write_aside(out, lambda part: plane_to_tiff(picture, part, volume, axis), overwrite=overwrite)
