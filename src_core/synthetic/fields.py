"""Random smooth fields and the geometry of packed objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree
from torch.nn import functional as F

FloatArray = NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], scale: tuple[float, ...]) -> FloatArray:
    """Return zero-mean, unit-variance noise of `shape` (z, y, x) whose features are `scale` voxels large."""
    coarse = [max(2, round(n / max(s, 1.0)) + 1) for n, s in zip(shape, scale, strict=True)]
    grid = torch.from_numpy(rng.standard_normal(coarse, dtype=np.float32))[None, None]
    field = F.interpolate(grid, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)


@dataclass(frozen=True)
class Packing:
    """Space divided among objects.

    Attributes
    ----------
    owner
        (z, y, x) int32, index of the nearest object, from 0.
    reach
        (z, y, x) float32, distance from the owner's centre in units of the owner's radius: below 1 is inside.
    gap
        (z, y, x) float32, how much farther the second nearest object is, in pixels: 0 on the border.
    n_objects
        Number of objects.
    """

    owner: NDArray[np.int32]
    reach: FloatArray
    gap: FloatArray
    n_objects: int


def grid_px(shape: tuple[int, int, int], z_step_px: float) -> FloatArray:
    """Return the (z, y, x, 3) positions of a stack's voxels in pixels of the plane."""
    axes = [np.arange(n, dtype=np.float32) for n in shape]
    axes[0] = axes[0] * z_step_px
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)


def warped(
    rng: np.random.Generator, positions: FloatArray, size_px: float, strength: float, z_step_px: float
) -> FloatArray:
    """Bend `positions` by a smooth displacement of `strength` x `size_px` so that borders curve."""
    shape = positions.shape[:3]
    scale = (size_px / z_step_px, size_px, size_px)
    bend = np.stack([smooth_noise(rng, shape, scale) for _ in range(3)], axis=-1)
    return (positions + bend * (strength * size_px)).astype(np.float32)


def stretched(rng: np.random.Generator, positions: FloatArray, factor: float) -> FloatArray:
    """Change `positions` so that what is packed becomes `factor` times as long as wide, in one random direction."""
    along = rng.standard_normal(3)
    along /= np.linalg.norm(along)
    wide, long = factor ** (1 / 3), factor ** (-2 / 3)
    shift = (long - wide) * (positions @ along)[..., None] * along
    return np.asarray(wide * positions + shift, np.float32)


def pack(
    rng: np.random.Generator,
    positions: FloatArray,
    radius_px: float,
    spacing: float,
    spread: float = 0.25,
    merged: float = 0.0,
    columns: bool = False,
) -> Packing:
    """Divide space among ellipsoids of about `radius_px`.

    Parameters
    ----------
    positions
        (z, y, x, 3) voxel positions, bent or not.
    radius_px
        Mean radius.
    spacing
        Distance between neighbours in radii: 2 touches, 1.5 presses cells together.
    spread
        Relative standard deviation of the objects' radii.
    merged
        Probability of a site to join the largest of a few neighbours: large and concave objects between small
        ones. `reach` then is that of the nearest site.
    columns
        Whether sites stand on top of each other along z, as cells of an epithelium in layers do.
    """
    flat = positions.reshape(-1, 3)
    low, high = flat.min(0) - radius_px, flat.max(0) + radius_px
    step = spacing * radius_px
    axes = [
        np.arange(a + rng.uniform(-step / 2, step / 2), b + step, step)
        for a, b in zip(low, high, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    jitter = rng.uniform(-0.38, 0.38, grid.shape)
    if columns:
        jitter[..., 1:] = jitter[:1, ..., 1:] + rng.normal(0, 0.04, jitter[..., 1:].shape)
    centres = (grid + jitter * step).reshape(-1, 3)
    tree = cKDTree(centres)
    group = _groups(rng, tree, merged)
    distance, nearest = tree.query(flat, k=2 if merged == 0 else min(8, len(centres)))
    owner = nearest[:, 0]
    groups = group[nearest]
    gap = np.where(groups != groups[:, :1], distance, np.inf).min(1) - distance[:, 0]

    radii = radius_px * np.exp(rng.normal(0, spread, (len(centres), 1)))
    stretch = np.exp(rng.normal(0, 0.25, (len(centres), 3)))
    turn = np.linalg.qr(rng.standard_normal((len(centres), 3, 3)))[0]
    whiten = (turn / (radii * stretch)[:, None, :]).astype(np.float32)
    used, compact = np.unique(groups[:, 0], return_inverse=True)
    offset = flat - centres[owner].astype(np.float32)
    reach = np.linalg.norm(np.einsum("ni,nij->nj", offset, whiten[owner]), axis=1)
    shape = positions.shape[:3]
    return Packing(
        compact.reshape(shape).astype(np.int32),
        reach.reshape(shape).astype(np.float32),
        np.minimum(gap, 2 * step).reshape(shape).astype(np.float32),
        len(used),
    )


def _groups(rng: np.random.Generator, tree: cKDTree, merged: float) -> NDArray[np.int64]:
    """Return the group of each site: its own index, or that of the strongest of its nearest neighbours."""
    count = tree.n
    group = np.arange(count)
    if merged > 0 and count > 1:
        strength = rng.random(count)
        near = tree.query(tree.data, k=min(7, count))[1]
        strongest = np.take_along_axis(near, strength[near].argmax(1)[:, None], 1)[:, 0]
        joins = rng.random(count) < merged
        group[joins] = strongest[joins]
        group = group[group]
    return group


def tubes(rng: np.random.Generator, positions: FloatArray, radius_px: float, count: int) -> Packing:
    """Divide space among `count` wandering tubes of about `radius_px`."""
    flat = positions.reshape(-1, 3)
    low, high = flat.min(0), flat.max(0)
    points, ids, radii = [], [], []
    for k in range(count):
        n = 160
        start = rng.uniform(low, high)
        heading = np.cumsum(ndi.gaussian_filter1d(rng.standard_normal((n, 3)), 6, axis=0), axis=0)
        heading += rng.standard_normal(3) * 2
        heading /= np.linalg.norm(heading, axis=1, keepdims=True) + 1e-6
        path = start + np.cumsum(heading, axis=0) * radius_px * 0.5
        points.append(path - path[n // 2] + start)
        ids.append(np.full(n, k))
        radii.append(
            radius_px
            * np.exp(rng.normal(0, 0.2) + 0.15 * ndi.gaussian_filter1d(rng.standard_normal(n), 8) * 4)
        )
    all_ids, all_radii = np.concatenate(ids), np.concatenate(radii)
    distance, nearest = cKDTree(np.concatenate(points)).query(flat, k=8)
    owners = all_ids[nearest]
    other = np.where(owners != owners[:, :1], distance, np.inf).min(1)
    gap = np.minimum(other - distance[:, 0], 4 * radius_px)
    shape = positions.shape[:3]
    reach = distance[:, 0] / all_radii[nearest[:, 0]]
    return Packing(
        owners[:, 0].reshape(shape).astype(np.int32),
        reach.reshape(shape).astype(np.float32),
        gap.reshape(shape).astype(np.float32),
        count,
    )
