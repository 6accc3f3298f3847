"""`napari-sam info`: what an image is, from its metadata and, for the contrast, some of its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from src_core.cli.options import ImageArgument, ImageAxesOption, ImageScaleOption, open_image

if TYPE_CHECKING:
    from src_core.volumes import Volume


def info(
    image: ImageArgument,
    channel: Annotated[int | None, typer.Option("--channel", min=0, help="Whose contrast limits.")] = None,
    image_axes: ImageAxesOption = None,
    image_scale: ImageScaleOption = None,
) -> None:
    """Print an image's axes, sizes, scale, pyramid, contrast limits and labels."""
    volume, _ = open_image(image, axes=image_axes, scale=image_scale)
    low, high = volume.contrast_limits_of(channel)
    rows = {
        "name": volume.name,
        "axes": ", ".join(f"{a}={n}" for a, n in volume.sizes.items()) + (" (colour)" if volume.rgb else ""),
        "dtype": str(volume.dtype),
        "scale": ", ".join(
            f"{a}: {volume.scale[a]:g} {volume.units[a] or 'pixel'}" for a in volume.spatial_axes
        ),
        "pyramid": ", ".join("x".join(map(str, shape)) for shape in volume.levels),
        "contrast limits": f"{low:g} to {high:g}",
        "labels": ", ".join(_labels(volume)) or "none",
    }
    for key, value in rows.items():
        typer.echo(f"{key:<16}{value}")


def _labels(volume: Volume) -> list[str]:
    from src_core.errors import VolumeError
    from src_core.labels import LabelVolume
    from src_core.labels.files import label_folders

    found: list[str] = []
    for path in label_folders(volume):
        try:
            labels = LabelVolume.open(path, "r")
        except VolumeError:  # of another program, or half written: worth naming, not worth failing
            found.append(f"{path.name} (cannot be read)")
            continue
        found.append(f"{path.name} ({'x'.join(map(str, labels.shape))} {labels.dtype})")
    return found
