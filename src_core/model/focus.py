"""Where on a tile nano answers a prompt: in a window around it, as large as the crops it was trained on.

The encoder sees the whole tile, once; the decoder need not. Points, boxes and dense prompts say where the object
is, and most objects are much smaller than a tile. What does not fit is answered on the whole tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from src_core.model.sam import Features

Points = tuple[Tensor, Tensor]
"""Coordinates (B, N, 2) as (x, y) in network pixels and labels (B, N)."""
Answer = tuple[Tensor, Tensor, Tensor]
"""Logits (B, M, h, w), predicted IoU (B, M) and presence logit (B,)."""
Ask = Callable[[Features, Points | None, Tensor | None, Tensor | None, Tensor], Answer]
"""Answers B prompts, given the features of one tile or of B, and where these lie in cells: (1 or B, 2) as (y, x)."""

WINDOW = 32
"""Side of a window in cells of the embedding: 256 px."""
MARGIN = 4
"""Free cells that an object must have around it to be answered in a window."""
BACKGROUND = -10.0
"""Logit of what lies outside the window, or was not asked about."""


def answer(
    ask: Ask,
    features: Features,
    points: Points | None,
    boxes: Tensor | None,
    masks: Tensor | None,
    cell_px: int,
    wanted: slice,
) -> Answer:
    """Answer B prompts about one tile, each in its window if it fits, else on the whole tile.

    Parameters
    ----------
    ask
        Asks the network; its M masks are cut down to `wanted`.
    features
        Of the tile: the embedding (1, C, h, w), then maps of 2 and 4 times its size.
    points, boxes, masks
        As `Nano.decode` takes them.
    cell_px
        Network pixels per cell of the embedding.
    """
    grid = (features[0].shape[-2], features[0].shape[-1])
    whole = torch.zeros(1, 2, dtype=torch.long)
    if max(grid) <= WINDOW:
        return _cut(ask(features, points, boxes, masks, whole), wanted)
    corners, fits = _windows(_extents(points, boxes, masks, cell_px), grid)
    near, far = fits.nonzero()[:, 0], (~fits).nonzero()[:, 0]
    parts: list[tuple[Tensor, Answer]] = []
    if len(near):
        found = _in_windows(
            ask, features, _take(points, near), _rows(boxes, near), _rows(masks, near), corners[near]
        )
        logits, iou, presence = _cut(found, wanted)
        cut = _touches(logits, corners[near], grid)
        kept, again = (~cut).nonzero()[:, 0], cut.nonzero()[:, 0]
        far = torch.cat([far, near[again]])
        if len(kept):
            placed = _paste(logits[kept], corners[near[kept]], grid)
            parts.append((near[kept], (placed, iou[kept], presence[kept])))
    if len(far):
        found = ask(features, _take(points, far), _rows(boxes, far), _rows(masks, far), whole)
        parts.append((far, _cut(found, wanted)))
    if len(parts) == 1:
        return parts[0][1]
    order = torch.cat([index for index, _ in parts]).argsort()
    logits, iou, presence = (
        torch.cat(values)[order.to(values[0].device)] for values in zip(*(a for _, a in parts), strict=True)
    )
    return logits, iou, presence


def _cut(found: Answer, wanted: slice) -> Answer:
    return found[0][:, wanted], found[1][:, wanted], found[2]


def _rows(values: Tensor | None, index: Tensor) -> Tensor | None:
    if values is None or len(index) == len(values):
        return values
    return values[index.to(values.device)]


def _take(points: Points | None, index: Tensor) -> Points | None:
    if points is None or len(index) == len(points[0]):
        return points
    index = index.to(points[0].device)
    return points[0][index], points[1][index]


def _extents(points: Points | None, boxes: Tensor | None, masks: Tensor | None, cell_px: int) -> Tensor:
    """Return what the prompts speak about, (B, 4) as (x0, y0, x1, y1) in cells, on the CPU."""
    known: list[Tensor] = []
    if points is not None:
        coords, labels = (p.cpu() for p in points)
        # Background clicks lie beside the object, and say where it ends.
        used = (labels >= 0).unsqueeze(-1)
        low = coords.masked_fill(~used, float("inf")).amin(1)
        high = coords.masked_fill(~used, float("-inf")).amax(1)
        known.append(torch.cat([low, high], 1) / cell_px)
    if boxes is not None:
        known.append(boxes.cpu() / cell_px)
    if masks is not None:
        known.append(_bounds(masks[:, 0] > 0).cpu() / 4)
    low = torch.stack([k[:, :2] for k in known]).amin(0)
    high = torch.stack([k[:, 2:] for k in known]).amax(0)
    return torch.cat([low, high], 1)


def _bounds(masks: Tensor) -> Tensor:
    """Return the bounds (B, 4) as (x0, y0, x1, y1) of masks (B, H, W); of an empty one (inf, inf, -inf, -inf)."""
    sides = []
    for axis in (1, 2):  # columns, then rows
        used = masks.any(axis)
        place = torch.arange(used.shape[1], device=masks.device, dtype=torch.float32).expand(used.shape)
        low = place.masked_fill(~used, float("inf")).amin(1)
        high = place.masked_fill(~used, float("-inf")).amax(1) + 1
        sides.append((low, high))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1)


def _windows(extents: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the corners (B, 2) as (y, x) of windows around extents, in cells, and whether these fit (B,)."""
    size = torch.tensor([min(n, WINDOW) for n in grid])
    room = torch.tensor(grid) - size
    low, high = extents[:, [1, 0]], extents[:, [3, 2]]
    known = torch.isfinite(extents).all(1)
    middle = torch.where(known[:, None], (low + high) / 2, torch.zeros(()))
    corners = torch.minimum((middle - size / 2).round().long().clamp(min=0), room)
    # A border of the tile is no reason to look elsewhere: there is nothing beyond it.
    start = torch.where(corners == 0, -torch.inf, corners + MARGIN)
    stop = torch.where(corners == room, torch.inf, corners + size - MARGIN)
    return corners, known & ((low >= start) & (high <= stop)).all(1)


