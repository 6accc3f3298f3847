"""What microscopes and cameras do to a clean picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.transform import resize

from src_core.synthetic.fields import FloatArray, smooth_noise


def blur(image: FloatArray, sigma_px: float, sigma_slices: float) -> FloatArray:
    """Blur (z, y, x) with a point spread function that is longer along z."""
    return np.asarray(ndi.gaussian_filter(image, (sigma_slices, sigma_px, sigma_px)), np.float32)


def shading(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Uneven illumination over the field and bleaching or absorption along z."""
    depth, height, width = image.shape
    field = (
        1 + rng.uniform(0, 0.25) * smooth_noise(rng, (2, height, width), (2, height / 1.5, width / 1.5))[:1]
    )
    fade = np.exp(-rng.uniform(-0.3, 0.6) * np.arange(depth) / max(depth, 1))
    return np.asarray(image * np.clip(field, 0.2, None) * fade[:, None, None], np.float32)


def camera(rng: np.random.Generator, image: FloatArray) -> FloatArray:
    """Shot noise and read noise, for an image of about unit range."""
    photons = np.exp(rng.uniform(np.log(12), np.log(1500)))
    shot = rng.poisson(np.clip(image, 0, None) * photons) / photons
    return np.asarray(shot + rng.normal(0, rng.uniform(0.002, 0.05), image.shape), np.float32)


def sections(
    rng: np.random.Generator, image: FloatArray, labels: NDArray[np.uint16]
) -> tuple[FloatArray, NDArray[np.uint16]]:
    """Serial-section artefacts: jumps, changes of contrast, and now and then a lost or smeared section."""
    image, labels = image.copy(), labels.copy()
    jump = rng.uniform(0, 2.5)
    for z in range(len(image)):
        shift = np.rint(rng.normal(0, jump, 2)).astype(int)
        image[z] = np.roll(image[z], shift, (0, 1))
        labels[z] = np.roll(labels[z], shift, (0, 1))
        image[z] = image[z] * np.exp(rng.normal(0, 0.08)) + rng.normal(0, 0.03)
    if rng.random() < 0.12:
        z = int(rng.integers(len(image)))
        image[z] = ndi.gaussian_filter(image[z], 8) if rng.random() < 0.5 else image[z] * 0.1
    return image, labels


def to_uint8(rng: np.random.Generator, image: FloatArray) -> NDArray[np.uint8]:
    """Stretch between percentiles of the whole stack, as the user's contrast limits do."""
    low, high = np.percentile(image[:, ::3, ::3], (rng.uniform(0, 2), rng.uniform(97, 99.95)))
    scaled = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    return np.asarray(np.rint(255 * scaled ** np.exp(rng.normal(0, 0.25))), np.uint8)


def resample(image: FloatArray, side: int) -> FloatArray:
    """Resize the planes of (z, y, x) to side x side, averaging where they shrink."""
    if image.shape[1:] == (side, side):
        return image
    shrinks = side < image.shape[1]
    planes = [resize(plane, (side, side), order=1, anti_aliasing=shrinks) for plane in image]
    return np.asarray(planes, np.float32)
