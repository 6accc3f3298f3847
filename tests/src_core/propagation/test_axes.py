"""Several axes: what is found along each, and what comes of it together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from src_core.errors import PromptError, SessionError
from src_core.labels import LabelVolume
from src_core.prompts import Prompts
from src_core.propagation import ObjectReport, PropagationSettings, propagate, propagate_to_labels
from src_core.propagation.saving import note_step
from src_core.volumes import Volume, open_volume
from tests.napari_sam.fakes import BlindBelow, Threshold, balls
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
    settings = PropagationSettings(across=tuple(axes[1:]))
    steps = list(propagate(predictor or Threshold(), volume, anchors, axis=first, settings=settings))
    for step in steps:
        for k, mask in step.masks.items() if not step.anchor else ():
            plane = found[step.index]
            plane[plane == k] = 0
            assert not plane[mask].any()
            plane[mask] = k
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
    assert not any(s.masks for s in steps if s.again is not None), "there is nothing to change"
    assert max(s.again for s in steps if s.again is not None) == 1


def test_objects_stay_apart_and_anchors_as_they_are() -> None:
    found, _ = _fused(open_volume(balls()), {6: {1: LEFT[6]}, 5: {2: RIGHT[5]}}, "zyx")
    one, two = LEFT.astype(int), 2 * RIGHT.astype(int)
    one[6] = two[5] = 0
    assert np.array_equal(found, one + two)


def test_two_axes_find_what_the_first_did_not_reach() -> None:
    anchors = {6: {1: LEFT[6]}}
    along, _ = _fused(open_volume(balls()), anchors, "zyx", BlindBelow())
    for z in (2, 3, 4):  # one axis alone ends before them
        same = ((along[z] == 1) & LEFT[z]).sum() / ((along[z] == 1) | LEFT[z]).sum()
        assert same > 0.6, (z, same)
    assert all(np.array_equal(along[z] == 1, LEFT[z]) for z in (0, 1, 5, 7, 8, 9, 10, 11))


@pytest.fixture
def undescribed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs be written that no weights describe."""
    monkeypatch.setattr("src_core.propagation.request.described", lambda *args: {})


@pytest.mark.usefixtures("undescribed")
def test_a_fused_run_is_written_as_labels(tmp_path: Path) -> None:
    volume, out = open_volume(balls(), scale=(2.0, 1.0, 1.0), axes="zyx"), tmp_path / "labels.ome.zarr"
    prompts = {6: {1: Prompts([(16, 16)])}, 5: {2: Prompts([(30, 46)])}}
    done: list[tuple[int, int]] = []
    settings = PropagationSettings(across=("y", "x"))
    report = propagate_to_labels(
        Threshold(), volume, prompts, out, settings=settings, progress=lambda *p: done.append(p)
    )
    found = np.asarray(LabelVolume.open(out).array[:])
    assert np.mean(found == LEFT + 2 * RIGHT.astype(int)) > 0.995
    assert set(report.objects) == {1, 2} and report.objects[1].scores and done[-1][0] == done[-1][1]
    assert 6 not in report.objects[1].scores
    with pytest.raises(SessionError, match="exists"):
        propagate_to_labels(Threshold(), volume, prompts, out, settings=settings)


@pytest.mark.usefixtures("undescribed")
@pytest.mark.parametrize("axes", ["zz", "zt", "zyxz"])
def test_other_axes_are_refused_before_anything_is_replaced(axes: str, tmp_path: Path) -> None:
    volume, settings = open_volume(balls()), PropagationSettings(across=tuple(axes[1:]))
    with pytest.raises(PromptError, match="axes to fuse"):
        propagate(Threshold(), volume, {6: {1: LEFT[6]}}, settings=settings)
    prompts, out = {6: {1: Prompts([(16, 16)])}}, tmp_path / "labels.ome.zarr"
    propagate_to_labels(Threshold(), volume, prompts, out)
    before = np.asarray(LabelVolume.open(out).array[:])
    with pytest.raises(PromptError, match="axes to fuse"):
        propagate_to_labels(Threshold(), volume, prompts, out, settings=settings, overwrite=True)
    assert before.any() and np.array_equal(LabelVolume.open(out).array[:], before)


def test_an_end_at_the_rim_of_the_stack_or_before_the_range_is_still_told() -> None:
    box = np.full((12, 32, 48), 20, np.uint8)
    box[:, 8:24, 8:40] = 220

    class Narrow(Threshold):
        """Sees less of the object along z than across."""

        def predict_many(self, *args, **options):  # type: ignore[no-untyped-def]
            found = super().predict_many(*args, **options)
            if self.embedded[-1][0] == "z":
                for answer in found:
                    answer.masks[:, :, 30:] = False
                    answer.scores[:] = 0.3
            return found

    def ends(predictor: Threshold, image: np.ndarray, anchors: dict[int, dict[int, Mask]], **options: int):  # type: ignore[no-untyped-def]
        objects: dict[int, ObjectReport] = {}
        settings = PropagationSettings(across=("y", "x"))
        changed = set()
        for step in propagate(predictor, open_volume(image), anchors, settings=settings, **options):
            note_step(objects, step)
            changed |= {step.index} if step.again is not None and step.masks else set()
        return sorted(z for z, _ in objects[1].stops), changed

    whole = box[6] > 100
    told, changed = ends(Narrow(), box, {6: {1: whole}})
    assert {0, 11} <= changed, "the last slices are not what they were"
    assert told == [0, 11]
    nothing = np.zeros_like(LEFT[6])
    told, changed = ends(BlindBelow(), balls(), {6: {1: LEFT[6]}, 1: {1: nothing}}, start=2, stop=12)
    assert changed == {2, 3, 4} and told[0] == 2 and len(told) == 2
