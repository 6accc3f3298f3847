"""Planes across slices that lie far apart have square pixels."""

from __future__ import annotations

import numpy as np

from src_core.types import PlaneRef
from src_core.volumes import open_volume
from src_core.volumes.isotropic import Stretched, isotropic
from tests.napari_sam.fakes import balls


def test_planes_across_far_slices_have_square_pixels_and_the_same_contrast() -> None:
    volume = open_volume(balls().astype(np.uint16) * 7, axes="zyx", scale=(4.0, 1.0, 1.0))
    square = isotropic(volume, "y")
    assert square.plane_shape("y") == (48, 64) and square.plane_shape("x") == (48, 48)
    assert isotropic(volume, "z") is volume
    assert square.contrast_limits_of(0) == volume.contrast_limits_of(0)
    plane, flat = square.plane(y=16).pixels, volume.plane(y=16).pixels
    assert plane.dtype == np.uint16 and square.scale["z"] == 1
    middle = plane.reshape(12, 4, 64)[:, 1:3].mean(1)
    assert np.abs(middle - flat).max() <= 0.3 * flat.max()
    part, _ = square.plane_at(PlaneRef("y", 16)).rgb8_part((10, 5, 30, 25), (20, 20))
    assert np.array_equal(part, square.plane(y=16).rgb8()[10:30, 5:25])


def test_a_size_that_cannot_be_right_does_not_make_endless_planes() -> None:
    slip = open_volume(balls(), axes="zyx", scale=(0.0001, 1.0, 1.0))
    assert isotropic(slip, "x").plane_shape("x") == (12, 32 * 48)


def test_stretching_interpolates_and_reads_only_what_it_needs() -> None:
    asked: list[slice] = []

    class Noted:
        shape, dtype = (5, 3), np.dtype(np.uint8)

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            asked.append(index[0])
            return (np.arange(15, dtype=np.uint8).reshape(5, 3) * 10)[index]

    stretched = Stretched(Noted(), 0, 10)
    assert stretched[:, 0].tolist() == [0, 8, 22, 38, 52, 68, 82, 98, 112, 120]
    asked.clear()
    assert stretched[4:6, 1:3].shape == (2, 2) and stretched[4, 1] == 62
    assert all(i.stop - i.start <= 3 for i in asked)
