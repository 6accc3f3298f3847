"""What happens to a sample in one step: rounds of prompts on planes, and masks handed from slice to slice."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_core.frames import BOOL_LOGIT
from src_core.masks import Mask
from src_core.model.affinity import CELL_PX
from src_core.model.nano import Nano
from src_core.model.nano_encoder import FINE, LOW_RES_PX, STRIDE_PX
from src_core.model.sam import Features
from src_core.training import clicks
from src_core.training.losses import affinity_loss, mask_iou, prompt_loss
from src_core.training.samples import Sample

KINDS = ("click", "box", "click+box", "mask")
KIND_WEIGHTS = (0.45, 0.35, 0.08, 0.12)
MAPS_PX = (STRIDE_PX, CELL_PX, LOW_RES_PX)
"""Sides of the cells of the encoder's maps."""
NOWHERE = 0.15
"""How often a first click falls on background: nothing is there, which the presence must say."""

ROUNDS = (2, 3, 3, 4, 5, 8)
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
        device, points = features[0].device, None
        if self.points.shape[1]:
            points = (torch.from_numpy(self.points).to(device), torch.from_numpy(self.labels).to(device))
        boxes = None if self.boxes is None else torch.from_numpy(self.boxes).to(device)
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


def run(model: Nano, sample: Sample, rng: np.random.Generator, pool: Executor | None = None) -> Outcome:
    """Answer, correct and walk once, where the model is; prompts are drawn in the processes of `pool`."""
    rounds = int(rng.choice(ROUNDS))
    device = model.prompt_encoder.no_mask_embed.weight.device
    images = torch.from_numpy(sample.images).to(device).permute(0, 3, 1, 2).float()
    everywhere = model.encode(model.normalise(images))
    features = tuple(_window(f, k, sample.window_yxyx) for f, k in zip(everywhere, MAPS_PX, strict=True))
    free = model.prompt_encoder.image_embedding_size[0] - features[0].shape[-1]
    offset = (int(rng.integers(free + 1)), int(rng.integers(free + 1)))
    n_crops = len(sample.image_masks)
    single = tuple(f[:n_crops] for f in features)
    slices = tuple(f[n_crops:] for f in features)
    for_planes, for_stacks = rng.spawn(2)
    on_planes, through_stacks = _in_turns(
        _correct(model, single, sample.image_masks, sample.background, offset, for_planes, rounds, pool),
        _propagate(model, slices, sample.stack_masks, offset, for_stacks, pool),
    )
    together, found = affinity_loss(everywhere[1][:, FINE:], sample.labels, sample.queries, sample.complete)
    return Outcome(
        on_planes.loss + through_stacks.loss + AFFINITY_WEIGHT * together,
        on_planes.scores | through_stacks.scores | {"affinity": found},
    )


Task = Generator[None, None, Outcome]
"""Pauses where it waits for prompts that other processes draw."""


