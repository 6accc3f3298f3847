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
from src_core.training.data import crowding

PRESENCE_WEIGHT = 1.0
QUERIES = 6
"""Objects of an image whose affinity is looked at in one step."""
MIN_CELLS = 3


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
    rng: np.random.Generator, maps: Tensor, labels: NDArray[np.int32], complete: NDArray[np.bool_]
) -> tuple[Tensor, float]:
    """Return the loss of affinity maps, and the mean IoU of what pixels find.

    A pixel drawn from an object must find the whole of it, and no more.

    Parameters
    ----------
    rng
        Draws objects and pixels.
    maps
        (B, N_MAPS, h, w).
    labels
        (B, h, w) instance labels, 0 where there is none.
    complete
        (B,) bool: whether what has no label is background, which the last map learns.
    """
    where = affinity.places(maps)
    losses: list[Tensor] = []
    ious: list[Tensor] = []
    for i, plane in enumerate(labels):
        areas = np.bincount(plane.ravel())
        areas[0] = 0
        ids = np.nonzero(areas >= MIN_CELLS)[0]
        if not len(ids):
            continue
        weights = crowding(plane, 1)[ids]
        chosen = rng.choice(ids, min(QUERIES, len(ids)), replace=False, p=weights / weights.sum())
        pixels = [rng.choice(np.flatnonzero(plane == n)) for n in chosen]
        queries = where[i].flatten(1)[:, pixels].T
        logits = affinity.likeness(where[i : i + 1], queries[None])[0]
        truth = torch.from_numpy(plane[None] == chosen[:, None, None]).float()
        losses.append(mask_loss(logits[:, None], truth)[:, 0])
        ious.append(mask_iou(logits[:, None], truth)[:, 0])
    if not losses:
        return maps.sum() * 0, 0.0
    total = torch.cat(losses).mean()
    known = torch.from_numpy(complete)
    if known.any():
        any_object = torch.from_numpy(labels[complete] > 0).float()
        total = total + 0.5 * F.binary_cross_entropy_with_logits(maps[known, -1], any_object)
    return total, float(torch.cat(ious).mean())
