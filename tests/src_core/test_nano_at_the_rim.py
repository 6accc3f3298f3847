"""nano on planes whose sides do not suit it: objects that the rim cuts keep their ends."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from src_core.masks import bounds, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.synthetic import make_stack

SIDE = 100


def _cut_by_the_far_rim() -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Return planes of SIDE x SIDE and objects that touch their last row or column."""
    found = []
    for seed in range(9_000_000, 9_000_018):
        stack = make_stack(seed, (3, 160, 160), "nuclei", radius_px=12)
        if stack.image.ndim == 3:
            image, labels = stack.image[1, :SIDE, :SIDE], stack.labels[1, :SIDE, :SIDE]
            rim = np.unique(np.concatenate([labels[-1], labels[:, -1]]))
            found += [(image, labels == n) for n in rim if n and np.count_nonzero(labels == n) > 80]
    return found


def test_the_far_rim_of_a_plane_is_like_the_near_one() -> None:
    predictor = Predictor.load("nano")
    far, near = [], []
    for image, truth in _cut_by_the_far_rim():
        for scores, (plane, mask) in ((far, (image, truth)), (near, (image[::-1, ::-1], truth[::-1, ::-1]))):
            box = Prompts(box_yxyx=bounds(mask))
            found = predictor.predict(predictor.embed(np.ascontiguousarray(plane)), box, multimask=False)
            scores.append(iou(found.masks[0], mask))
    assert len(far) >= 20
    assert np.mean(far) == pytest.approx(np.mean(near), abs=0.02)
