"""Synthetic stacks: the same seed draws the same stack, and what is drawn can be learned from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from skimage.measure import regionprops

from src_core.synthetic import FAMILIES, drawn_family, make_stack, stacks, stains
from src_core.synthetic.fields import grid_px, pack, smooth_noise, stretched, tubes
from src_core.synthetic.optics import blur, resample, sections, to_uint8
from src_core.synthetic.scenes import MIN_VISIBLE_PX

SHAPE = (6, 64, 64)


@pytest.mark.parametrize("family", [*FAMILIES, "scenes"])
def test_a_seed_is_a_stack(family: str) -> None:
    a, b, c = (make_stack(seed, SHAPE, family) for seed in (3, 3, 4))
    assert np.array_equal(a.image, b.image)
    assert np.array_equal(a.labels, b.labels)
    assert a.z_step_px == b.z_step_px
    assert not np.array_equal(a.image, c.image)


@pytest.mark.parametrize("family", [*FAMILIES, "scenes"])
def test_shapes_and_dtypes(family: str) -> None:
    for seed in range(3):
        stack = make_stack(seed, SHAPE, family)
        assert stack.family == family
        assert stack.image.dtype == np.uint8
        assert stack.image.shape in (SHAPE, (*SHAPE, 3))
        assert stack.labels.dtype == np.uint16
        assert stack.labels.shape == SHAPE
        assert 0.5 <= stack.z_step_px <= 60


@pytest.mark.parametrize("family", FAMILIES)
def test_most_seeds_show_objects_that_can_be_seen(family: str) -> None:
    seen = 0
    for seed in range(10):
        stack = make_stack(seed, SHAPE, family, radius_px=12)
        grey = stack.image if stack.image.ndim == 3 else stack.image.mean(-1)
        inside = stack.labels > 0
        if 0.02 < inside.mean() < 0.98:
            # by brightness or by its variation: some families differ in texture only
            a, b = grey[inside].astype(float), grey[~inside].astype(float)
            seen += abs(a.mean() - b.mean()) > 3 or abs(a.std() - b.std()) > 3
        assert grey.std() > 1
    assert seen >= 8


def test_families_and_colour_occur_by_themselves() -> None:
    stacks = [make_stack(seed, (2, 32, 32)) for seed in range(60)]
    assert {s.family for s in stacks} == set(FAMILIES)
    assert {s.image.ndim for s in stacks} == {3, 4}


def test_the_family_of_a_seed_is_known_without_drawing_it() -> None:
    assert [drawn_family(seed) for seed in range(20)] == [
        make_stack(seed, (2, 32, 32)).family for seed in range(20)
    ]


def test_objects_of_a_scene_cover_each_other_and_move() -> None:
    stack = make_stack(0, (8, 128, 128), "scenes")
    assert stack.image.ndim == 4
    areas = np.stack([np.bincount(plane.ravel(), minlength=200)[1:] for plane in stack.labels])
    assert (areas[areas > 0] >= MIN_VISIBLE_PX).all()
    there = np.nonzero((areas > 0).all(0))[0] + 1
    assert len(there) >= 3
    moved = [(stack.labels[0] == k) != (stack.labels[-1] == k) for k in there]
    assert all(m.any() for m in moved)
    # A colour of its own: an object differs from what surrounds it.
    for k in there:
        inside = stack.labels[0] == k
        around = binary_dilation(inside, iterations=4) & ~inside
        assert np.abs(stack.image[0][inside].mean(0) - stack.image[0][around].mean(0)).max() > 3


def test_objects_go_on_from_slice_to_slice() -> None:
    labels = make_stack(1, (12, 64, 64), "nuclei", radius_px=14).labels
    kept = []
    for a, b in pairwise(labels):
        for k in np.unique(a)[1:]:
            if np.count_nonzero(a == k) > 100:
                kept.append(np.count_nonzero((a == k) & (b == k)) / np.count_nonzero(a == k))
    assert len(kept) > 5
    assert np.median(kept) > 0.6


def test_cells_meet_in_some_stacks_and_leave_their_membrane_out_in_others() -> None:
    borders = []
    for seed in range(16):
        plane = make_stack(seed, (2, 96, 96), "membranes", radius_px=20).labels[0].astype(int)
        left, right = plane[:, :-1], plane[:, 1:]
        borders.append(np.count_nonzero((left != right) & (left > 0) & (right > 0)))
    assert min(borders) == 0 and sorted(borders)[11] > 200


def test_the_radius_is_about_what_was_asked() -> None:
    small, large = (make_stack(2, (4, 128, 128), "membranes", radius_px=r).labels for r in (8, 32))
    areas = [
        np.median(np.bincount(x[2].ravel())[1:][np.bincount(x[2].ravel())[1:] > 0]) for x in (small, large)
    ]
    assert areas[1] > 4 * areas[0]


def test_noise_has_mean_zero_and_variance_one() -> None:
    noise = smooth_noise(np.random.default_rng(0), (8, 40, 40), (2, 8, 8))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 1e-4
    assert noise.std() == pytest.approx(1, abs=1e-3)
    rough = smooth_noise(np.random.default_rng(0), (8, 40, 40), (1, 1, 1))
    assert np.abs(np.diff(noise, axis=2)).mean() < 0.5 * np.abs(np.diff(rough, axis=2)).mean()


def test_packing_divides_space_without_gaps_in_the_numbering() -> None:
    rng = np.random.default_rng(0)
    for packing in (pack(rng, grid_px(SHAPE, 2.0), 9, 2.0), tubes(rng, grid_px(SHAPE, 2.0), 5, 3)):
        assert packing.owner.shape == packing.reach.shape == packing.gap.shape == SHAPE
        assert packing.owner.min() >= 0
        assert packing.owner.max() < packing.n_objects
        assert packing.reach.min() >= 0
        assert packing.gap.min() >= 0
    packing = pack(rng, grid_px(SHAPE, 2.0), 9, 2.0)
    assert np.array_equal(np.unique(packing.owner), np.arange(packing.n_objects))


def test_sections_move_image_and_labels_together() -> None:
    labels = np.zeros((5, 32, 32), np.uint16)
    labels[:, 10:20, 10:20] = 7
    image, moved = sections(np.random.default_rng(1), labels.astype(np.float32), labels)
    assert (moved != labels).any()
    assert (labels[:, 10:20, 10:20] == 7).all()  # the argument is untouched
    for a, b in zip(image, moved, strict=True):
        if a.std() > 1:
            assert a[b == 7].mean() > a[b == 0].mean() + 1


def test_optics_keep_their_promises() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((3, 32, 32)).astype(np.float32)
    assert blur(image, 3, 0).std() < 0.3 * image.std()
    assert resample(image, 32) is image
    assert resample(image, 16).shape == (3, 16, 16)
    assert resample(image, 64).dtype == np.float32
    grey = to_uint8(rng, 0.1 * image)
    assert grey.dtype == np.uint8
    assert grey.max() > 250
    assert grey.min() < 10
    assert to_uint8(rng, np.zeros_like(image)).max() == 0


def test_packed_objects_can_be_long_in_one_direction() -> None:
    def length(longer: float) -> float:
        ratios = []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            positions = stretched(rng, grid_px((12, 120, 120), 1.0), longer)
            owner = pack(rng, positions, 6.0, 1.5).owner
            regions = [r for r in regionprops(owner[6] + 1) if r.area > 30]
            ratios += [r.axis_major_length / r.axis_minor_length for r in regions]
        return float(np.mean(ratios))

    assert length(8.0) > 1.5 * length(1.0)


def test_columns_stand_on_top_of_each_other() -> None:
    def drift(columns: bool) -> float:
        owner = pack(np.random.default_rng(9), grid_px((40, 96, 96), 1.0), 8.0, 2.0, columns=columns).owner
        centres = np.array([r.centroid for r in regionprops(owner + 1) if r.area > 1000])
        apart = np.abs(centres[:, None, 1:] - centres[None, :, 1:]).max(-1)
        np.fill_diagonal(apart, np.inf)
        return float(np.median(apart.min(1)))

    assert drift(columns=True) < 2 < drift(columns=False)


def test_outlines_take_in_some_of_the_blur_most_of_all_along_z() -> None:
    def extent(often: float) -> tuple[float, float]:
        tall, wide = [], []
        for seed in range(12):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(stacks, "OUTLINED_BY_LIGHT", often)
                labels = make_stack(seed, (24, 64, 64), "nuclei", radius_px=12).labels
            for region in regionprops(labels):
                z, y, _ = np.ptp(region.coords, axis=0) + 1
                tall.append(z)
                wide.append(y)
        return float(np.mean(tall)), float(np.mean(wide))

    (tall, wide), (taller, wider) = extent(0.0), extent(1.0)
    assert taller > 1.05 * tall
    assert wider < taller / tall * wide


def test_two_stains_show_more_than_the_objects() -> None:
    rng = np.random.default_rng(0)
    grey = np.zeros((4, 64, 64), np.uint8)
    grey[:, 20:40, 20:40] = 220

    def noise(size_px: float) -> np.ndarray:
        return smooth_noise(rng, grey.shape, (2, size_px, size_px))

    seen = [stain(rng, grey, noise) for stain in (stains.one, stains.two) for _ in range(8)]
    assert {image.shape for image in seen} == {(4, 64, 64, 3)}
    around = [image[:, :15].astype(float).std((1, 2)).mean() for image in seen]
    assert max(around[:8]) < 0.01 < 4 < np.median(around[8:])
    assert all(image[:, 25:35, 25:35].mean() < image[:, :15].mean() for image in seen)
