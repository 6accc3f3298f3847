"""What the image says about a mask: features pooled inside it and around it, for its IoU and its presence.

The reference predicts IoU from one token that has attended to the whole image. Looking at the pixels of the mask
itself says more, and learns in far fewer steps; "Mask Scoring R-CNN" (Huang et al. 2019) makes the same point.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src_core.model.mask_decoder import MLP
from src_core.model.nano_prompts import N_BELONGING

RING = 5
"""Side of the window, in pixels of the embedding, whose reach beyond a mask is its surroundings."""
N_STATISTICS = 5


class MaskEvidence(nn.Module):
    """Say whether the object is there, and correct the predicted IoUs, by what lies inside and around masks.

    The correction starts at zero: weights trained without it predict the same IoUs as before.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.iou = MLP(3 * width + N_STATISTICS + N_BELONGING, hidden, 1, 3)
        for value in self.iou.layers[-1].parameters():
            nn.init.zeros_(value)
        # Normalised: a click leaves no doubt, and its large activations must not drown what is hard to tell.
        self.presence_norm = nn.LayerNorm(5 * width + N_STATISTICS)
        self.presence = MLP(5 * width + N_STATISTICS, hidden, 1, 3)

    def forward(
        self, token: Tensor, keys: Tensor, logits: Tensor, prompt: Tensor | None, guesses: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge M masks of each of B prompts; no gradient flows into the masks.

        Parameters
        ----------
        token, keys
            The IoU token (B, C) and the image after the transformer (B, C, h, w).
        logits
            (B, M, 4 h, 4 w), the single mask first.
        prompt
            The dense prompt as logits, (B, 1, 4 h, 4 w), or None.
        guesses
            Probabilities that pixels belong to the prompts, by affinity alone, (B, N_BELONGING, 2 h, 2 w).

        Returns
        -------
        tuple of Tensor
            What to add to the predicted IoUs (B, M), and the presence as logit (B,).
        """
        masks = logits.detach().sigmoid()
        before = torch.zeros_like(masks[:, :1]) if prompt is None else prompt.detach().sigmoid()
        inside, around = _pooled(torch.cat([masks, before], 1), keys)
        numbers = _statistics(logits.detach(), masks, before)
        seen = torch.cat([inside, around], -1)
        tokens = token.unsqueeze(1).expand(-1, masks.shape[1], -1)
        agreement = _overlap(F.avg_pool2d(masks, 2), guesses.detach())
        iou = self.iou(torch.cat([tokens, seen[:, :-1], numbers, agreement], -1))[..., 0]
        there = torch.cat([token, seen[:, 0], seen[:, -1], numbers[:, 0]], -1)
        return iou, self.presence(self.presence_norm(there))[..., 0]


def _pooled(masks: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of `keys` inside and in the ring around each mask, (B, M, C) each."""
    inside = F.avg_pool2d(masks, 4)
    ring = (_spread(inside) - inside).clamp(min=0)
    columns = keys.flatten(2).transpose(1, 2)

    def mean(weight: Tensor) -> Tensor:
        flat = weight.flatten(2)
        return flat @ columns / (flat.sum(-1, keepdim=True) + 1e-3)

    return mean(inside), mean(ring)


def _spread(masks: Tensor) -> Tensor:
    """Return the maximum (B, M, h, w) within a window of `RING` pixels, one axis after the other.

    On maps this small that takes a quarter of the time of `max_pool2d`.
    """
    for axis in (-1, -2):
        size, reach = masks.shape[axis], RING // 2
        padded = F.pad(masks, (reach, reach) if axis == -1 else (0, 0, reach, reach))
        masks = torch.stack([padded.narrow(axis, i, size) for i in range(RING)]).amax(0)
    return masks


def _overlap(masks: Tensor, guesses: Tensor) -> Tensor:
    """Return the soft IoU (B, M, G) of masks (B, M, h, w) and guesses (B, G, h, w)."""
    a, b = masks.flatten(2), guesses.flatten(2)
    shared = a @ b.transpose(1, 2)
    return shared / (a.sum(-1, keepdim=True) + b.sum(-1).unsqueeze(1) - shared + 1)


def _statistics(logits: Tensor, masks: Tensor, before: Tensor) -> Tensor:
    """Return (B, M, 5): size, stability, certainty, overlap with the dense prompt, and the prompt's size."""
    area = masks.sum((-2, -1))
    strict, loose = (logits > 1).sum((-2, -1)), (logits > -1).sum((-2, -1))
    certainty = (masks * (2 * masks - 1).abs()).sum((-2, -1)) / (area + 1)
    shared = (masks * before).sum((-2, -1))
    size = before.sum((-2, -1)).expand_as(area)
    overlap = shared / (area + size - shared + 1)
    return torch.stack(
        [area.log1p() / 10, strict / loose.clamp(min=1), certainty, overlap, size.log1p() / 10], -1
    )
