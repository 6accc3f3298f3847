"""`napari-sam embed`: run the image encoder ahead, so that nobody waits for it later."""

from __future__ import annotations

from typing import Annotated

import typer

from src_core.cli.options import (
    AxisOption,
    ChannelOption,
    DeviceOption,
    EmbeddingsOption,
    ImageArgument,
    ImageAxesOption,
    ModelOption,
    RangeOption,
    TimeOption,
    console,
    load_predictor,
    open_image,
    plane_range,
    progress_bar,
)


def embed(
    image: ImageArgument,
    model: ModelOption = "nano",
    axis: AxisOption = "z",
    planes: RangeOption = None,
    time: TimeOption = 0,
    channel: ChannelOption = None,
    image_axes: ImageAxesOption = None,
    device: DeviceOption = "auto",
    embeddings: EmbeddingsOption = None,
    max_size: Annotated[
        float | None,
        typer.Option(
            "--max-size",
            min=0.0,
            help="Limit of the folder in GB, 50 unless it was set before; oldest use goes first.",
        ),
    ] = None,
) -> None:
    """Encode slices ahead and keep the embeddings beside the image.

    Interrupted or killed, it goes on where it was when the same command is given again.
    """
    start, stop = plane_range(planes)
    volume, sliced = open_image(image, axis, image_axes)
    from src_core.embeddings import EmbeddingStore

    predictor = load_predictor(model, device)
    limit = None if max_size is None else int(max_size * 1e9)
    store = EmbeddingStore(predictor, volume, embeddings, channel=channel, max_bytes=limit)
    with progress_bar("embedding") as progress:
        filled = store.fill(axis if sliced else None, start, stop, t=time, progress=progress)
    console().print(f"{filled.made} tiles encoded, {filled.found} were there already; kept in {store.folder}")
