"""Simulated users: where they click, and how good the mask is after each click."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage as ndi

from src_core.evaluation.datasets import Sample2D
from src_core.evaluation.metrics import iou_after, number_of_clicks
from src_core.evaluation.segmenters import (
    Answer,
    PredictFunction,
    PredictorLike,
    Segmenter,
    View,
    as_segmenter,
)
from src_core.masks import Mask, bounds, innermost, iou

REPORTED_CLICKS = (1, 3, 5)
THRESHOLDS = (0.85, 0.90)
MAX_CLICKS = 20


class Click(NamedTuple):
    """A click: pixel (y, x); positive is True for "inside the object"."""

    y: int
    x: int
    positive: bool


@dataclass(frozen=True)
class ObjectResult:
    """One object, clicked until it was good enough.

    Attributes
    ----------
    ious
        IoU after each click.
    box_iou
        IoU of the answer to its bounding box alone, or None if not asked.
    score_error
        Mean over the clicks of |predicted IoU - IoU|, or None if the method predicts none.
    seconds_per_click
        Time of one answer, without looking at the image.
    """

    ious: tuple[float, ...]
    box_iou: float | None
    score_error: float | None
    seconds_per_click: float


@dataclass(frozen=True)
class Evaluation2D:
    """Every object's result, and how long looking at each image took (seconds)."""

    objects: tuple[ObjectResult, ...]
    look_seconds: tuple[float, ...]

    def summary(self) -> dict[str, float]:
        """Means over the objects, under their usual names.

        mIoU@k after k clicks; NoC@q clicks to an IoU of q percent (a failure counts as `MAX_CLICKS`), fail@q
        the share that never got there; "score error" is |predicted IoU - IoU|; "ms per click"; "ms per image"
        (the embedding; what a predictor encodes only when a click needs it counts as part of that click).
        """
        if not self.objects:
            return {"objects": 0}
        results = self.objects
        table: dict[str, float] = {"objects": len(results)}
        for k in REPORTED_CLICKS:
            table[f"mIoU@{k}"] = _mean([iou_after(r.ious, k) for r in results])
        boxes = [r.box_iou for r in results if r.box_iou is not None]
        if boxes:
            table["box mIoU"] = _mean(boxes)
        for q in THRESHOLDS:
            table[f"NoC@{100 * q:.0f}"] = _mean([number_of_clicks(r.ious, q, MAX_CLICKS) for r in results])
            table[f"fail@{100 * q:.0f}"] = _mean([max(r.ious) < q for r in results])
        errors = [r.score_error for r in results if r.score_error is not None]
        if errors:
            table["score error"] = _mean(errors)
        table["ms per click"] = 1e3 * _mean([r.seconds_per_click for r in results])
        table["ms per image"] = 1e3 * _mean(self.look_seconds)
        return table


def next_click(truth: Mask, predicted: Mask) -> Click | None:
    """Click into the middle of the largest connected error: positive on a miss, negative on a false alarm.

    Returns
    -------
    Click or None
        None if the masks are equal. At equal size a miss goes first.
    """
    largest, best = 0, None
    for positive, wrong in ((True, truth & ~predicted), (False, predicted & ~truth)):
        regions, n_regions = ndi.label(wrong)
        if not n_regions:
            continue
        areas = np.bincount(regions.ravel())
        areas[0] = 0
        if areas.max() > largest:
            largest, best = areas.max(), (regions == areas.argmax(), positive)
    return None if best is None else Click(*innermost(best[0]), best[1])


def click_object(
    view: View, truth: Mask, max_clicks: int = MAX_CLICKS, with_box: bool = True
) -> ObjectResult:
    """Click on one object of an image until it is good enough.

    Parameters
    ----------
    view
        The image, looked at.
    truth
        (H, W) bool, not empty.
    max_clicks
        Give up after so many. A session ends as soon as the last of `THRESHOLDS` and the last of
        `REPORTED_CLICKS` are both reached, or the mask is perfect.
    with_box
        Also ask for the mask of the bounding box, in a session of its own.
    """
    clicks = [Click(*innermost(truth), True)]
    ious: list[float] = []
    errors: list[float] = []
    seconds = 0.0
    answer: Answer | None = None
    while len(ious) < max_clicks:
        points = np.array([(c.y, c.x) for c in clicks], np.int64)
        labels = np.array([c.positive for c in clicks], np.int64)
        start = time.perf_counter()
        answer = view.ask(points, labels, None, answer)
        seconds += time.perf_counter() - start
        ious.append(iou(answer.mask, truth))
        if answer.score is not None:
            errors.append(abs(answer.score - ious[-1]))
        following = next_click(truth, answer.mask)
        if following is None or (len(ious) >= max(REPORTED_CLICKS) and max(ious) >= max(THRESHOLDS)):
            break
        clicks.append(following)
    box_iou = None
    if with_box:
        nothing = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
        box_iou = iou(view.ask(*nothing, bounds(truth), None).mask, truth)
    return ObjectResult(tuple(ious), box_iou, _mean(errors) if errors else None, seconds / len(ious))


def evaluate_2d(
    method: Segmenter | PredictorLike | PredictFunction,
    samples: Iterable[Sample2D],
    max_clicks: int = MAX_CLICKS,
    with_box: bool = True,
) -> Evaluation2D:
    """Click on every object of every sample; each image is looked at once.

    Parameters
    ----------
    method
        A predictor, a `Segmenter`, or a plain function with the signature of `PredictFunction`.
    samples
        As from `datasets.subset_2d`.
    max_clicks, with_box
        As in `click_object`.
    """
    segmenter = as_segmenter(method)
    objects: list[ObjectResult] = []
    look_seconds: list[float] = []
    for sample in samples:
        if not sample.ids:
            continue
        start = time.perf_counter()
        view = segmenter.look(sample.image)
        look_seconds.append(time.perf_counter() - start)
        objects += [click_object(view, sample.truth(k), max_clicks, with_box) for k in sample.ids]
    return Evaluation2D(tuple(objects), tuple(look_seconds))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