def _in_windows(
    ask: Ask,
    features: Features,
    points: Points | None,
    boxes: Tensor | None,
    masks: Tensor | None,
    corners: Tensor,
) -> Answer:
    parts = tuple(_crops(f, corners, 2**level) for level, f in enumerate(features))
    if masks is not None:
        masks = _crops(masks, corners, 4)
    return ask(parts, points, boxes, masks, corners)


def _crops(values: Tensor, corners: Tensor, scale: int) -> Tensor:
    """Cut (B, C, h, w) windows out of (1 or B, C, H, W), whose pixels are 1 / `scale` cells."""
    side = WINDOW * scale
    sources: Sequence[Tensor] = [values[0]] * len(corners) if len(values) == 1 else list(values)
    places = (corners * scale).tolist()
    if len(places) == 1:
        ((y, x),) = places
        return values[:, :, y : y + side, x : x + side]
    return torch.stack([s[:, y : y + side, x : x + side] for s, (y, x) in zip(sources, places, strict=True)])


def _touches(logits: Tensor, corners: Tensor, grid: tuple[int, int]) -> Tensor:
    """Say whether masks (B, M, h, w) reach a border of their window that is not one of the tile: (B,) on the CPU."""
    inside = (logits > 0).any(1)
    height, width = inside.shape[-2:]
    y, x = corners.unbind(1)
    reached = [inside[:, 0].any(1), inside[:, -1].any(1), inside[:, :, 0].any(1), inside[:, :, -1].any(1)]
    beyond = [y > 0, y + height // 4 < grid[0], x > 0, x + width // 4 < grid[1]]
    return (torch.stack(reached).cpu() & torch.stack(beyond)).any(0)


def _paste(logits: Tensor, corners: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put logits of windows where they belong on the tile."""
    placed = logits.new_full((*logits.shape[:2], 4 * grid[0], 4 * grid[1]), BACKGROUND)
    height, width = logits.shape[-2:]
    for target, source, (y, x) in zip(placed, logits, (4 * corners).tolist(), strict=True):
        target[:, y : y + height, x : x + width] = source
    return placed
