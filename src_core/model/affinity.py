"""Which pixels belong together: each one says where its object is, and those of one object agree.

Every pixel points to a place in a small space, two axes of which are those of the picture ("Instance Segmentation by
Jointly Optimizing Spatial Embeddings and Clustering Bandwidth", Neven et al. 2019; for microscopy "EmbedSeg", Lalit
et al. 2022), and says how far from it the others of its object may lie. A click, a box or a mask is then answered by
what points to the same place. That can be learned from all objects of a picture at once, clicked or not, and is what
nano's decoder is shown as a first guess.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.common import Residual

CELL_PX = 4
"""Side of a pixel of the maps in network pixels."""
N_PLACE = 4
"""Axes of the space: x, y, and two that are free."""
N_MAPS = N_PLACE + 2
"""Axes, the logarithm of the reach, and the logit that there is any object."""
UNIT_CELLS = 4.0
"""Length of the space's unit in pixels of the maps."""
LIKELY = 1.0
"""Pixels vote from this logit on that there is an object: half the wrong seeds of 0, nearly all right ones."""
SURE = 4.0
"""Logit at a distance of nothing; at the reach it is 0."""


def places(maps: Tensor) -> Tensor:
    """Return where the pixels of maps (B, N_MAPS, h, w) point to, and their reach: (B, N_PLACE + 1, h, w)."""
    height, width = maps.shape[-2:]
    y = torch.arange(height, device=maps.device).reshape(1, 1, -1, 1).expand(len(maps), 1, height, width)
    x = torch.arange(width, device=maps.device).reshape(1, 1, 1, -1).expand(len(maps), 1, height, width)
    here = torch.cat([x, y], 1) / UNIT_CELLS
    return torch.cat([maps[:, :2] + here, maps[:, 2 : N_PLACE + 1]], 1)


def likeness(where: Tensor, queries: Tensor) -> Tensor:
    """Return logits (B, Q, h, w) that pixels belong to queries.

    Parameters
    ----------
    where
        From `places`, (B, N_PLACE + 1, h, w).
    queries
        (B, Q, N_PLACE + 1): the same numbers at a pixel, or their mean over some.
    """
    reach = queries[..., N_PLACE:].clamp(-3, 3).exp()
    points = where[:, :N_PLACE].flatten(2)
    target = queries[..., :N_PLACE]
    apart = (
        points.square().sum(1, keepdim=True) - 2 * target @ points + target.square().sum(-1, keepdim=True)
    ).clamp(min=0)
    logits: Tensor = SURE - SURE / math.log(2) * (apart / reach.square()).log1p()
    return logits.reshape(*queries.shape[:2], *where.shape[-2:])


def at_points(where: Tensor, points: Tensor) -> Tensor:
    """Return `where` (B, C, h, w) at points (B, N, 2), (x, y) in its pixels; those outside count as on the border."""
    height, width = where.shape[-2:]
    x = points[..., 0].floor().long().clamp(0, width - 1)
    y = points[..., 1].floor().long().clamp(0, height - 1)
    index = (y * width + x).unsqueeze(1).expand(-1, where.shape[1], -1)
    return where.flatten(2).gather(2, index).transpose(1, 2)


def over(where: Tensor, weights: Tensor) -> Tensor:
    """Return the mean (B, 1, C) of `where` (B, C, h, w) over weights (B, 1, h, w)."""
    flat = weights.flatten(2)
    return flat @ where.flatten(2).transpose(1, 2) / (flat.sum(-1, keepdim=True) + 1e-3)


class AffinityHead(nn.Module):
    """Draw the maps from features at 8 px and 4 px."""

    def __init__(self, coarse: int, fine: int, hidden: int = 48) -> None:
        super().__init__()
        self.down = nn.Conv2d(coarse, hidden, kernel_size=1)
        self.lateral = nn.Conv2d(fine, hidden, kernel_size=1)
        self.smooth = nn.Conv2d(hidden, hidden, kernel_size=3, padding=1)
        self.refine = Residual(hidden)
        self.out = nn.Conv2d(hidden, N_MAPS, kernel_size=3, padding=1)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Map (B, coarse, h, w) and (B, fine, 2 h, 2 w) to (B, N_MAPS, 2 h, 2 w)."""
        up = F.interpolate(self.down(coarse), scale_factor=2.0, mode="nearest")
        out: Tensor = self.out(self.refine(F.relu(self.smooth(F.relu(up + self.lateral(fine))))))
        return out


@torch.no_grad()
def seeds(maps: Tensor, min_cells: int = 3) -> Tensor:
    """Return one point in each object of a picture, by letting pixels vote for where their objects are.

    The pixel whose place most others point to takes all that belong to it; then the next of those left.

    Parameters
    ----------
    maps
        (N_MAPS, h, w).
    min_cells
        Groups of fewer pixels are no object.

    Returns
    -------
    (N, 2) points (x, y) in pixels of the maps, those with most votes first.
    """
    height, width = maps.shape[-2:]
    where = places(maps[None])
    free = (maps[-1] > LIKELY).flatten()
    voted = (where[0, :2].flatten(1) * UNIT_CELLS).floor().long()
    index = voted[1].clamp(0, height - 1) * width + voted[0].clamp(0, width - 1)
    votes = torch.bincount(index[free], minlength=height * width).float()
    near = F.avg_pool2d(votes.reshape(1, 1, height, width), 3, stride=1, padding=1).flatten()
    found: list[tuple[float, float]] = []
    order = near[index].masked_fill(~free, -1).argsort(descending=True)
    for cell in order[: int(free.sum())].tolist():
        if not free[cell]:
            continue
        query = where.flatten(2)[:, :, cell].unsqueeze(1)
        group = (likeness(where, query).flatten() > 0) & free
        group[cell] = True
        free &= ~group
        members = group.nonzero()[:, 0]
        if len(members) >= min_cells:
            place = torch.stack([members % width, members // width], 1) + 0.5
            middle = (place - place.mean(0)).square().sum(1).argmin()
            found.append((float(place[middle, 0]), float(place[middle, 1])))
    return torch.tensor(found, device=maps.device).reshape(-1, 2)
