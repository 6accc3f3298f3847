"""Scenes of shapes that cover each other and move: whatever has an outline, in colour, beyond microscopy.

A stack of them is a short film: textured, shaded blobs drift, turn, grow, come and go before a textured ground.
Images of such "dead leaves" have the edge statistics of photographs (Lee, Mumford and Huang 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core.synthetic.fields import FloatArray, smooth_noise

MIN_VISIBLE_PX = 20
"""Objects of which less is seen on a plane are no objects there."""


@dataclass(frozen=True)
class _Leaf:
    """One object: a star-shaped outline with its looks, and how both change from plane to plane."""

    centre: FloatArray
    velocity: FloatArray
    radius_px: float
    aspect: float
    angle: float
    spin: float
    growth: float
    waves: FloatArray
    colour: FloatArray
    texture: FloatArray
    light: FloatArray
    life: tuple[int, int]


def draw_scene(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> tuple[FloatArray, NDArray[np.uint16]]:
    """Draw one film.

    Parameters
    ----------
    rng
        The source of everything random.
    shape
        (slices, height, width).

    Returns
    -------
    tuple of arrays
        The picture (z, y, x, 3) of about unit range, not yet through any camera, and labels (z, y, x).
    """
    depth, height, width = shape
    size = float(np.exp(rng.uniform(np.log(10), np.log(60))))
    count = int(np.clip(rng.uniform(0.15, 1.2) * height * width / (3 * size**2), 4, 120))
    drab = 0.0 if rng.random() < 0.35 else rng.uniform(0.2, 1.0)
    calm = float(np.exp(rng.normal(-0.3, 0.7)))
    leaves = [_leaf(rng, shape, size, drab, calm) for _ in range(count)]
    picture = np.empty((*shape, 3), np.float32)
    labels = np.zeros(shape, np.uint16)
    ground = _ground(rng, (height, width), drab)
    for z in range(depth):
        picture[z] = np.roll(ground, np.rint(z * calm * np.array([0.5, 0.3])).astype(int), (0, 1))
        for number, leaf in enumerate(leaves, start=1):
            if leaf.life[0] <= z < leaf.life[1]:
                _put(leaf, number, z, picture[z], labels[z])
        seen = np.bincount(labels[z].ravel(), minlength=count + 1)
        labels[z][seen[labels[z]] < MIN_VISIBLE_PX] = 0
    sigma = rng.uniform(0.3, 1.2)
    return np.asarray(ndi.gaussian_filter(picture, (0, sigma, sigma, 0)), np.float32), labels


def _leaf(
    rng: np.random.Generator, shape: tuple[int, int, int], size: float, drab: float, calm: float
) -> _Leaf:
    depth, height, width = shape
    radius = float(np.clip(size * np.exp(rng.normal(0, 0.45)), 5, 0.45 * height))
    waves = rng.normal(0, 1, (2, 5)) * np.array([0.08, 0.1, 0.08, 0.05, 0.04]) * rng.uniform(0, 1.6)
    first = int(rng.integers(-depth, depth)) if rng.random() < 0.5 else -depth
    last = int(rng.integers(max(first, 0) + 2, 2 * depth + 2)) if rng.random() < 0.5 else 2 * depth
    grain = int(np.clip(radius / rng.uniform(1, 6), 2, 40))
    texture = smooth_noise(
        rng, (2, 64, 64), (2, grain * np.exp(rng.normal(0, 0.5)), grain * np.exp(rng.normal(0, 0.5)))
    )[0]
    return _Leaf(
        centre=rng.uniform(0, 1, 2).astype(np.float32) * np.array([height, width], np.float32),
        velocity=(rng.normal(0, 1.5 * calm, 2)).astype(np.float32),
        radius_px=radius,
        aspect=float(np.exp(abs(rng.normal(0, 0.45)))),
        angle=float(rng.uniform(0, np.pi)),
        spin=float(rng.normal(0, 0.05 * calm)),
        growth=float(rng.normal(0, 0.03)),
        waves=waves.astype(np.float32),
        colour=_colour(rng, drab),
        texture=(texture * rng.uniform(0, 0.14)).astype(np.float32),
        light=rng.normal(0, rng.uniform(0, 0.2), 2).astype(np.float32),
        life=(first, last),
    )


def _put(leaf: _Leaf, number: int, z: int, picture: FloatArray, labels: NDArray[np.uint16]) -> None:
    """Draw a leaf over what is there, and its number over the labels."""
    height, width = labels.shape
    # An object comes and goes by growing and shrinking, as cells do, not all at once.
    age = min(z - leaf.life[0] + 1, leaf.life[1] - z, 3) / 3
    radius = leaf.radius_px * np.exp(leaf.growth * z) * np.sqrt(age)
    cy, cx = leaf.centre + leaf.velocity * z
    reach = radius * leaf.aspect * 1.6
    y0, y1 = (int(np.clip(v, 0, height)) for v in (cy - reach, cy + reach + 1))
    x0, x1 = (int(np.clip(v, 0, width)) for v in (cx - reach, cx + reach + 1))
    if y0 >= y1 or x0 >= x1:
        return
    dy, dx = (np.mgrid[y0:y1, x0:x1] - np.array([cy, cx]).reshape(2, 1, 1)) / radius
    turn = leaf.angle + leaf.spin * z
    v = dy * np.cos(turn) - dx * np.sin(turn)
    u = (dy * np.sin(turn) + dx * np.cos(turn)) / leaf.aspect
    theta = np.arctan2(v, u)
    outline = 1 + sum(
        a * np.cos((k + 2) * theta) + b * np.sin((k + 2) * theta) for k, (a, b) in enumerate(leaf.waves.T)
    )
    inside = np.hypot(u, v) < outline
    # Mirrored where it ends: a seam in the texture would look like an outline.
    rows, columns = (abs((w * np.sqrt(16 * radius)).astype(int) % 126 - 63) for w in (v, u))
    shade = 1 + leaf.light[0] * v + leaf.light[1] * u + leaf.texture[rows, columns]
    picture[y0:y1, x0:x1][inside] = np.clip(leaf.colour * shade[..., None], 0, 1.2)[inside]
    labels[y0:y1, x0:x1][inside] = number


def _colour(rng: np.random.Generator, drab: float) -> FloatArray:
    grey = rng.uniform(0.05, 0.95)
    return np.asarray(np.clip(grey + drab * rng.normal(0, 0.18, 3), 0.02, 1), np.float32)


def _ground(rng: np.random.Generator, shape: tuple[int, int], drab: float) -> FloatArray:
    fine, coarse = (
        smooth_noise(rng, (2, *shape), (2, s, s * np.exp(rng.normal(0, 0.4))))[0]
        for s in (rng.uniform(2, 10), rng.uniform(20, 100))
    )
    texture = rng.uniform(0, 0.12) * fine + rng.uniform(0, 0.15) * coarse
    return np.asarray(np.clip(_colour(rng, drab) * (1 + texture[..., None]), 0, 1.2), np.float32)
