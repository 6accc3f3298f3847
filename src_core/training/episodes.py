"""What happens to a sample in one step: rounds of prompts on planes, and masks handed from slice to slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_core.frames import BOOL_LOGIT
from src_core.model.affinity import CELL_PX
from src_core.model.nano import Nano
from src_core.model.nano_encoder import FINE, LOW_RES_PX, STRIDE_PX
from src_core.model.sam import Features
from src_core.training import clicks
from src_core.training.losses import affinity_loss, mask_iou, prompt_loss
from src_core.training.samples import Sample

KINDS = ("click", "box", "click+box", "mask")
KIND_WEIGHTS = (0.5, 0.3, 0.08, 0.12)
MAPS_PX = (STRIDE_PX, CELL_PX, LOW_RES_PX)
"""Sides of the cells of the encoder's maps."""
NOWHERE = 0.15
"""How often a first click falls on background: nothing is there, which the presence must say."""

ROUNDS = (2, 3, 3, 4, 5)
"""How often an object is asked about: the first prompt, and corrections."""
FIRST_WEIGHT = 2.0
"""The first answer's loss against each later one's: most masks are never corrected."""
WITHOUT = 0.15
"""How often a first click comes with one on background beside the object."""
AFFINITY_WEIGHT = 0.5
"""Its gradient is larger than that of the prompts, which it must not drown."""


