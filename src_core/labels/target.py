"""Where a user may have labels written: beside the image, or among the image's own labels."""

from __future__ import annotations

from pathlib import Path

from src_core.beside import is_of_session
from src_core.errors import SessionError
from src_core.labels.files import Prepare
from src_core.labels.label_volume import LabelVolume
from src_core.locks import sole_writer
from src_core.volumes import Volume


def check_apart(out: Path, volume: Volume) -> None:
    """Refuse to write at or into an image.

    Raises
    ------
    SessionError
        `out` is the image, holds it, or lies inside it.
    """
    if volume.path is None:
        return
    target, image = out.resolve(), volume.path.resolve()
    if target in image.parents or target in (image, *(file.resolve() for file in volume.files)):
        raise SessionError(f"{out} is the image itself and is never replaced; choose another path")
    if image in target.parents:
        raise SessionError(
            f"{out} lies inside the image; only {volume.path / 'labels' / 'NAME'} is for labels there"
        )


def check_target(volume: Volume, out: Path) -> None:
    """Refuse a path at which labels would damage something or could not be found again.

    Raises
    ------
    SessionError
        `out` lies in the image but is not `labels/<name>`, holds the image, is a session's, or is no zarr name.
    """
    target = out.resolve()
    if volume.path is not None and target.parent == volume.path.resolve() / "labels":
        return
    check_apart(out, volume)
    if is_of_session(target):
        raise SessionError(
            f"{out} belongs to the session in {target.parent.parent / 'session'}, which alone changes it; choose "
            "another path"
        )
    if target.suffix != ".zarr" and target.parent.name != "labels":
        raise SessionError(f"{out} must end in .zarr, for instance {out.with_suffix('.ome.zarr').name}")


def create_labels(
    volume: Volume,
    out: Path,
    *,
    overwrite: bool = False,
    pyramid: bool = False,
    prepare: Prepare | None = None,
) -> LabelVolume:
    """Create a label image at `out`, empty but for what `prepare` does to its folder before it gets its name.

    Among the image's own labels it is listed there. With `pyramid` it has coarser levels for viewers.

    Raises
    ------
    SessionError
        As `check_target`; or `out` exists and may not be replaced, another run writes to it, or the disk refuses.
    VolumeError
        The image is no OME-Zarr 0.5 image and cannot hold labels.
    """
    check_target(volume, out)
    with sole_writer(out):
        return create_own_labels(volume, out, overwrite=overwrite, pyramid=pyramid, prepare=prepare)


def create_own_labels(
    volume: Volume,
    out: Path,
    *,
    overwrite: bool = False,
    pyramid: bool = False,
    prepare: Prepare | None = None,
) -> LabelVolume:
    """Do what `create_labels` does, for a run that is the `sole_writer` of `out` already, and stays it."""
    check_target(volume, out)
    if volume.path is not None and out.resolve().parent == volume.path.resolve() / "labels":
        return LabelVolume.create_in(volume, out.name, overwrite=overwrite, pyramid=pyramid, prepare=prepare)
    name = out.name.split(".")[0]
    return LabelVolume.create(out, volume, name=name, overwrite=overwrite, pyramid=pyramid, prepare=prepare)
