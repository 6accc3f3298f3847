"""Colour of transmitted light, as in histology."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from src_core.synthetic.fields import FloatArray

Noise = Callable[[float], FloatArray]
"""Draws noise of the picture's shape whose features are so many pixels large."""
HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""What the stains absorb of red, green and blue (Ruifrok and Johnston 2001)."""


def one(rng: np.random.Generator, grey: NDArray[np.uint8], noise: Noise) -> NDArray[np.uint8]:
    """Map grey (z, y, x) to a line between two random colours, (z, y, x, 3)."""
    paper = np.array([235, 225, 235]) + rng.normal(0, 14, 3)
    ink = np.clip(np.array([95, 60, 140]) + rng.normal(0, 45, 3), 0, 255)
    amount = (grey / 255.0)[..., None]
    return np.asarray(np.clip(paper + (ink - paper) * amount, 0, 255), np.uint8)


def two(rng: np.random.Generator, grey: NDArray[np.uint8], noise: Noise) -> NDArray[np.uint8]:
    """Absorb white light in what grey (z, y, x) shows, and in tissue around it that another stain shows."""
    matter = 0.5 + sum(rng.uniform(0, 0.25) * noise(rng.uniform(*size)) for size in ((2, 6), (10, 40)))
    # And where there is none lies lumen or fat.
    here = np.clip(3 * (noise(rng.uniform(30, 120)) + rng.uniform(-0.5, 1.5)), 0, 1)
    amounts = np.stack([grey / 255.0, np.clip(here * matter, 0, 1.2)], -1)
    spectra = np.array([HAEMATOXYLIN, EOSIN]) + rng.normal(0, 0.08, (2, 3))
    strength = np.array([rng.uniform(0.6, 1.8), rng.uniform(0.1, 0.6)])[:, None]
    light = np.exp(-amounts @ np.clip(strength * spectra, 0, None))
    return np.asarray(np.rint(255 * np.clip(0.97 * light, 0, 1)), np.uint8)
