"""Losses (paper, appendix A, "Losses"): focal and Dice on masks, absolute error on the predicted IoU.

Where the object is not on the plane, only the presence is to be learned, as in SAM 2 (Ravi et al. 2024): the mask
and its IoU then mean "if the object were here", and an end that nobody could foresee does not drag them down. The
focal loss is normalised (Sofiiuk et al. 2019, "AdaptIS"), which needs no weight against the Dice loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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
