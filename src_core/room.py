"""How much room does a box leave around its object? Hands leave some, and a network that fills boxes shows too much.

The network is asked about the box and about smaller ones within it. A small perceptron compares the answers and says
how good each is; `src_core.training.room` trains it on drawn planes and labelled images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from src_core import frames
from src_core.judge import FOLDER, Judge
from src_core.masks import bounds, iou
from src_core.prompts import Prompts
from src_core.tiles import Extent
from src_core.types import Candidates

SMALLER = (0.0, 0.04, 0.08, 0.12, 0.16, 0.2)
"""By which parts of its height and width a box is made smaller, on every side that is not the plane's rim."""
FAINT = -4.0
"""Logits below it say nothing about how sure an answer is."""
N_FEATURES = 10


def smaller(box: Extent, by: float, shape: tuple[int, int]) -> Extent:
    """Return a box (y0, x0, y1, x1) that is smaller on every side by a part of its height and width.

    Sides on the rim of a plane of `shape` (H, W) stay: nobody can leave room there.
    """
    (height, width), (y0, x0, y1, x1) = shape, box
    from_y, from_x = by * (y1 - y0), by * (x1 - x0)
    return (
        y0 + from_y * (y0 > 0),
        x0 + from_x * (x0 > 0),
        y1 - from_y * (y1 < height),
        x1 - from_x * (x1 < width),
    )


def within_plane(box: Extent, shape: tuple[int, int]) -> Extent:
    """Return what of a box lies on a plane of `shape` (H, W): what is beyond is not room."""
    (height, width), (y0, x0, y1, x1) = shape, box
    return (max(y0, 0.0), max(x0, 0.0), min(y1, float(height)), min(x1, float(width)))


def with_box(prompt: Prompts, box: Extent) -> Prompts:
    """Return a prompt with another box, unless a click on the object is outside of it."""
    inside = prompt.points_yx[prompt.labels == 1] + 0.5
    if box == prompt.box_yxyx or ((inside < box[:2]) | (inside > box[2:])).any():
        return prompt
    return replace(prompt, box_yxyx=box)


def features(box: Extent, answers: Sequence[Candidates], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return (len(SMALLER), N_FEATURES) numbers about the answers to a box and to the smaller ones within it.

    `shape` is that of the plane.
    """
    size = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    rows, before = [], None
    for by, found in zip(SMALLER, answers, strict=True):
        logits, asked = found.logits[0], np.array(smaller(box, by, shape))
        mask = logits > 0
        gaps, area = np.ones(4), 0.0
        if mask.any():
            reached = np.array(frames.to_plane(bounds(mask), mask.shape, found.window))
            gaps = np.sort((reached - asked) * (1, 1, -1, -1) / size)
            window = np.array(found.window)
            part = np.prod(size[:2]) / np.prod(window[2:] - window[:2])
            area = float(mask.mean() / part)
        clear = np.abs(np.tanh(logits[logits > FAINT] / 2))
        left = float(np.prod(asked[2:] - asked[:2]) / np.prod(size[:2]))
        own = [float(found.scores[0]), found.presence, area, area / left]
        same = 1.0 if before is None else iou(before, mask)
        rows.append([*own, *gaps, float(clear.mean()) if clear.size else 0.0, same])
        before = mask
    return np.clip(np.array(rows, np.float32), -4, 4)


class Room(Judge):
    """Judges how good the answers to a box and to smaller ones within it are: their IoUs (B, len(SMALLER))."""

    weights = FOLDER / "room.safetensors"

    def __init__(self) -> None:
        inputs = len(SMALLER) * N_FEATURES
        super().__init__(
            inputs, nn.Linear(inputs, 48), nn.GELU(), nn.Dropout(0.2), nn.Linear(48, len(SMALLER))
        )

    @torch.inference_mode()
    def fitting(self, box: Extent, answers: Sequence[Candidates], shape: tuple[int, int]) -> Extent:
        """Return the box that promises the best answer.

        Parameters
        ----------
        box
            (y0, x0, y1, x1) in pixels of the plane, as drawn.
        answers
            To the box and to the smaller ones, in the order of `SMALLER`.
        shape
            (H, W) of the plane.
        """
        numbers = torch.from_numpy(features(box, answers, shape).reshape(1, -1))
        promised = self(numbers)[0]
        return smaller(box, SMALLER[int(promised.argmax())], shape)
