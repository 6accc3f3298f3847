"""What becomes of the network's answers before anyone sees them: as prompts ask, and one out of several looks.

Seen larger and seen smaller, an object is answered about with different errors; their mean has fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_core import frames, painting
from src_core.clicked import obeyed
from src_core.components import asked_about
from src_core.masks import bounds, iou
from src_core.model.nano_encoder import LOW_RES_PX
from src_core.model.sam import Decoded, Sam
from src_core.tiles import Extent, Tile
from src_core.types import Candidates

AGREEING = 0.5
"""Masks of two looks with a lower IoU are not of the same object, and no mean is taken."""
SLACK = 0.5
"""So many pixels of the plane a mask may reach beyond what a look shows: the frame of one tile ends between pixels."""
CLEAR = 8.0
"""Logits count no more than this, so that one look that is sure does not drown the others."""
UNPAINTED = np.zeros((0, 0, 0), np.bool_)
"""Masks of answers of which only the logits are needed."""

Asked = tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]
"""Points with labels, boxes and masks of a batch, as `Nano.decode` takes them."""


def candidates(
    model: Sam, decoded: Decoded, asked: Asked, tile: Tile, shape: tuple[int, int] | None
) -> list[Candidates]:
    """Return what the network said through a tile about each prompt, surest first.

    Masks are those of a plane of `shape`; there are none where that is None.
    """
    order = decoded.iou.argsort(dim=1, descending=True)
    iou = decoded.iou.gather(1, order).float().cpu().numpy()
    rows = torch.arange(len(order), device=order.device).unsqueeze(1)
    logits = decoded.logits[rows, order].float().cpu()
    # What a mask alone asks for is what the object has become: it may have parted.
    if model.native_tiles and not (asked[0] is None and asked[1] is None):
        logits = as_prompted(logits, asked)
    presence = None if decoded.presence is None else decoded.presence.sigmoid().float().cpu().numpy()
    window = frames.window(model, tile)
    found = []
    for i in range(len(iou)):
        own = logits[i].numpy()
        there = 1.0 if presence is None else float(presence[i])
        masks = UNPAINTED if shape is None else masks_of(model, own, tile, shape)
        found.append(Candidates(masks, iou[i], own, window, there))
    return found


def as_prompted(logits: Tensor, asked: Asked) -> Tensor:
    """Take out of logits (B, M, h, w) what their prompts, in network pixels, are not about, and do as clicks say."""
    points, boxes, masks = asked
    nothing = [None] * len(logits)
    none = np.zeros((0, 2), np.float32), np.zeros(0, np.bool_)
    clicked = [none] * len(logits) if points is None else _clicks(*points)
    box = nothing if boxes is None else boxes.cpu().numpy() / LOW_RES_PX
    before = nothing if masks is None else (masks[:, 0] > 0).cpu().numpy()
    found = []
    for i, many in enumerate(logits.numpy()):
        places, inside = clicked[i]
        # A first click alone asks what is there, which may be nothing.
        orders = len(places) + (boxes is not None) + (masks is not None) > 1
        for one in many:
            own = asked_about(one, places[inside], box[i], before[i])
            found.append(obeyed(own, places, inside) if orders else own)
    return torch.from_numpy(np.stack(found)).reshape(logits.shape)


def _clicks(coords: Tensor, labels: Tensor) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Return the clicks (N, 2) of each prompt, in low-resolution pixels, and whether they are on the object."""
    # The middle of a network pixel has whole coordinates, the corner of a low-resolution one has here.
    places, said = (coords.cpu().numpy() + 0.5) / LOW_RES_PX, labels.cpu().numpy()
    return [(p[n >= 0], n[n >= 0] == 1) for p, n in zip(places, said, strict=True)]


def together(model: Sam, tile: Tile, first: Candidates, others: Sequence[Candidates]) -> Candidates:
    """Return candidates that are the means of the first look's and of what the others say about the same.

    So are their scores. A look that does not show all of a candidate has no say in it.

    Parameters
    ----------
    model, tile
        What the first look was through.
    first
        Its candidates; of others, each takes the best of those like it.
    others
        Of looks at the same object through other tiles of the plane.
    """
    if not others:
        return first
    shape = first.logits.shape[1:]
    looks = [
        _clear([frames.resample_logits(x, o.window, first.window, shape) for x in o.logits]) for o in others
    ]
    logits, scores = [], []
    for own, score in zip(_clear(first.logits), first.scores, strict=True):
        agreeing, said = [own], [float(score)]
        for look, other in zip(looks, others, strict=True):
            if not _shows(other, own, first.window):
                continue
            likeness = np.array([iou(own > 0, one > 0) for one in look])
            k = int(np.argmax(likeness * other.scores.clip(min=0)))
            if likeness[k] >= AGREEING:
                agreeing.append(look[k])
                said.append(float(other.scores[k]))
        logits.append(np.mean(agreeing, 0, dtype=np.float32))
        scores.append(np.mean(said, dtype=np.float32))
    order = np.argsort(-np.array(scores), kind="stable")
    means = np.stack(logits)[order]
    masks = masks_of(model, means, tile, first.masks.shape[1:])
    presence = float(np.mean([c.presence for c in (first, *others)]))
    return Candidates(masks, np.array(scores)[order], means, first.window, presence)


def _shows(look: Candidates, logits: NDArray[np.float32], window: Extent) -> bool:
    """Say whether the mask of logits (h, w) over a window lies within that of a look."""
    if not (logits > 0).any():
        return True
    low, high = np.array(frames.to_plane(bounds(logits > 0), logits.shape, window)).reshape(2, 2)
    first, last = np.array(look.window).reshape(2, 2)
    return bool((low >= first - SLACK).all() and (high <= last + SLACK).all())


def _clear(logits: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(np.asarray(logits, np.float32), -CLEAR, CLEAR)


def masks_of(
    model: Sam, logits: NDArray[np.float32], tile: Tile, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return the (M, H, W) bool masks of low-resolution logits (M, h, w) over a tile of a plane."""
    masks = np.zeros((len(logits), *shape), np.bool_)
    for mask, low in zip(masks, logits, strict=True):
        painting.paint(model, torch.from_numpy(low), tile, mask[tile.y0 : tile.y1, tile.x0 : tile.x1])
    return masks
