"""How small judges of the network's answers are trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from src_core.judge import Judge


def train(
    judge: Judge,
    numbers: Tensor,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    *,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Train a judge on rows of numbers, one cycle of AdamW, and leave it in eval mode.

    Parameters
    ----------
    judge
        Learns the numbers' range, too.
    numbers
        (n, inputs).
    loss_of
        Called with what the judge says about some rows, and with these rows' places among the numbers.
    epochs, batch, learning_rate, weight_decay
        How often it sees all rows, how many at once, and of AdamW.
    """
    judge.scale_to(numbers)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=learning_rate, weight_decay=weight_decay)
    steps = epochs * -(-len(numbers) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(numbers)), batch):
            loss = loss_of(judge(numbers[rows]), rows)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    judge.eval()
