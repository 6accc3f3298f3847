"""Synthetic microscopy in 3D with the true instances, one seed a stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src_core.synthetic import optics, stains
from src_core.synthetic.fields import (
    FloatArray,
    Packing,
    grid_px,
    pack,
    smooth_noise,
    stretched,
    tubes,
    warped,
)
from src_core.synthetic.scenes import draw_scene

ELONGATION = (0.5, 5.0)
"""How much longer blur is along z than in the plane: in confocal microscopes and light sheets 2 to 5 times."""
OUTLINED = (0.15, 0.5)
"""The part of an object's light at which people outline it; half of it is where its surface is."""
OUTLINED_BY_LIGHT = 0.6
"""How often they do; the rest is labelled where its surface is."""


@dataclass(frozen=True, eq=False)
class Stack:
    """A volume and its instances.

    Attributes
    ----------
    image
        (z, y, x) uint8, or (z, y, x, 3) for colour.
    labels
        (z, y, x) uint16, 0 is background.
    family
        What it imitates, one of `FAMILIES` or "scenes".
    z_step_px
        Distance between slices in pixels of the plane.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint16]
    family: str
    z_step_px: float


@dataclass(frozen=True)
class _Scene:
    """What a family draws from: the random source, the geometry and its scale."""

    rng: np.random.Generator
    shape: tuple[int, int, int]
    radius_px: float
    z_step_px: float
    positions: FloatArray

    def noise(self, size_px: float) -> FloatArray:
        return smooth_noise(self.rng, self.shape, (size_px / self.z_step_px, size_px, size_px))

    def texture(self) -> FloatArray:
        fine, coarse = self.noise(max(2.0, self.radius_px * 0.15)), self.noise(max(3.0, self.radius_px * 0.5))
        return np.asarray(0.5 * fine + 0.5 * coarse, np.float32)

    def packed(
        self, spacing: float, strength: float, merged: float = 0.0, longer: float = 1.0, columns: bool = False
    ) -> Packing:
        bent = warped(self.rng, self.positions, 1.6 * self.radius_px, strength, self.z_step_px)
        if longer > 1:
            bent = stretched(self.rng, bent, longer)
        return pack(self.rng, bent, self.radius_px, spacing, merged=merged, columns=columns)


Drawing = tuple[FloatArray, NDArray[np.bool_], Packing]
"""A clean picture of about unit range, which voxels belong to objects, and the geometry."""


def _per_object(rng: np.random.Generator, packing: Packing, sigma: float) -> FloatArray:
    return np.asarray(np.exp(rng.normal(0, sigma, packing.n_objects))[packing.owner], np.float32)


def _nuclei(scene: _Scene) -> Drawing:
    rng = scene.rng
    columns = rng.random() < 0.25
    packing = scene.packed(rng.uniform(1.5, 3.2), rng.uniform(0.03, 0.16), columns=columns)
    dropped = rng.random(packing.n_objects) < rng.uniform(0, 0.5)
    inside = (packing.reach < 1) & ~dropped[packing.owner]
    if rng.random() < 0.7:
        inside &= packing.gap > rng.uniform(0, 2.5)
    bright = _per_object(rng, packing, rng.uniform(0.05, 0.5)) * (1 + rng.uniform(0, 0.35) * scene.texture())
    if rng.random() < 0.3:  # rim or core brighter
        bright = bright * (1 + rng.uniform(-0.5, 0.8) * np.clip(packing.reach, 0, 1) ** 3)
    if rng.random() < 0.4:  # nucleoli
        bright = bright * np.where(
            scene.noise(max(3.0, scene.radius_px * 0.45)) > 1.5, rng.uniform(0.3, 1.5), 1.0
        )
    background = rng.uniform(0, 0.3) * (1 + 0.5 * scene.noise(3 * scene.radius_px))
    if rng.random() < 0.15:  # walls or membranes that are stained, too, and not what is labelled
        width = rng.uniform(1.0, 2.5) + rng.uniform(0.03, 0.1) * scene.radius_px
        background = background + rng.uniform(0.2, 1.0) * np.exp(-((packing.gap / width) ** 2))
    if rng.random() < 0.3:  # debris and autofluorescence, brighter than any object
        hot = scene.noise(max(4.0, 0.6 * scene.radius_px)) > rng.uniform(2.2, 3.2)
        background = np.where(hot, rng.uniform(1, 5), background)
    return np.asarray(np.where(inside, bright, background), np.float32), inside, packing


def _membranes(scene: _Scene) -> Drawing:
    rng = scene.rng
    merged = rng.uniform(0.1, 0.7) if rng.random() < 0.4 else 0.0
    longer = rng.uniform(1.5, 3.0) if rng.random() < 0.2 else 1.0
    packing = scene.packed(rng.uniform(1.2, 1.8), rng.uniform(0.05, 0.25), merged, longer)
    width = rng.uniform(1.0, 2.5) + rng.uniform(0.03, 0.25) * scene.radius_px
    outside = rng.random(packing.n_objects) < rng.uniform(0, 0.25)
    # Half of those who label cells let them meet in the middle of the membrane, the others leave some of it out.
    spared = max(0.0, rng.uniform(-1, 1)) * width
    inside = ~outside[packing.owner] & (packing.gap > spared)
    line = np.exp(-((packing.gap / width) ** 2)) * np.clip(
        1 + rng.uniform(0, 0.5) * scene.noise(2 * scene.radius_px), 0.05, 3
    )
    line = line * (1 - 0.7 * outside[packing.owner] * (packing.gap > width))
    fill = rng.uniform(0, 0.35) * _per_object(rng, packing, 0.4) * (1 + 0.3 * scene.texture())
    picture = line + np.where(outside[packing.owner], 0.3 * fill, fill)
    if rng.random() < 0.3:  # stained nuclei inside the cells, not what is labelled
        picture = picture + rng.uniform(0.2, 0.8) * (packing.reach < rng.uniform(0.3, 0.6))
    return np.asarray(picture, np.float32), inside, packing


def _electron(scene: _Scene) -> Drawing:
    """Cells between dark membranes with organelles, or the organelles themselves."""
    rng = scene.rng
    merged = rng.uniform(0.2, 0.9) if rng.random() < 0.65 else 0.0
    # Neurites are long; cut lengthwise they have thin tails.
    longer = rng.uniform(2.0, 8.0) if rng.random() < 0.4 else 1.0
    packing = scene.packed(rng.uniform(1.0, 1.6), rng.uniform(0.15, 0.4), merged, longer)
    width = rng.uniform(1.5, 3) + 0.03 * scene.radius_px
    picture = 0.75 + 0.06 * _per_object(rng, packing, 0.8) + 0.04 * scene.texture()
    organelle = _Scene(
        rng, scene.shape, scene.radius_px * rng.uniform(0.2, 0.5), scene.z_step_px, scene.positions
    )
    small = organelle.packed(rng.uniform(2.0, 3.5), rng.uniform(0.1, 0.3))
    kept = rng.random(small.n_objects) < rng.uniform(0.2, 0.8)
    body = (small.reach < 1) & kept[small.owner] & (packing.gap > 2 * width)
    stripes = np.sin(small.reach * rng.uniform(4, 12) + 2 * organelle.noise(2 * organelle.radius_px))
    rim = (small.reach > 0.8) & body
    picture = np.where(body, rng.uniform(0.3, 0.6) + 0.08 * stripes, picture)
    picture = np.where(rim, 0.2, picture)
    picture = picture * (1 - 0.85 * np.exp(-((packing.gap / width) ** 2)))
    if rng.random() < 0.5:  # vesicles
        spots = scene.noise(rng.uniform(3, 6)) > rng.uniform(1.2, 2.2)
        picture = np.where(spots & (packing.gap > 2 * width), picture * rng.uniform(0.4, 0.8), picture)
    speckle = scene.noise(2.0) * rng.uniform(0.02, 0.1)
    picture = np.asarray(np.clip(picture + speckle, 0, None), np.float32)
    if rng.random() < 0.35 and organelle.radius_px > 5:
        return picture, body, small
    return picture, packing.gap > rng.uniform(0.2, 0.8) * width, packing


def _tubes(scene: _Scene) -> Drawing:
    rng = scene.rng
    radius = scene.radius_px * 0.5
    bent = warped(rng, scene.positions, 4 * radius, 0.15, scene.z_step_px)
    packing = tubes(rng, bent, radius, int(rng.integers(4, 16)))
    inside = packing.reach < 1
    profile = 1.0 if rng.random() < 0.5 else np.clip(packing.reach, 0, 1) ** 2 + 0.2
    bright = profile * _per_object(rng, packing, 0.3) * (1 + 0.25 * scene.texture())
    background = rng.uniform(0, 0.4) * (1 + 0.4 * scene.noise(2 * scene.radius_px))
    return np.asarray(np.where(inside, bright, background), np.float32), inside, packing


def _phase(scene: _Scene) -> Drawing:
    """Draw transmitted light: cells hardly darker than the background, with a halo."""
    rng = scene.rng
    _, inside, packing = _nuclei(scene)
    shape = inside.astype(np.float32)
    width = max(1.0, 0.1 * scene.radius_px)
    halo = optics.blur(shape, 2.5 * width, 0.3) - optics.blur(shape, 0.7 * width, 0.2)
    body = shape * (rng.uniform(-0.15, 0.1) + rng.uniform(0.03, 0.15) * scene.texture())
    picture = 0.6 + rng.uniform(0.6, 1.4) * halo + body + 0.03 * scene.noise(3 * scene.radius_px)
    return np.asarray(np.clip(picture, 0, None), np.float32), inside, packing


FAMILIES: dict[str, Callable[[_Scene], Drawing]] = {
    "nuclei": _nuclei,
    "membranes": _membranes,
    "electron": _electron,
    "tubes": _tubes,
    "phase": _phase,
}
_WEIGHTS = (0.34, 0.23, 0.23, 0.1, 0.1)


def make_stack(
    seed: int,
    shape: tuple[int, int, int] = (10, 256, 256),
    family: str | None = None,
    radius_px: float | None = None,
) -> Stack:
    """Draw one synthetic stack.

    Parameters
    ----------
    seed
        The same seed gives the same stack.
    shape
        (slices, side, side).
    family
        One of `FAMILIES`, drawn at random by default, or "scenes", for which alone `radius_px` means nothing.
    radius_px
        Typical radius of an object in pixels; drawn at random by default.
    """
    rng = np.random.default_rng((seed, 20261124))
    if family == "scenes":
        return _film(rng, shape)
    name = family or str(rng.choice(list(FAMILIES), p=_WEIGHTS))
    radius = radius_px or float(np.exp(rng.uniform(np.log(7), np.log(60))))
    slices_per_object = rng.uniform(4, 24)
    z_step_px = float(np.clip(2 * radius / slices_per_object, 0.5, 60))
    scene = _Scene(rng, shape, radius, z_step_px, grid_px(shape, z_step_px))
    picture, inside, packing = FAMILIES[name](scene)
    lens = _lens(scene, name)
    if name in ("nuclei", "tubes", "phase") and rng.random() < OUTLINED_BY_LIGHT:
        inside = _outlined(scene, lens, inside, packing)
    labels = np.where(inside, packing.owner + 1, 0).astype(np.uint16)
    image = _acquire(scene, lens, picture)
    if name == "electron" or rng.random() < 0.1:
        image, labels = optics.sections(rng, image, labels)
    if name in ("nuclei", "membranes", "tubes") and rng.random() < 0.12:
        image = image.max() - image
    grey = optics.to_uint8(rng, image)
    if name in ("nuclei", "membranes", "phase") and rng.random() < 0.2:
        stain = stains.two if rng.random() < 0.5 else stains.one
        return Stack(stain(rng, grey, scene.noise), labels, name, z_step_px)
    return Stack(grey, labels, name, z_step_px)


def drawn_family(seed: int) -> str:
    """Return which of `FAMILIES` `make_stack` draws for a seed."""
    return str(np.random.default_rng((seed, 20261124)).choice(list(FAMILIES), p=_WEIGHTS))


def _film(rng: np.random.Generator, shape: tuple[int, int, int]) -> Stack:
    picture, labels = draw_scene(rng, shape)
    image = np.clip(optics.camera(rng, picture), 0, 1)
    return Stack(np.asarray(np.rint(255 * image), np.uint8), labels, "scenes", 1.0)


@dataclass(frozen=True)
class _Lens:
    """The side of the camera's images, and the blur in the plane, in their pixels, and along z, in slices."""

    native: int
    sigma_px: float
    sigma_slices: float