def _in_turns(*tasks: Task) -> list[Outcome]:
    """Go on with each where it has paused, until all have ended."""
    outcomes: dict[Task, Outcome] = {}
    while len(outcomes) < len(tasks):
        for task in tasks:
            if task not in outcomes:
                try:
                    next(task)
                except StopIteration as end:
                    outcomes[task] = end.value
    return [outcomes[task] for task in tasks]


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
    pool: Executor | None,
) -> Task:
    """Prompt, then click on the largest error of the answer, `rounds` times in all."""
    kind = str(rng.choice(KINDS, p=KIND_WEIGHTS))
    truths = image_masks.reshape(-1, *image_masks.shape[2:])
    clicked = truths
    if kind == "click":
        clicked, there = _somewhere(rng, truths, np.repeat(background, image_masks.shape[1], axis=0))
        truths = truths & there[:, None, None]
    asked = Asked(len(truths), (offset[0] * STRIDE_PX, offset[1] * STRIDE_PX))
    if "box" in kind:
        asked.set_boxes(list(clicks.each(clicks.drawn_box, rng, truths, pool=pool)))
    ambiguous = kind == "click"
    if "click" in kind:
        asked.add_points(rng, list(clicks.each(clicks.first_click, rng, clicked, pool=pool)))
    if ambiguous and rng.random() < WITHOUT:
        asked.add_points(rng, list(clicks.each(clicks.beside, rng, truths, pool=pool)))
        ambiguous = False
    device = features[0].device
    if kind == "mask":
        near = clicks.each(clicks.neighbour_mask, rng, truths, pool=pool)
        asked.masks = as_logits(np.stack(list(near)), device)
    target = torch.from_numpy(truths).to(device).float()
    real = target.flatten(1).any(1)
    total = torch.zeros((), device=device)
    ious: list[Tensor] = []
    for k in range(rounds):
        logits, iou, presence = asked.decode(model, features, offset)
        loss = prompt_loss(logits, iou, presence, target, ambiguous and k == 0)
        total = total + (loss if k else FIRST_WEIGHT * loss)
        ious.append(mask_iou(logits[:, :1], target)[real].mean())
        if k + 1 < rounds:
            best = _best(logits, iou)
            guesses = (best[:, 0] > 0).cpu().numpy()
            corrections = clicks.each(clicks.correction, rng, truths, guesses, pool=pool)
            yield
            asked.add_points(rng, list(corrections))
            asked.masks = best
    scores = {"first": float(ious[0]), "corrected": float(ious[-1])} if real.any() else {}
    return Outcome(total / (rounds - 1 + FIRST_WEIGHT), scores)


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
    stacks: NDArray[np.bool_],
    offset: tuple[int, int],
    rng: np.random.Generator,
    pool: Executor | None,
) -> Task:
    """Prompt on the first slices, then hand each slice's own logits to the next, past the object's end.

    `stacks` (W, T, m, h, w) are the true masks, `features` those of the W T slices.
    """
    n_slices, device = stacks.shape[1], features[0].device
    truths = stacks.swapaxes(0, 1).reshape(n_slices, -1, *stacks.shape[3:])
    slices = [tuple(f[t::n_slices] for f in features) for t in range(n_slices)]
    asked = Asked(truths.shape[1], (offset[0] * STRIDE_PX, offset[1] * STRIDE_PX))
    by_box = rng.random() < 0.5
    if by_box:
        asked.set_boxes(list(clicks.each(clicks.drawn_box, rng, truths[0], pool=pool)))
    else:
        asked.add_points(rng, list(clicks.each(clicks.first_click, rng, truths[0], pool=pool)))
    anchors = clicks.each(_anchored, rng, truths[0], pool=pool)
    target = torch.from_numpy(truths).to(device).float()
    logits, iou, presence = asked.decode(model, slices[0], offset)
    total = prompt_loss(logits, iou, presence, target[0], ambiguous=not by_box)
    yield
    exact = as_logits(np.stack(list(anchors)), device)
    own = _best(logits, iou)
    chosen = torch.from_numpy(rng.random(len(own)) < 0.5).to(device)
    usable = (mask_iou(own, target[0])[:, 0] > 0.6) & chosen
    previous = torch.where(usable[:, None, None, None], own, exact)
    ious: list[Tensor] = []
    right: list[Tensor] = []
    for t in range(1, n_slices):
        # On past the end: a walk that has missed it must still find out.
        step = Asked(len(previous), (0, 0))
        step.masks = previous
        logits, iou, presence = step.decode(model, slices[t], offset)
        total = total + prompt_loss(logits, iou, presence, target[t], ambiguous=False)
        there = target[t].flatten(1).any(1)
        ious.append(mask_iou(logits[:, :1], target[t])[there, 0])
        right.append((presence > 0) == there)
        previous = logits[:, :1].detach()
        yield
    reached = torch.cat(ious) if ious else torch.zeros(0)
    scores = {"walk": float(reached.mean())} if len(reached) else {}
    if right:
        scores["ends"] = float(torch.cat(right).float().mean())
    return Outcome(total / n_slices, scores)


def _anchored(rng: np.random.Generator, mask: Mask) -> Mask:
    """Return the mask that a walk begins with: the true one, or one that is a little off."""
    return clicks.neighbour_mask(rng, mask) if rng.random() < 0.3 else mask


def as_logits(masks: NDArray[np.bool_], device: torch.device) -> Tensor:
    """Turn bool masks (B, H, W) into dense prompts (B, 1, H, W)."""
    return (torch.from_numpy(masks).to(device).float().unsqueeze(1) * 2 - 1) * BOOL_LOGIT


def _best(logits: Tensor, iou: Tensor) -> Tensor:
    """Return the (B, 1, H, W) logits that the network itself rates highest, without gradient."""
    index = iou.detach().argmax(1)
    return logits.detach()[torch.arange(len(logits), device=index.device), index].unsqueeze(1)
