"""What `napari-sam auto` writes: one slice in the format its file's name says, and exports of a stack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from src_core.cli.options import check_free, write_aside

if TYPE_CHECKING:
    from src_core.automatic import MaskRecord
    from src_core.linking import StackReport
    from src_core.volumes import Volume


def begin_exports(out: Path, *exports: Path) -> None:
    """Note in the folder of a run which exports it begins: if it is killed meanwhile, it may write them again."""
    from src_core.linking.shelf import RecordShelf

    RecordShelf(out).note([str(path.absolute()) for path in exports], "exports")


def is_begun(out: Path, export: Path) -> bool:
    """Say whether the unfinished run at `out` has begun to write an export."""
    from src_core.linking.shelf import RecordShelf

    return str(export.absolute()) in (RecordShelf(out).noted("exports") or ())


def check_exports(out: Path, *exports: Path | None) -> None:
    """Raise `SessionError` for exports that would lie in the labels, or replace them or each other."""
    from src_core.errors import SessionError

    given = [path.resolve() for path in (out, *exports) if path is not None]
    for n, path in enumerate(given):
        if any(path == other or other in path.parents for other in given[:n]):
            raise SessionError(f"{path} is, or lies in, what the same command writes; choose another path")


def check_plane_output(out: Path, volume: Volume, overwrite: bool) -> None:
    """Raise `SessionError` unless the masks of one slice can be written to `out`."""
    from src_core.errors import SessionError
    from src_core.labels import check_target

    if out.suffix not in (".json", ".tif", ".tiff", ".zarr"):
        raise SessionError(f"{out} must end in .json, .tif or .zarr: it says how the masks are written")
    if out.suffix != ".zarr":
        check_free(out, overwrite=overwrite, image=volume)
        return
    check_target(volume, out)
    if not overwrite:
        check_free(out, overwrite=False)


def write_plane(
    volume: Volume,
    out: Path,
    records: list[MaskRecord],
    shape: tuple[int, int],
    axis: str | None,
    index: int,
    t: int,
    overwrite: bool,
) -> None:
    """Write the masks of one slice as COCO run lengths, label TIFF or labels of the whole stack's shape."""
    from src_core.automatic import label_image, write_coco
    from src_core.automatic.exporting import plane_to_tiff, tiff_dtype
    from src_core.labels import LabelVolume, create_labels

    if out.suffix == ".json":
        write_aside(
            out,
            lambda part: write_coco(part, records, shape, file_name=volume.name, image_id=index),
            overwrite=overwrite,
        )
        return
    drawing = label_image(records, shape)
    if out.suffix == ".zarr":
        create_labels(
            volume,
            out,
            overwrite=overwrite,
            prepare=lambda new: LabelVolume.open(new).write_box(axis, index, (0, 0, *shape), drawing, t=t),
        )
        return
    pixels = drawing.astype(tiff_dtype(len(records)))
    write_aside(out, lambda part: plane_to_tiff(pixels, part, volume, axis), overwrite=overwrite)


def export_stack(
    report: StackReport, out: Path, tiff: Path | None, coco: Path | None, axis: str, t: int
) -> None:
    """Write a stack's labels in other formats, where that has been found to be allowed."""
    from src_core.automatic.exporting import labels_to_coco, labels_to_tiff

    begin_exports(out, *(path for path in (tiff, coco) if path is not None))
    if tiff is not None:
        write_aside(tiff, lambda part: labels_to_tiff(report.labels, part, t=t), overwrite=True)
    if coco is not None:
        labels_to_coco(
            report.labels,
            coco,
            axis=axis,
            t=t,
            scores=lambda index, k: report.objects[k].scores.get(index, 1.0) if k in report.objects else 1.0,
        )
