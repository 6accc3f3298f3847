"""The adapter of SAM-Med2D (Cheng et al. 2023, section 3): a channel gate, then a convolution."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


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
        image = gated.transpose(1, 2).reshape(-1, x.shape[2], self.grid, self.grid)
        seen = self._convolve(image).flatten(2).transpose(1, 2)
        out: Tensor = self.norm(x + seen)
        return out

    def _convolve(self, image: Tensor) -> Tensor:
        """Run `spatial` as two matrix products.

        On so small a grid the weights are the larger operand by far, and a convolution would bring them into
        its own layout at every call.
        """
        down, up = (cast(Tensor, self.spatial[i].weight) for i in (0, 2))
        half = F.relu(down.flatten(1) @ F.unfold(image, kernel_size=3, padding=1, stride=2))
        patches = (half.transpose(1, 2) @ up.flatten(1)).transpose(1, 2)
        return F.relu(F.fold(patches, (self.grid, self.grid), kernel_size=4, padding=1, stride=2))
