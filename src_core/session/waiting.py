"""Candidates that wait to be accepted, as JSON and back: the masks themselves, so that no network is needed."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from src_core.masks import Box, Mask, PackedMask, bounds
from src_core.types import Candidates, PlaneRef

LOGIT = 6.0
"""What stands for a mask when it is refined by the next click."""
MARGIN_PX = 16
"""Pixels around the masks in which that may happen."""


@dataclass(frozen=True)
class Waiting:
    """Candidates for an object on a plane, and which of them is shown."""

    plane: PlaneRef
    identity: int
    candidates: Candidates
    chosen: int


def pack(plane: PlaneRef, identity: int, candidates: Candidates, chosen: int) -> dict[str, Any]:
    """Return candidates as JSON; of each mask the box around it, packed to bits, as base64 of zlib."""
    return {
        "object": identity,
        "plane": [plane.axis, plane.index, plane.t],
        "shape": list(candidates.masks.shape[1:]),
        "scores": [float(s) for s in candidates.scores],
        "masks": [_packed(mask) for mask in candidates.masks],
        "chosen": chosen,
    }


def unpack(value: dict[str, Any]) -> Waiting:
    """Return what `pack` packed; the logits are those of the masks, not the network's."""
    masks = np.stack([_unpacked(m, tuple(value["shape"])) for m in value["masks"]])
    y0, x0, y1, x1 = _around(np.asarray(masks.any(0)))
    logits = np.where(masks[:, y0:y1, x0:x1], LOGIT, -LOGIT).astype(np.float32)
    scores = np.array(value["scores"], np.float32)
    candidates = Candidates(masks, scores, logits, (float(y0), float(x0), float(y1), float(x1)))
    return Waiting(PlaneRef(*value["plane"]), int(value["object"]), candidates, int(value["chosen"]))


def _around(mask: Mask) -> Box:
    height, width = mask.shape
    y0, x0, y1, x1 = bounds(mask) if mask.any() else (0, 0, height, width)
    top, left = max(0, y0 - MARGIN_PX), max(0, x0 - MARGIN_PX)
    return (top, left, min(height, y1 + MARGIN_PX), min(width, x1 + MARGIN_PX))


def _packed(mask: Mask) -> list[Any]:
    if not mask.any():
        return [[0, 0, 0, 0], ""]
    packed = PackedMask.of(mask)
    return [list(packed.box), base64.b64encode(zlib.compress(packed.bits.tobytes())).decode()]


def _unpacked(value: list[Any], shape: tuple[int, int]) -> Mask:
    (y0, x0, y1, x1), text = value
    if not text:
        return np.zeros(shape, np.bool_)
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return PackedMask(bits, (y0, x0, y1, x1), shape).unpack()
