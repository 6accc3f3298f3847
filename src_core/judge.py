"""Small perceptrons that judge the network's answers by a few numbers about them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import torch
from safetensors.torch import load_file
from torch import nn

FOLDER = Path(__file__).parent / "weights"


class Judge(nn.Module):
    """Layers on numbers that are brought to unit range first.

    Parameters
    ----------
    inputs
        How many numbers there are.
    layers
        From these to what is judged.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    weights: ClassVar[Path]
    """What ships with the package."""

    def __init__(self, inputs: int, *layers: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        self.layers = nn.Sequential(*layers)

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Return a judge with the weights of a file, by default those that ship, in eval mode."""
        judge = cls()  # type: ignore[call-arg]  # subclasses know their own inputs
        judge.load_state_dict(load_file(cls.weights if path is None else path))
        return judge.eval()

    def scale_to(self, numbers: torch.Tensor) -> None:
        """Learn from rows of numbers (n, inputs) what their range is."""
        self.mean.copy_(numbers.mean(0))
        self.deviation.copy_(numbers.std(0) + 1e-3)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs) to (B, outputs)."""
        found: torch.Tensor = self.layers((numbers - self.mean) / self.deviation)
        return found