def _lens(scene: _Scene, family: str) -> _Lens:
    rng, side = scene.rng, scene.shape[1]
    # Small images are enlarged before they reach the network: it must know how that looks.
    native = (
        side if rng.random() < 0.5 else int(side / rng.uniform(1.2, max(1.3, min(4.5, scene.radius_px / 4))))
    )
    if family == "electron":
        return _Lens(native, rng.uniform(0.0, 0.9), 0.0)
    sigma = rng.uniform(0.3, 1.2) + 0.05 * scene.radius_px * native / side
    along_px = rng.uniform(*ELONGATION) * sigma * side / native
    return _Lens(native, sigma, along_px / scene.z_step_px)


def _outlined(scene: _Scene, lens: _Lens, inside: NDArray[np.bool_], packing: Packing) -> NDArray[np.bool_]:
    """Return what someone outlines who sees the blurred objects: some of the blur, above and below most of all."""
    seen = optics.blur(
        inside.astype(np.float32), lens.sigma_px * scene.shape[1] / lens.native, lens.sigma_slices
    )
    drawn = np.bincount(packing.owner[inside], minlength=packing.n_objects) > 0
    return np.asarray(inside | ((seen > scene.rng.uniform(*OUTLINED)) & drawn[packing.owner]))


def _acquire(scene: _Scene, lens: _Lens, picture: FloatArray) -> FloatArray:
    """Optics at the native resolution, then back to the size the network sees."""
    image = optics.resample(picture, lens.native)
    image = optics.blur(image, lens.sigma_px, lens.sigma_slices)
    image = optics.camera(scene.rng, optics.shading(scene.rng, image))
    return optics.resample(image, scene.shape[1])
