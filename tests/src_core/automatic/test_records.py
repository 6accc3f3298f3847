"""Records, the label image drawn of them, and which are kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from src_core.automatic import Thresholds, common_contrast, label_image, select, usual_contrast
from src_core.automatic.records import contrast, moved_record, stability
from src_core.errors import PromptError
from tests.src_core.automatic.stub import box, record


def test_the_higher_score_is_seen_where_masks_overlap() -> None:
    low, high = record(box(0, 0, 10, 10), 0.6), record(box(5, 5, 15, 15), 0.8)
    for records, on_top in (([low, high], 2), ([high, low], 1)):
        labels = label_image(records, (40, 60))
        assert labels.dtype == np.uint32 and labels[7, 7] == on_top
        assert np.count_nonzero(labels) == 175


def test_the_first_of_equal_scores_is_seen_and_ids_may_be_large() -> None:
    records = [record(box(0, 0, 10, 10)), record(box(5, 5, 15, 15))]
    labels = label_image(records, (40, 60), [70_000, 4_000_000_000])
    assert labels[7, 7] == 70_000 and labels[12, 12] == 4_000_000_000


def test_a_mask_of_another_plane_is_refused() -> None:
    with pytest.raises(PromptError, match="plane of"):
        label_image([record(box(0, 0, 3, 3))], (10, 10))
    with pytest.raises(PromptError, match="1 masks but 2 ids"):
        label_image([record(box(0, 0, 3, 3))], (40, 60), [1, 2])


def test_stability_is_the_agreement_of_a_strict_and_a_loose_cut() -> None:
    logits = np.full((10, 10), -5, np.float32)
    logits[2:6, 2:6] = 3
    assert stability(logits) == 1.0
    logits[2:6, 6:8] = 0.5
    assert stability(logits) == pytest.approx(16 / 24)
    assert stability(np.full((4, 4), -9, np.float32)) == 0.0


def test_a_record_of_a_crop_moves_to_the_plane() -> None:
    moved = moved_record(record(box(1, 2, 4, 6, (10, 12))), (20, 30), (40, 60))
    assert moved.box == (21, 32, 24, 36) and moved.point_yx == (20.0, 30.0)
    assert np.array_equal(moved.mask.unpack(), box(21, 32, 24, 36))


def test_of_masks_of_one_object_the_best_is_kept() -> None:
    best = record(box(10, 10, 20, 20), 0.9)
    again, inside = record(box(10, 10, 20, 21), 0.8), record(box(12, 12, 16, 16), 0.85)
    around, beside = record(box(5, 5, 25, 25), 0.75), record(box(10, 30, 20, 40), 0.72)
    assert select([beside, again, around, best, inside]) == [best, beside]


def test_masks_that_touch_a_little_are_both_kept() -> None:
    a, b = record(box(10, 10, 20, 20), 0.9), record(box(10, 18, 20, 30), 0.8)
    assert select([a, b]) == [a, b]
    assert select([a, b], Thresholds(max_overlap=0.1)) == [a]


def test_each_threshold_takes_out_what_is_below_it() -> None:
    good = record(box(10, 10, 20, 20))
    for bad in (
        record(box(25, 25, 35, 35), score=0.4),
        record(box(25, 25, 35, 35), stability=0.1),
        record(box(25, 25, 28, 28)),
    ):
        assert select([good, bad]) == [good]
    assert select([record(box(0, 0, 40, 60))]) == [], "the background"
    assert len(select([record(box(0, 0, 40, 60))], Thresholds(max_area=1.0))) == 1


def test_small_holes_are_filled_and_small_pieces_dropped() -> None:
    mask = box(10, 10, 30, 30)
    mask[15:18, 15:18] = False
    mask[2:4, 2:4] = True
    (kept,) = select([record(mask)])
    assert kept.area == 400 and np.array_equal(kept.mask.unpack(), box(10, 10, 30, 30))


def test_a_large_hole_stays() -> None:
    mask = box(10, 10, 30, 30)
    mask[14:26, 14:26] = False
    (kept,) = select([record(mask)])
    assert kept.area == 400 - 144


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_thresholds_outside_their_range_are_refused(value: float) -> None:
    with pytest.raises(PromptError, match="min_score"):
        Thresholds(min_score=value)


def test_ten_thousand_masks_on_a_large_plane_need_no_plane_each() -> None:
    import tracemalloc

    shape = (4096, 4096)
    from src_core.automatic import MaskRecord
    from src_core.masks import PackedMask

    disk = np.hypot(*np.mgrid[-12:13, -12:13]) <= 12
    records = [
        MaskRecord(PackedMask.of(disk, (40 * i, 40 * j), shape), int(disk.sum()), 0.9, 0.9, (0.0, 0.0))
        for i in range(100)
        for j in range(100)
    ]
    tracemalloc.start()
    labels = label_image(select(records), shape)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert labels.max() == 10_000 and peak < 300e6, "two label images and the boxes"


def test_contrast_is_that_of_the_outline_and_a_rim_of_the_plane_is_none() -> None:
    grey = np.where(box(0, 10, 20, 30), 0.75, 0.25).astype(np.float32)
    grey[5:14, 16:24] = 0.0  # deep inside: not at the outline
    assert contrast(grey, record(box(0, 10, 20, 30)).mask) == pytest.approx(0.5)
    assert contrast(1 - grey, record(box(0, 10, 20, 30)).mask) == pytest.approx(-0.5)
    assert contrast(grey, record(box(0, 0, 40, 60)).mask) == 0.0, "all of the plane"


def test_masks_much_fainter_than_the_others_are_dropped() -> None:
    clear = replace(record(box(10, 10, 20, 20)), contrast=0.4)
    other = replace(record(box(10, 30, 20, 40), 0.8), contrast=0.3)
    faint = [replace(record(box(25, x, 35, x + 8)), contrast=0.05) for x in (0, 10, 20)]
    assert select([*faint, clear, other]) == [clear, other]
    assert len(select([*faint, clear, other], Thresholds(min_contrast=0.0))) == 5
    assert select(faint) == faint, "compared with each other"
    assert select(faint, usual=0.4) == [], "compared with the stack"
    assert usual_contrast([*faint, clear, other]) == pytest.approx(0.3) and usual_contrast([]) == 0.0


def test_what_lies_between_bright_objects_is_none_however_clear_its_outline() -> None:
    bright = [replace(record(box(10, x, 20, x + 10)), contrast=0.4) for x in (0, 20, 40)]
    between = replace(record(box(10, 10, 20, 20), 0.95), contrast=-0.35)
    assert select([*bright, between]) == bright
    assert usual_contrast([*bright, between]) > 0
    inverted = [replace(r, contrast=-r.contrast) for r in (*bright, between)]
    assert select(inverted) == inverted[:3]
    assert usual_contrast(inverted) == -usual_contrast([*bright, between])
    assert len(select([*bright, between], Thresholds(min_contrast=0.0))) == 4, "0 keeps all"


def test_the_stack_says_what_is_usual_for_planes_beyond_its_objects() -> None:
    assert common_contrast([]) == 0.0
    assert common_contrast([0.01, -0.02, 0.3, 0.4, -0.05]) == pytest.approx(0.3)
    assert common_contrast([-0.3, -0.4, 0.05]) == pytest.approx(-0.35)
    blur = replace(record(box(10, 10, 20, 20)), contrast=-0.1)
    assert select([blur]) == [blur]
    assert select([blur], usual=0.3) == []
