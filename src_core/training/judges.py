"""How small judges of the network's answers are trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from src_core.judge import Judge

J = TypeVar("J", bound=Judge)


@dataclass(frozen=True)
class Course:
    """How a judge is trained: one cycle of AdamW.

    Attributes
    ----------
    epochs, batch
        How often it sees all rows, and how many at once.
    learning_rate, weight_decay
        Of AdamW; the former is the highest.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float


def train(judge: J, numbers: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], course: Course) -> J:
    """Train a judge on rows of numbers, and return it in eval mode.

    Parameters
    ----------
    judge
        Learns the numbers' range, too.
    numbers
        (n, inputs).
    loss_of
        Called with what the judge says about some rows, and with these rows' places among the numbers.
    course
        How long and how fast.
    """
    judge.scale_to(numbers)
    rate = course.learning_rate
    optimiser = torch.optim.AdamW(judge.parameters(), lr=rate, weight_decay=course.weight_decay)
    steps = course.epochs * -(-len(numbers) // course.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    for _ in range(course.epochs):
        for rows in torch.split(torch.randperm(len(numbers)), course.batch):
            loss = loss_of(judge(numbers[rows]), rows)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return judge.eval()
