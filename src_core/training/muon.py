"""Muon: steps along the orthogonalised momentum of each weight matrix (Jordan et al. 2024).

A gradient's few large directions otherwise decide the step, and the many small ones hardly learn. Steps are scaled
to the size that AdamW's have ("Muon is Scalable for LLM Training", Liu et al. 2025), so both share a learning rate.
PyTorch's own takes matrices alone, and computes in bfloat16, which CPUs do slowly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration: singular values come near one in few steps, never exactly."""
MIN_SIDE = 16
"""Smaller matrices have no directions that could be drowned."""


class Muon(torch.optim.Optimizer):
    """Optimiser of weight matrices; kernels of convolutions count as (outputs, inputs x height x width)."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every parameter that has a gradient; those of one shape go together, which takes fewer calls."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    alike[p.shape].append(p)
            for shape, params in alike.items():
                grads = [cast(Tensor, p.grad) for p in params]
                means = [self._mean(p) for p in params]
                for mean, grad in zip(means, grads, strict=True):
                    mean.lerp_(grad, 1 - momentum)
                ahead = torch.stack(grads).lerp(torch.stack(means), momentum)
                along = orthogonal(ahead.flatten(2)).reshape(-1, *shape)
                size = 0.2 * max(shape[0], shape[1:].numel()) ** 0.5
                for p, step in zip(params, along, strict=True):
                    p.mul_(1 - rate * group["weight_decay"]).add_(step, alpha=-rate * size)

    def _mean(self, p: nn.Parameter) -> Tensor:
        state: dict[str, Tensor] = self.state[p]
        if not state:
            state["mean"] = torch.zeros_like(p)
        return state["mean"]


def orthogonal(matrices: Tensor) -> Tensor:
    """Return about U V' of the singular value decomposition U S V' of matrices (..., rows, columns)."""
    a, b, c = QUINTIC
    x: Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


def is_matrix(name: str, value: nn.Parameter) -> bool:
    """Say whether a parameter mixes features, as Muon needs; embeddings are looked up instead."""
    looked_up = "embed" in name or "token" in name
    return value.ndim in (2, 4) and min(len(value), value[0].numel()) >= MIN_SIDE and not looked_up
