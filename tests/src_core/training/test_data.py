"""Training data: everything follows from seed and step, crops keep image and labels together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from src_core.training import data
from src_core.training.samples import Samples, low_res_masks

RNG = np.random.default_rng


@pytest.fixture
def stacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> data.StackSource:
    monkeypatch.setattr(data, "STACK_SHAPE", (6, 64, 64))
    return data.StackSource(tmp_path / "stacks", count=2, first_seed=11)


def _samples(stacks: data.StackSource, seed: int = 0, images: data.ImageSource | None = None) -> Samples:
    return Samples(
        stacks,
        images,
        seed=seed,
        steps=9,
        side=64,
        crops=2,
        objects_per_crop=2,
        frames=3,
        objects_per_stack=3,
    )


def test_stacks_are_drawn_once_and_kept(stacks: data.StackSource, monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = stacks.get(0)
    assert image.shape[:3] == labels.shape == (6, 64, 64)
    assert image.dtype == np.uint8
    assert labels.dtype == np.int32
    stacks.get(1)
    assert sorted(p.name for p in stacks.folder.iterdir()) == ["11.npz", "12.npz"]
    monkeypatch.setattr(data, "make_stack", None)
    again, _ = stacks.get(2)  # modulo the number of stacks
    assert np.array_equal(again, image)


def test_a_step_is_the_same_whatever_came_before(stacks: data.StackSource) -> None:
    a, b = _samples(stacks), _samples(stacks)
    for step in range(5):
        b[step]
    one, two, three = a[5], b[5], _samples(stacks, seed=1)[5]
    assert len(a) == 9
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.image_masks, two.image_masks)
    assert np.array_equal(one.stack_masks, two.stack_masks)
    assert not np.array_equal(one.images, three.images)
    assert not np.array_equal(one.images, a[4].images)


def test_a_sample_has_the_promised_shapes_and_no_empty_object(stacks: data.StackSource) -> None:
    samples = _samples(stacks)
    sides = set()
    for step in range(9):
        sample = samples[step]
        y0, x0, y1, x1 = sample.window_yxyx
        side = sample.images.shape[1]
        sides.add(side)
        assert (y1 - y0, x1 - x0) == (64, 64)
        assert 0 <= y0 <= side - 64
        assert 0 <= x0 <= side - 64
        assert not y0 % 8
        assert not x0 % 8
        assert sample.images.shape == (2 + 3, side, side, 3)
        assert sample.labels.shape == (2 + 3, side // 4, side // 4)
        assert sample.images.dtype == np.uint8
        assert sample.image_masks.shape == (2, 2, 32, 32)
        assert sample.stack_masks.shape == (1, 3, 3, 32, 32)
        assert sample.image_masks.any((2, 3)).all()
        assert sample.stack_masks[0, 0].any((1, 2)).all()  # all are on the first slice
    assert len(sides) > 1  # the encoder sees more than what is asked about, now and then


def test_what_is_asked_about_lies_in_the_window(stacks: data.StackSource) -> None:
    samples = _samples(stacks)
    found = [samples[step] for step in range(9)]
    assert any(s.window_yxyx[0] for s in found)
    for sample in found:
        y0, x0, y1, x1 = (n // 4 for n in sample.window_yxyx)
        there = sample.labels[:, y0:y1, x0:x1]
        masks = np.concatenate([sample.image_masks.reshape(-1, 32, 32), sample.stack_masks[0, 0]])
        planes = [*np.repeat(there[:2], 2, axis=0), *np.repeat(there[2:3], 3, axis=0)]
        for mask, plane in zip(masks, planes, strict=True):
            inside = plane[mask[1::2, 1::2]]
            assert inside.size < 12 or (inside == np.bincount(inside[inside > 0]).argmax()).mean() > 0.6


def test_background_is_far_from_objects_and_only_where_it_is_known(
    stacks: data.StackSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data.StackSource, "is_complete", lambda self, index: True)
    samples = _samples(stacks)
    found = [samples[step] for step in range(6)]
    assert all(s.background.shape == (2, 32, 32) for s in found)
    assert any(s.background.any() for s in found)
    assert not any((s.background[:, None] & s.image_masks).any() for s in found)
    monkeypatch.setattr(data.StackSource, "is_complete", lambda self, index: False)
    assert not any(samples[step].background.any() for step in range(6))


def test_scenes_stand_in_for_some_stacks(stacks: data.StackSource, tmp_path: Path) -> None:
    scenes = data.StackSource(tmp_path / "scenes", count=2, first_seed=11, family="scenes")
    assert not scenes.is_complete(0)
    samples = Samples(stacks, None, seed=0, steps=9, side=64, crops=2, frames=3, scenes=scenes)
    for step in range(6):
        samples[step]
    assert {p.name for p in scenes.folder.iterdir()} <= {"11.npz", "12.npz"}
    assert list(scenes.folder.iterdir())
    assert list(stacks.folder.iterdir())


def test_labelled_images_take_turns_with_stacks(stacks: data.StackSource, tmp_path: Path) -> None:
    labels = np.zeros((80, 90), np.uint16)
    labels[10:70, 10:80] = 3
    np.savez(tmp_path / "a.npz", image=np.where(labels, 40000, 100).astype(np.uint16), labels=labels)
    source = data.ImageSource([tmp_path / "a.npz"])
    asked = []
    source.get = lambda index: asked.append(index) or source.pairs[0]  # type: ignore[method-assign, func-returns-value]
    sample = _samples(stacks, images=source)[0]
    assert asked
    assert sample.images.shape[0] == 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_is_stretched_and_colour_is_not(dtype: type) -> None:
    grey = np.linspace(10, 200, 400).reshape(20, 20).astype(dtype)
    out = data.stretch(grey)
    assert out.dtype == np.uint8
    assert (out.min(), out.max()) == (0, 255)
    assert data.stretch(np.full((4, 4), 7, dtype)).max() == 0
    rgba = RNG(0).integers(0, 99, (5, 5, 4), np.uint8)
    assert np.array_equal(data.stretch(rgba), rgba[..., :3])


@pytest.mark.parametrize("seed", range(6))
def test_crops_keep_image_and_labels_together(seed: int) -> None:
    labels = np.zeros((100, 120), np.int32)
    labels[15:85, 20:100] = 1
    crop = data.image_crop(RNG(seed), np.where(labels, 220, 30).astype(np.uint8), labels, 64)
    assert crop is not None
    assert crop.images.shape == (1, 64, 64, 3)
    assert crop.labels.shape == (1, 64, 64)
    grey, inside = crop.images[0].mean(-1), crop.labels[0] == 1
    assert inside.any()
    if not inside.all():
        # brightness may be inverted, but inside and outside stay apart
        assert abs(np.median(grey[inside]) - np.median(grey[~inside])) > 12


def test_real_images_get_less_noise_than_drawn_ones() -> None:
    def noise(grain: tuple[float, float]) -> float:
        flat, whole = np.full((64, 64), 128, np.uint8), np.ones((64, 64), np.int32)
        crops = [data.image_crop(RNG(seed), flat, whole, 64, grain) for seed in range(60)]
        return float(np.mean([crop.images.std() for crop in crops if crop is not None]))

    assert 0 < 2 * noise(data.REAL_GRAIN) < noise(data.DRAWN_GRAIN)


def _three_objects() -> NDArray[np.int32]:
    """Return a plane with two squares a pixel apart and one alone."""
    labels = np.zeros((80, 80), np.int32)
    labels[10:20, 10:20], labels[10:20, 21:31], labels[60:70, 60:70] = 2, 3, 5
    return labels


def test_objects_that_touch_are_likelier_to_be_drawn() -> None:
    assert data.crowding(_three_objects(), 2).tolist() == [0, 0, data.TOUCHING, data.TOUCHING, 0, 1]
    assert data.crowding(np.zeros((5, 5), np.int32), 2).tolist() == [0]


def test_crops_are_mostly_laid_around_objects_that_touch() -> None:
    labels = _three_objects()
    crops = [data.image_crop(RNG(seed), labels.astype(np.uint8), labels, 160) for seed in range(240)]
    shown = [set(np.unique(crop.labels)) for crop in crops if crop is not None]
    assert np.mean([bool(ids & {2, 3}) for ids in shown]) > 0.7
    assert any(ids == {0, 5} for ids in shown)


def test_an_image_without_objects_gives_no_crop() -> None:
    assert data.image_crop(RNG(0), np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.int32), 32) is None


@pytest.mark.parametrize("seed", range(8))
def test_slices_of_a_crop_are_evenly_spaced_and_cut_alike(seed: int) -> None:
    labels = np.zeros((9, 64, 64), np.int32)
    labels[:, 16:48, 16:48] = np.arange(1, 10)[:, None, None]  # the value says the slice
    crop = data.stack_crop(RNG(seed), (labels * 20).astype(np.uint8), labels, 64, frames=4)
    assert crop.images.shape == (4, 64, 64, 3)
    order = [int(np.unique(plane)[-1]) for plane in crop.labels]
    steps = np.diff(order)
    assert len(set(steps)) == 1
    assert abs(steps[0]) in (1, 2)
    assert all(np.array_equal(plane > 0, crop.labels[0] > 0) for plane in crop.labels)


def test_low_resolution_masks_are_by_majority() -> None:
    labels = np.zeros((4, 4), np.int32)
    labels[0, :2] = 5  # two of four pixels
    labels[2, 2] = 5  # one of four
    labels[2:, :2] = 8
    masks = low_res_masks(labels, np.array([5, 8]))
    assert masks[0].tolist() == [[True, False], [False, False]]
    assert masks[1].tolist() == [[False, False], [True, False]]
