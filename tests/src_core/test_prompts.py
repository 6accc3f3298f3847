"""Prompts: what is accepted, what is refused and with which words, and that nothing changes afterwards."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from src_core.errors import PromptError, SamError
from src_core.prompts import Prompts


def test_points_are_inside_by_default() -> None:
    prompts = Prompts([(1, 2), (3.5, 4)])
    assert prompts.labels.tolist() == [1, 1]
    assert prompts.points_yx.dtype == np.float32
    assert prompts.points_yx.tolist() == [[1, 2], [3.5, 4]]
    assert (prompts.box_yxyx, prompts.mask, prompts.mask_window) == (None, None, None)


def test_a_box_or_a_mask_alone_is_a_prompt() -> None:
    assert Prompts(box_yxyx=np.array([1, 2, 3, 4])).box_yxyx == (1, 2, 3, 4)
    mask = Prompts(mask=[[0, 3], [-1, 1]]).mask
    assert mask is not None
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, True], [False, True]]
    assert len(Prompts(box_yxyx=(0, 0, 1, 1)).points_yx) == 0


def test_floats_of_zeros_and_ones_are_a_mask() -> None:
    for floats in ([[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0]], [[0.0, -0.0]]):
        mask = Prompts(mask=np.array(floats, np.float32)).mask
        assert mask is not None
        assert mask.dtype == np.bool_
        assert np.array_equal(mask, np.array(floats) == 1)
    logits = Prompts(mask=np.ones((2, 2)), mask_window=(0, 0, 4, 4)).mask
    assert logits is not None
    assert logits.dtype == np.float32
    assert Prompts(mask=np.full((2, 2), 0.5), mask_window=(0, 0, 4, 4)).mask is not None


def test_other_float_masks_are_logits_and_stay_floats() -> None:
    logits = np.array([[-2.5, 1.25]], np.float64)
    mask = Prompts(mask=logits, mask_window=(0, 0, 4, 8)).mask
    assert mask is not None
    assert mask.dtype == np.float32
    assert mask.tolist() == logits.tolist()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "no prompt"),
        ({"points_yx": []}, "no prompt"),
        ({"points_yx": np.zeros((0, 2)), "labels": []}, "no prompt"),
        ({"mask_window": (0, 0, 4, 4)}, "no prompt"),
        ({"points_yx": [1, 2]}, r"shape \(N, 2\)"),
        ({"points_yx": [(1, 2, 3)]}, r"\(1, 3\)"),
        ({"points_yx": [[(1, 2)]]}, r"\(1, 1, 2\)"),
        ({"points_yx": [(1, 2), (3,)]}, "numbers"),
        ({"points_yx": "here"}, "numbers"),
        ({"points_yx": [("a", "b")]}, "numbers"),
        ({"points_yx": [(1, float("nan"))]}, "not finite"),
        ({"points_yx": [(1, float("inf"))]}, "not finite"),
        ({"points_yx": [(1, 1e300)]}, "not finite"),
        ({"points_yx": [(1, 2)], "labels": [2]}, "inside"),
        ({"points_yx": [(1, 2)], "labels": [-1]}, "inside"),
        ({"points_yx": [(1, 2)], "labels": [0.5]}, "inside"),
        ({"points_yx": [(1, 2)], "labels": [float("nan")]}, "inside"),
        ({"points_yx": [(1, 2)], "labels": ["yes"]}, "inside"),
        ({"points_yx": [(1, 2)], "labels": [None]}, "inside"),
        ({"points_yx": [(1, 2), (3, 4)], "labels": [1, "yes"]}, "inside"),
        ({"points_yx": [(1, 2), (3, 4)], "labels": [None, 7]}, "inside"),
        ({"points_yx": [(1, 2)], "labels": [1, 0]}, "1 points but 2 labels"),
        ({"points_yx": [(1, 2)], "labels": []}, "1 points but 0 labels"),
        ({"points_yx": [(1, 2)], "labels": [[1], [1, 0]]}, "label"),
        ({"labels": [1], "box_yxyx": (0, 0, 1, 1)}, "0 points but 1 labels"),
        ({"box_yxyx": (5, 5, 4, 8)}, "no area"),
        ({"box_yxyx": (5, 5, 8, 5)}, "no area"),
        ({"box_yxyx": (1, 2, 3)}, "four numbers"),
        ({"box_yxyx": "box!"}, "four numbers"),
        ({"box_yxyx": 7}, "four numbers"),
        ({"box_yxyx": (0, 0, float("nan"), 1)}, "not finite"),
        ({"box_yxyx": (0, 0, float("inf"), 1)}, "not finite"),
        ({"mask": np.ones(4, bool)}, r"\(4,\)"),
        ({"mask": np.ones((1, 4, 4), bool)}, r"\(1, 4, 4\)"),
        ({"mask": np.ones((0, 4), bool)}, r"\(0, 4\)"),
        ({"mask": np.full((2, 2), np.nan)}, "not finite"),
        ({"mask": np.full((2, 2), 1e300)}, "not finite"),
        ({"mask": np.full((2, 2), 1j)}, "complex"),
        ({"mask": np.array([[0.0, 0.3], [1.0, 1.0]])}, "fractions"),
        ({"mask": [["a", "b"]]}, "dtype"),
        ({"mask": [[1], [1, 2]]}, "mask"),
        ({"mask": np.zeros((4, 4)), "mask_window": (0, 0, 0, 4)}, "mask_window"),
        ({"mask": np.zeros((4, 4)), "mask_window": (0, 0, 4)}, "mask_window"),
    ],
    ids=lambda value: repr(value).replace("\n", "")[:50],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(PromptError, match=says):
        Prompts(**given)


def test_the_error_is_both_the_librarys_and_a_value_error() -> None:
    with pytest.raises(SamError):
        Prompts()
    with pytest.raises(ValueError, match="no prompt"):
        Prompts()


@pytest.mark.parametrize("point", [(-0.5, -0.5), (0, 0), (9.5, 19.5), (9.49, 0)])
def test_points_on_the_plane_fit(point: tuple[float, float]) -> None:
    Prompts([point]).check_inside((10, 20))


@pytest.mark.parametrize("point", [(-0.51, 0), (0, -1), (9.6, 0), (0, 19.6), (15, 5)])
def test_points_beside_the_plane_are_refused(point: tuple[float, float]) -> None:
    with pytest.raises(PromptError, match="outside the plane of 10 x 20"):
        Prompts([(1, 1), point]).check_inside((10, 20))


@pytest.mark.parametrize(
    ("box", "fits"), [((-3, -3, 1, 1), True), ((9, 19, 50, 50), True), ((-3, 0, 0, 4), False)]
)
def test_a_box_must_touch_the_plane(box: tuple[float, float, float, float], fits: bool) -> None:
    prompts = Prompts(box_yxyx=box)
    if fits:
        prompts.check_inside((10, 20))
        return
    with pytest.raises(PromptError, match="box"):
        prompts.check_inside((10, 20))


def test_bool_masks_must_have_the_planes_shape_and_logits_need_not() -> None:
    with pytest.raises(PromptError, match=r"\(4, 4\).*\(10, 20\)"):
        Prompts(mask=np.ones((4, 4), bool)).check_inside((10, 20))
    with pytest.raises(PromptError, match=r"\(4, 4\).*\(10, 20\)"):
        Prompts(mask=np.ones((4, 4), np.float32)).check_inside((10, 20))
    Prompts(mask=np.full((4, 4), -3.0)).check_inside((10, 20))


def test_nothing_can_be_changed_afterwards_from_either_side() -> None:
    points, mask = np.array([[1.0, 2.0]], np.float32), np.ones((3, 3), bool)
    prompts = Prompts(points, [1], mask=mask)
    points[:], mask[:] = 9, False
    assert prompts.points_yx.tolist() == [[1, 2]]
    assert prompts.mask is not None
    assert prompts.mask.all()
    for array in (prompts.points_yx, prompts.labels, prompts.mask):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        prompts.labels = np.zeros(1, np.int64)  # type: ignore[misc]
