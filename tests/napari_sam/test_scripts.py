"""Layers in, labels out, without a panel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from napari.layers import Image, Labels, Points, Shapes

from napari_sam import propagate, segment
from src_core.errors import PromptError, VolumeError
from tests.napari_sam.fakes import Threshold, balls

BRIGHT = balls() > 100
LEFT = BRIGHT & (np.indices(BRIGHT.shape)[2] < 32)
RIGHT = BRIGHT & ~LEFT


def _segment(image: Any, *layers: Any, **arguments: Any) -> np.ndarray:
    return segment(image, *layers, model=Threshold(), **arguments)


def test_nameless_prompts_of_all_layers_are_one_object() -> None:
    points = Points(np.array([[6.0, 16, 16]]))
    shapes = Shapes(
        [np.array([[6.0, 30, 44], [6, 30, 48]]), np.array([[4.0, 16, 14], [4, 16, 18]])], shape_type="line"
    )
    found = _segment(Image(balls()), points, shapes, identity=7)
    assert np.array_equal(found[6] == 7, BRIGHT[6]) and np.array_equal(found[4] == 7, LEFT[4])
    assert not found[[0, 1, 2, 3, 5, 7]].any() and found.dtype == np.uint32


def test_named_points_are_objects_and_travel_together() -> None:
    features = pd.DataFrame({"object": [3, 5, 3], "label": ["positive", "positive", "negative"]})
    points = Points(np.array([[6.0, 16, 16], [5, 30, 46], [6, 2, 2]]), features=features)
    found = propagate(Image(balls()), points, model=Threshold())
    assert np.array_equal(found == 3, LEFT) and np.array_equal(found == 5, RIGHT)


def test_painted_regions_with_and_without_names() -> None:
    painted = np.zeros(BRIGHT.shape, int)
    painted[6, 15:18, 15:18] = 2
    found = _segment(Image(balls()), labels=Labels(painted), identity=4)
    assert np.array_equal(found == 4, LEFT & (np.indices(LEFT.shape)[0] == 6))
    points = Points(np.array([[5.0, 30, 46]]), features={"object": [2]})
    named = _segment(Image(balls()), points, labels=Labels(painted))
    assert np.array_equal(named[6] == 2, LEFT[6]) and np.array_equal(named[5] == 2, RIGHT[5])


def test_every_time_point_and_a_scaled_layer() -> None:
    image = Image(np.stack([balls(), balls()]), scale=(1, 2, 1, 1))
    points = Points(np.array([[0.0, 12, 16, 16], [1, 10, 30, 46]]))
    found = _segment(image, points)
    assert np.array_equal(found[0, 6] == 1, LEFT[6]) and np.array_equal(found[1, 5] == 1, RIGHT[5])
    assert np.count_nonzero(found) == LEFT[6].sum() + RIGHT[5].sum()


@pytest.mark.parametrize(
    "layers, message",
    [
        ({}, "no prompt lies on the image"),
        ({"points": Points(ndim=3), "shapes": Shapes(ndim=3)}, "no prompt lies on the image"),
        ({"points": Points(np.array([[6.0, 90, 5], [40, 1, 1], [6, 1, 1]]))}, "2 outside the image"),
        ({"points": Points(np.array([[16.0, 16]]))}, "2-D prompts do not say which slice"),
        ({"points": Points(np.array([[6.0, 16, 16]]), features={"object": ["a"]})}, "whole numbers from 1"),
        ({"points": Points(np.array([[6.0, 16, 16]]), features={"object": [0]})}, "whole numbers from 1"),
        ({"points": Points(np.array([[6.0, 16, 16]]), features={"label": ["negative"]})}, "where the object is"),
        (
            {"shapes": Shapes([np.array([[2.0, 5, 5], [6, 9, 9]])], shape_type="line")},
            "1 not on one slice",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(layers: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        _segment(Image(balls()), **layers)


def test_a_single_image_has_nothing_to_propagate_to() -> None:
    with pytest.raises(VolumeError, match="no slices"):
        propagate(Image(balls()[6]), Points(np.array([[16.0, 16]])), model=Threshold())
