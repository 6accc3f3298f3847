"""Losses (paper, appendix A, "Losses"): focal and Dice on masks, absolute error on the predicted IoU.

Where the object is not on the plane, only the presence is to be learned, as in SAM 2 (Ravi et al. 2024): the mask
and its IoU then mean "if the object were here", and an end that nobody could foresee does not drag them down. The
focal loss is normalised (Sofiiuk et al. 2019, "AdaptIS"), which needs no weight against the Dice loss.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from src_core.model import affinity

PRESENCE_WEIGHT = 1.0


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return focal + Dice loss (B, M) of logits (B, M, H, W) against a mask (B, H, W) of 0 and 1."""
    truth = target.unsqueeze(1).expand_as(logits)
    probability = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    # The focal weights are normalised to a mean of one: as most of a plane becomes easy, the rest keeps counting.
    hard = (probability + truth - 2 * probability * truth).detach().square()
    focal = (cross * hard).sum((-2, -1)) / (hard.sum((-2, -1)) + 1)
    overlap = (probability * truth).sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (probability.sum((-2, -1)) + truth.sum((-2, -1)) + 1)
    return focal + dice


@torch.no_grad()
def mask_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Return the IoU (B, M) of thresholded logits with the mask; empty with empty counts as 1."""
    guess, truth = logits > 0, target.unsqueeze(1) > 0.5
    overlap = (guess & truth).sum((-2, -1)).float()
    union = (guess | truth).sum((-2, -1)).float()
    return torch.where(union > 0, overlap / union.clamp(min=1), torch.ones_like(union))


def prompt_loss(logits: Tensor, iou: Tensor, presence: Tensor, target: Tensor, ambiguous: bool) -> Tensor:
    """Return the mean loss of one round of prompts.

    Parameters
    ----------
    logits, iou
        (B, 4, H, W) and (B, 4): the single mask, then the three candidates.
    presence
        (B,) logit that the object is on the plane.
    target
        (B, H, W) true masks, possibly empty.
    ambiguous
        True after one click: only the best of the three candidates takes the gradient.
    """
    losses = mask_loss(logits, target)
    candidates = losses[:, 1:].min(1).values if ambiguous else losses[:, 1:].mean(1)
    regression = (iou - mask_iou(logits, target)).abs().mean(1)
    there = (target.flatten(1).sum(1) > 0).float()
    known = F.binary_cross_entropy_with_logits(presence, there, reduction="none")
    return (there * (losses[:, 0] + 0.5 * candidates + regression) + PRESENCE_WEIGHT * known).mean()


def affinity_loss(
    maps: Tensor,
    labels: NDArray[np.int32],
    queries: tuple[NDArray[np.int64], NDArray[np.int64]],
    complete: NDArray[np.bool_],
) -> tuple[Tensor, float]:
    """Return the loss of affinity maps, and the mean IoU of what pixels find.

    A pixel of an object must find the whole of it, and no more.

    Parameters
    ----------
    maps
        (B, N_MAPS, h, w).
    labels
        (B, h, w) instance labels, 0 where there is none.
    queries
        Pixels (B, Q) as indices into the flattened planes, and the ids (B, Q) of their objects; 0 is not asked.
    complete
        (B,) bool: whether what has no label is background, which the last map learns.
    """
    index, ids = (torch.from_numpy(part).to(maps.device) for part in queries)
    real = ids > 0
    if not real.any():
        return maps.sum() * 0, 0.0
    where = affinity.places(maps)
    asked = where.flatten(2).gather(2, index.unsqueeze(1).expand(-1, where.shape[1], -1)).transpose(1, 2)
    planes = torch.from_numpy(labels).to(maps.device)
    truth = (planes.unsqueeze(1) == ids[..., None, None])[real].float()
    logits = affinity.likeness(where, asked)[real].unsqueeze(1)
    total = mask_loss(logits, truth).mean()
    known = torch.from_numpy(complete).to(maps.device)
    if known.any():
        any_object = (planes[known] > 0).float()
        total = total + 0.5 * F.binary_cross_entropy_with_logits(maps[known, -1], any_object)
    return total, float(mask_iou(logits, truth).mean())
