"""The adapter of SAM-Med2D (Cheng et al. 2023, section 3): a channel gate, then a convolution."""

from __future__ import annotations

from torch import Tensor, nn


class Adapter(nn.Module):
    """Adds what a gated, half-resolution convolution sees to the tokens, and normalises.

    Parameters
    ----------
    dim
        Width of the tokens.
    grid
        Side of the token grid.
    """

    def __init__(self, dim: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(dim)
        self.channel = nn.Sequential(
            nn.Linear(dim, dim // 4, bias=False),
            nn.ReLU(),
            nn.Linear(dim // 4, dim, bias=False),
            nn.Sigmoid(),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size=3, stride=2, padding=1, bias=False),
            nn.ReLU(),
            nn.ConvTranspose2d(dim, dim, kernel_size=4, stride=2, padding=1, bias=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, grid * grid, dim) to the same shape."""
        gated = x * self.channel(x.mean(1, keepdim=True))
        # a transposed view is channels-last, which the convolutions keep, so that no layout is converted
        image = gated.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        seen = self.spatial(image).flatten(2).transpose(1, 2)
        out: Tensor = self.norm(x + seen)
        return out
