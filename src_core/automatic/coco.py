"""Masks as data: run-length encoding as COCO writes it, one JSON an image as the paper's data set has it (SA-1B)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src_core.automatic.records import MaskRecord
from src_core.errors import PromptError
from src_core.files import write_atomically
from src_core.masks import PackedMask

Json = dict[str, Any]
MAX_ID = int(np.iinfo(np.uint32).max)


def write_coco(
    path: str | Path,
    records: Sequence[MaskRecord],
    shape: tuple[int, int],
    *,
    file_name: str = "",
    image_id: int = 0,
    ids: Sequence[int] | None = None,
) -> None:
    """Write the masks of one plane to a JSON file in the format of SA-1B.

    Parameters
    ----------
    path
        The file; what is there is replaced.
    records, shape
        The masks, and (H, W) of their plane.
    file_name, image_id
        What the image is called.
    ids
        The id of each annotation, 1, 2, ... by default.

    Raises
    ------
    PromptError
        A mask is of a plane of another shape, or there is not one id for each.
    """
    ids = range(1, len(records) + 1) if ids is None else ids
    if len(ids) != len(records) or any(r.mask.shape != tuple(shape) for r in records):
        raise PromptError(f"give one id per mask, and masks of planes of {tuple(shape)} only")
    content = {
        "image": {"image_id": image_id, "width": shape[1], "height": shape[0], "file_name": file_name},
        "annotations": [_annotation(k, r) for k, r in zip(ids, records, strict=True)],
    }
    write_atomically(Path(path), lambda part: part.write_text(json.dumps(content), encoding="utf-8"))


def read_coco(path: str | Path) -> tuple[dict[int, MaskRecord], tuple[int, int]]:
    """Read the masks of one image from a JSON file in the format of SA-1B.

    Returns
    -------
    Annotation id -> record, and (H, W) of the plane. Masks without any pixel are left out.

    Raises
    ------
    PromptError
        The file is not in this format, a mask does not fit its image, or ids are no labels: 0, negative, given
        twice or beyond 32 bits.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        image = content["image"]
        shape = (int(image["height"]), int(image["width"]))
        found = {}
        for annotation in content["annotations"]:
            mask = decode(annotation["segmentation"])
            if mask is None:
                continue
            if mask.shape != shape:
                raise PromptError(f"{path}: a mask of {mask.shape} on an image of {shape}")
            identity = int(annotation["id"])
            if identity in found or not 0 < identity <= MAX_ID:
                raise PromptError(
                    f"{path}: annotation ids must be from 1 to {MAX_ID}, each once, as labels have them; "
                    f"got {identity}{' twice' if identity in found else ''}"
                )
            found[identity] = _record(annotation, mask)
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, PromptError):
            raise
        raise PromptError(
            f"{path} is not a JSON file of one image with its masks as COCO run lengths, as SA-1B has them "
            f"({type(error).__name__}: {error})"
        ) from error
    return found, shape


def encode(mask: PackedMask) -> Json:
    """Return a mask as COCO's compressed run lengths: {"size": [H, W], "counts": text}."""
    height, width = mask.shape
    y0, x0, _, _ = mask.box
    columns, rows = np.nonzero(mask.crop().T)
    # COCO counts down the columns; only the mask's own pixels are looked at.
    place = (columns + x0).astype(np.int64) * height + rows + y0
    breaks = np.flatnonzero(np.diff(place) != 1)
    starts = place[np.concatenate([[0], breaks + 1])]
    stops = place[np.concatenate([breaks, [len(place) - 1]])] + 1
    edges = np.stack([starts, stops], 1).ravel()
    counts = np.diff(np.concatenate([[0], edges, [height * width]]))
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": _to_text(counts.tolist())}


def decode(segmentation: Json) -> PackedMask | None:
    """Return the mask of COCO run lengths, compressed or as a list of numbers; None if it is empty.

    Raises
    ------
    PromptError
        The run lengths do not cover the image exactly.
    """
    height, width = (int(n) for n in segmentation["size"])
    counts = segmentation["counts"]
    runs = np.array(_from_text(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise PromptError(f"run lengths of {runs.sum()} pixels for an image of {height} x {width}")
    ends = np.cumsum(runs)
    starts, stops = ends[:-1:2], ends[1::2]
    inside = stops > starts
    starts, stops = starts[inside], stops[inside]
    if not len(starts):
        return None
    lengths = stops - starts
    place = np.arange(lengths.sum()) + np.repeat(
        starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths
    )
    columns, rows = place // height, place % height
    y0, x0 = int(rows.min()), int(columns.min())
    crop = np.zeros((int(rows.max()) - y0 + 1, int(columns.max()) - x0 + 1), np.bool_)
    crop[rows - y0, columns - x0] = True
    return PackedMask.of(crop, (y0, x0), (height, width))


def _annotation(identity: int, record: MaskRecord) -> Json:
    y0, x0, y1, x1 = record.box
    height, width = record.mask.shape
    y, x = record.point_yx
    return {
        "id": int(identity),
        "segmentation": encode(record.mask),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": record.area,
        "predicted_iou": record.score,
        "stability_score": record.stability,
        "crop_box": [0, 0, width, height],
        "point_coords": [[x, y]],
    }


def _record(annotation: Json, mask: PackedMask) -> MaskRecord:
    area = int(np.count_nonzero(mask.crop()))
    y0, x0, y1, x1 = mask.box
    x, y = annotation.get("point_coords", [[(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2]])[0]
    score, steady = (float(annotation.get(name, 1.0)) for name in ("predicted_iou", "stability_score"))
    return MaskRecord(mask, area, score, steady, (float(y), float(x)))


def _to_text(counts: list[int]) -> str:
    """Write run lengths as COCO does: differences to the last but one, five bits a character."""
    text = []
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            bits = value & 0x1F
            value >>= 5
            more = value != -1 if bits & 0x10 else value != 0
            text.append(chr((bits | 0x20 if more else bits) + 48))
            if not more:
                break
    return "".join(text)


def _from_text(text: str) -> list[int]:
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value |= -1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value, shift = 0, 0
    return counts
