"""A nano with random weights: fast, always the same, and needing no training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from src_core.model.builder import build_sam
from src_core.propagation import PropagationSettings

PERMISSIVE = PropagationSettings(min_presence=0.0, min_score=-99.0, min_overlap=0.0, max_growth=1e9)
"""A random network is never sure: let it go on all the same."""

PERMISSIVE_OPTIONS = "--min-presence 0 --min-score -99 --min-overlap 0 --max-growth 1e9".split()


def save_random_nano(path: Path, seed: int = 6) -> Path:
    """Write the weights; with the default seed its masks are neither empty nor everything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_file(build_sam("nano").state_dict(), path)
    return path


def small_stack(n_slices: int = 6, side: int = 48) -> np.ndarray:
    """Bright discs on noise, (z, y, x) uint8."""
    z, y, x = np.mgrid[:n_slices, :side, :side]
    inside = (y - 20 - z) ** 2 + (x - 18) ** 2 < 80
    inside |= (y - 36) ** 2 + (x - 34 + z) ** 2 < 60
    noise = np.random.default_rng(0).normal(40, 12, inside.shape)
    return np.clip(noise + 120 * inside, 0, 255).astype(np.uint8)
