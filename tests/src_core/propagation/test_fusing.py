"""Several axes: what is found along each, on square pixels, and what comes of it together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src_core.errors import PromptError, SessionError
from src_core.labels import LabelVolume
from src_core.prompts import Prompts
from src_core.propagation import propagate_axes, propagate_axes_to_labels
from src_core.types import PlaneRef
from src_core.volumes import Volume, open_volume
from src_core.volumes.isotropic import Stretched, isotropic
from tests.napari_sam.fakes import Threshold, balls
from tests.src_core.propagation_stub import Mask

TRUTH = balls() > 100
LEFT = TRUTH & (np.indices(TRUTH.shape)[2] < 32)
RIGHT = TRUTH & ~LEFT


def _fused(
    volume: Volume, anchors: dict[int, dict[int, Mask]], axes: str, predictor: Threshold | None = None
):  # type: ignore[no-untyped-def]
    first = axes[0]
    shape = [volume.n_planes(first), *volume.plane_shape(first)]
    found = np.zeros(shape, int)
    steps = list(propagate_axes(predictor or Threshold(), volume, anchors, axes))
    for step in steps:
        for k, mask in step.masks.items():
            assert not found[step.index][mask].any()
            assert k not in step.stopped or not mask.any(), "it has not ended where it is"
            found[step.index][mask] = k
    return found, steps


@pytest.mark.parametrize("axes", ["zyx", "zx", "yzx", "xyz", "xz"])
def test_what_every_axis_finds_alike_is_found_together(axes: str) -> None:
    order = ["zyx".index(a) for a in (axes[0], *(a for a in "zyx" if a != axes[0]))]
    truth = np.moveaxis(LEFT, order[0], 0)
    middle = int(truth.sum((1, 2)).argmax())
    found, steps = _fused(open_volume(balls()), {middle: {3: truth[middle]}}, axes)
    expected = 3 * truth.astype(int)
    expected[middle] = 0  # anchors are the caller's
    assert np.array_equal(found, expected)
    assert all(0.8 < s.scores[3] <= 1 for s in steps if s.masks)
    assert [s.index for s in steps] == sorted({s.index for s in steps})


def test_objects_stay_apart_and_anchors_as_they_are() -> None:
    found, _ = _fused(open_volume(balls()), {6: {1: LEFT[6]}, 5: {2: RIGHT[5]}}, "zyx")
    one, two = LEFT.astype(int), 2 * RIGHT.astype(int)
    one[6] = two[5] = 0
    assert np.array_equal(found, one + two)


class BlindBelow(Threshold):
    """Sees nothing on the lower slices along z, as if they were too dark."""

    def predict_many(self, embedding, prompts, *, multimask=None):  # type: ignore[no-untyped-def]
        found = super().predict_many(embedding, prompts, multimask=multimask)
        if self.embedded[-1] in [("z", z) for z in range(5)]:
            for answer in found:
                answer.masks[:] = False
        return found


def test_two_axes_find_what_the_first_did_not_reach() -> None:
    anchors = {6: {1: LEFT[6]}}
    along, _ = _fused(open_volume(balls()), anchors, "zyx", BlindBelow())
    for z in (2, 3, 4):  # one axis alone ends before them
        same = ((along[z] == 1) & LEFT[z]).sum() / ((along[z] == 1) | LEFT[z]).sum()
        assert same > 0.6, (z, same)
    assert all(np.array_equal(along[z] == 1, LEFT[z]) for z in (0, 1, 5, 7, 8, 9, 10, 11))


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


def test_a_fused_run_is_written_as_labels(tmp_path: Path) -> None:
    volume, out = open_volume(balls(), scale=(2.0, 1.0, 1.0), axes="zyx"), tmp_path / "labels.ome.zarr"
    prompts = {6: {1: Prompts([(16, 16)])}, 5: {2: Prompts([(30, 46)])}}
    done: list[tuple[int, int]] = []
    report = propagate_axes_to_labels(
        Threshold(), volume, prompts, out, "zyx", progress=lambda *p: done.append(p)
    )
    found = np.asarray(LabelVolume.open(out).array[:])
    assert np.mean(found == LEFT + 2 * RIGHT.astype(int)) > 0.995
    assert set(report.objects) == {1, 2} and report.objects[1].scores and done[-1] == (3, 3)
    assert 6 not in report.objects[1].scores
    with pytest.raises(SessionError, match="exists"):
        propagate_axes_to_labels(Threshold(), volume, prompts, out, "zyx")


@pytest.mark.parametrize("axes", ["z", "zz", "zt", "zyxz", ""])
def test_other_axes_are_refused(axes: str) -> None:
    with pytest.raises(PromptError, match="axes to fuse"):
        next(propagate_axes(Threshold(), open_volume(balls()), {6: {1: LEFT[6]}}, axes))