class Asked:
    """The prompts given so far for a batch of objects, growing round by round."""

    def __init__(self, batch: int, origin_px: tuple[int, int]) -> None:
        self.origin = np.array([origin_px[1], origin_px[0]], np.float32)
        self.points = np.zeros((batch, 0, 2), np.float32)
        self.labels = np.zeros((batch, 0), np.int64)
        self.boxes: NDArray[np.float32] | None = None
        self.masks: Tensor | None = None

    def add_points(self, rng: np.random.Generator, points: list[tuple[float, float, int]]) -> None:
        """Append one (x, y, label) in low-resolution pixels per object."""
        array = np.array(points, np.float32).reshape(-1, 1, 3)
        where = array[..., :2] * LOW_RES_PX + rng.integers(0, LOW_RES_PX, array[..., :2].shape) + self.origin
        self.points = np.concatenate([self.points, where.astype(np.float32)], 1)
        self.labels = np.concatenate([self.labels, array[..., 2].astype(np.int64)], 1)

    def set_boxes(self, boxes: list[clicks.Box]) -> None:
        """Set one (x0, y0, x1, y1) in low-resolution pixels per object."""
        self.boxes = (np.array(boxes, np.float32) * LOW_RES_PX + np.tile(self.origin, 2)).astype(np.float32)

    def decode(
        self, model: Nano, features: Features, grid_offset: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ask the network; see `Nano.decode_all`."""
        points = None
        if self.points.shape[1]:
            points = (torch.from_numpy(self.points), torch.from_numpy(self.labels))
        boxes = None if self.boxes is None else torch.from_numpy(self.boxes)
        return model.decode_all(features, points, boxes, self.masks, grid_offset)


@dataclass
class Outcome:
    """The loss of one step, and what the answers were worth.

    `scores` has the mean IoU of the single mask after the first prompt ("first") and the last correction
    ("corrected"), on the slices of a walk where the object still is ("walk"), and how often the presence was right
    there ("ends"); and that of what belongs to a pixel of an object by the affinity maps alone ("affinity").
    """

    loss: Tensor
    scores: dict[str, float]


def run(model: Nano, sample: Sample, rng: np.random.Generator) -> Outcome:
    """Answer, correct and walk once."""
    rounds = int(rng.choice(ROUNDS))
    images = torch.from_numpy(sample.images).permute(0, 3, 1, 2).float()
    everywhere = model.encode(model.normalise(images))
    features = tuple(_window(f, k, sample.window_yxyx) for f, k in zip(everywhere, MAPS_PX, strict=True))
    free = model.prompt_encoder.image_embedding_size[0] - features[0].shape[-1]
    offset = (int(rng.integers(free + 1)), int(rng.integers(free + 1)))
    n_crops = len(sample.image_masks)
    single = tuple(f[:n_crops] for f in features)
    slices = tuple(f[n_crops:] for f in features)
    on_planes = _correct(model, single, sample.image_masks, sample.background, offset, rng, rounds)
    through_stack = _propagate(model, slices, sample.stack_masks, offset, rng)
    together, found = affinity_loss(rng, everywhere[1][:, FINE:], sample.labels, sample.complete)
    return Outcome(
        on_planes.loss + through_stack.loss + AFFINITY_WEIGHT * together,
        on_planes.scores | through_stack.scores | {"affinity": found},
    )


def _window(features: Tensor, px: int, yxyx: tuple[int, int, int, int]) -> Tensor:
    """Cut (B, C, h, w), `px` network pixels a cell, as prompts are answered in windows of a tile."""
    y0, x0, y1, x1 = (n // px for n in yxyx)
    return features[..., y0:y1, x0:x1]


def _correct(
    model: Nano,
    features: Features,
    image_masks: NDArray[np.bool_],
    background: NDArray[np.bool_],
    offset: tuple[int, int],
    rng: np.random.Generator,
    rounds: int,
) -> Outcome:
    """Prompt, then click on the largest error of the answer, `rounds` times in all."""
    kind = str(rng.choice(KINDS, p=KIND_WEIGHTS))
    truths = image_masks.reshape(-1, *image_masks.shape[2:])
    clicked = truths
    if kind == "click":
        clicked, there = _somewhere(rng, truths, np.repeat(background, image_masks.shape[1], axis=0))
        truths = truths & there[:, None, None]
    asked = Asked(len(truths), (offset[0] * STRIDE_PX, offset[1] * STRIDE_PX))
    if "box" in kind:
        asked.set_boxes([clicks.noisy_box(rng, t) for t in truths])
    ambiguous = kind == "click"
    if "click" in kind:
        asked.add_points(rng, [(*clicks.first_click(rng, t), 1) for t in clicked])
    if ambiguous and rng.random() < WITHOUT:
        asked.add_points(rng, [clicks.beside(rng, t) for t in truths])
        ambiguous = False
    if kind == "mask":
        asked.masks = as_logits(np.stack([clicks.neighbour_mask(rng, t) for t in truths]))
    target = torch.from_numpy(truths).float()
    real = target.flatten(1).any(1)
    total = torch.zeros(())
    ious: list[float] = []
    for k in range(rounds):
        logits, iou, presence = asked.decode(model, features, offset)
        loss = prompt_loss(logits, iou, presence, target, ambiguous and k == 0)
        total = total + (loss if k else FIRST_WEIGHT * loss)
        ious.append(float(mask_iou(logits[:, :1], target)[real].mean()))
        if k + 1 < rounds:
            best = _best(logits, iou)
            guesses = best[:, 0].numpy() > 0
            asked.add_points(
                rng, [clicks.correction(rng, t, g) for t, g in zip(truths, guesses, strict=True)]
            )
            asked.masks = best
    return Outcome(
        total / (rounds - 1 + FIRST_WEIGHT), {"first": ious[0], "corrected": ious[-1]} if real.any() else {}
    )


def _somewhere(
    rng: np.random.Generator, truths: NDArray[np.bool_], background: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return what to click on, now and then the background, and whether it is the object."""
    nowhere = (rng.random(len(truths)) < NOWHERE) & background.any((1, 2))
    clicked = truths.copy()
    for i in np.nonzero(nowhere)[0]:
        free = np.flatnonzero(background[i])
        clicked[i] = False
        clicked[i].flat[rng.choice(free)] = True
    return clicked, ~nowhere


def _propagate(
    model: Nano,
    features: Features,
    truths: NDArray[np.bool_],
    offset: tuple[int, int],
    rng: np.random.Generator,
) -> Outcome:
    """Prompt on the first slice, then hand each slice's own logits to the next, past the object's end."""
    asked = Asked(truths.shape[1], (offset[0] * STRIDE_PX, offset[1] * STRIDE_PX))
    by_box = rng.random() < 0.5
    if by_box:
        asked.set_boxes([clicks.noisy_box(rng, t) for t in truths[0]])
    else:
        asked.add_points(rng, [(*clicks.first_click(rng, t), 1) for t in truths[0]])
    target = torch.from_numpy(truths).float()
    logits, iou, presence = asked.decode(model, _slice(features, 0), offset)
    total = prompt_loss(logits, iou, presence, target[0], ambiguous=not by_box)

    exact = as_logits(
        np.stack([clicks.neighbour_mask(rng, t) if rng.random() < 0.3 else t for t in truths[0]])
    )
    own = _best(logits, iou)
    usable = (mask_iou(own, target[0])[:, 0] > 0.6) & torch.from_numpy(rng.random(len(own)) < 0.5)
    previous = torch.where(usable[:, None, None, None], own, exact)
    ious: list[float] = []
    right: list[bool] = []
    for t in range(1, len(truths)):
        # On past the end: a walk that has missed it must still find out.
        step = Asked(len(previous), (0, 0))
        step.masks = previous
        logits, iou, presence = step.decode(model, _slice(features, t), offset)
        total = total + prompt_loss(logits, iou, presence, target[t], ambiguous=False)
        there = target[t].flatten(1).any(1)
        ious += mask_iou(logits[:, :1], target[t])[there, 0].tolist()
        right += ((presence > 0) == there).tolist()
        previous = logits[:, :1].detach()
    scores = {"walk": float(np.mean(ious))} if ious else {}
    return Outcome(total / len(truths), scores | ({"ends": float(np.mean(right))} if right else {}))


def as_logits(masks: NDArray[np.bool_]) -> Tensor:
    """Turn bool masks (B, H, W) into dense prompts (B, 1, H, W)."""
    return (torch.from_numpy(masks).float().unsqueeze(1) * 2 - 1) * BOOL_LOGIT


def _slice(features: Features, t: int) -> Features:
    return tuple(f[t : t + 1] for f in features)


def _best(logits: Tensor, iou: Tensor) -> Tensor:
    """Return the (B, 1, H, W) logits that the network itself rates highest, without gradient."""
    index = iou.detach().argmax(1)
    return logits.detach()[torch.arange(len(logits)), index].unsqueeze(1)
