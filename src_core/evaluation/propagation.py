"""How far and how well a mask travels from one slice of an object through the volume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from src_core.evaluation.datasets import Sample3D
from src_core.evaluation.metrics import iou_to_dice
from src_core.evaluation.segmenters import PredictFunction, PredictorLike, Segmenter, as_segmenter
from src_core.masks import Mask, innermost, iou

if TYPE_CHECKING:
    from src_core.predictor import Predictor

PropagateFunction = Callable[[NDArray[Any], int, Mask], Any]
"""propagate(volume (Z, Y, X[, C]), z0, mask (Y, X)) -> bool masks (Z, Y, X)."""


@dataclass(frozen=True)
class VolumeResult:
    """One object, propagated from one slice.

    Attributes
    ----------
    start_iou
        IoU of the mask it started from.
    iou, dice
        Without the start slice.
    iou_all, dice_all
        With it.
    low, high
        Slices that the result goes beyond the object at its low and high end; negative if it ends too early.
    n_slices
        How many slices the object is on.
    seconds
        Time of the propagation.
    z0
        The start slice.
    """

    start_iou: float
    iou: float
    dice: float
    iou_all: float
    dice_all: float
    low: int
    high: int
    n_slices: int
    seconds: float
    z0: int


@dataclass(frozen=True)
class Evaluation3D:
    """Every object's result."""

    objects: tuple[VolumeResult, ...]

    def summary(self) -> dict[str, float]:
        """Means over the objects; over, under (slices) and "ends within 1" are means over both ends."""
        if not self.objects:
            return {"objects": 0}
        results = self.objects
        ends = np.array([(r.low, r.high) for r in results])
        return {
            "objects": len(results),
            "start IoU": float(np.mean([r.start_iou for r in results])),
            "IoU": float(np.mean([r.iou for r in results])),
            "Dice": float(np.mean([r.dice for r in results])),
            "Dice with start": float(np.mean([r.dice_all for r in results])),
            "over": float(np.mean(np.maximum(ends, 0))),
            "under": float(np.mean(-np.minimum(ends, 0))),
            "ends within 1": float(np.mean(np.abs(ends) <= 1)),
            "seconds": float(np.mean([r.seconds for r in results])),
        }


def middle_slice(truth: Mask) -> int:
    """Of the slices that a non-empty object (Z, Y, X) is on, the one nearest the middle of its extent."""
    slices = np.nonzero(truth.any((1, 2)))[0]
    return int(slices[np.abs(slices - (slices[0] + slices[-1]) / 2).argmin()])


def propagate_object(
    propagate: PropagateFunction,
    volume: NDArray[Any],
    truth: Mask,
    segmenter: Segmenter | None = None,
    z0: int | None = None,
) -> VolumeResult:
    """Propagate one object and compare.

    Parameters
    ----------
    propagate
        What is measured.
    volume
        (Z, Y, X) or (Z, Y, X, C).
    truth
        (Z, Y, X) bool, not empty.
    segmenter
        Start from its answer to one click; None to start from the true mask.
    z0
        The start slice, `middle_slice` if None.
    """
    z0 = middle_slice(truth) if z0 is None else z0
    start = truth[z0]
    if segmenter is not None:
        points = np.array([innermost(truth[z0])], np.int64)
        start = segmenter.look(volume[z0]).ask(points, np.ones(1, np.int64), None, None).mask
    clock = time.perf_counter()
    found = np.asarray(propagate(volume, z0, start), np.bool_)
    seconds = time.perf_counter() - clock
    true_z = np.nonzero(truth.any((1, 2)))[0]
    found_z = np.nonzero(found.any((1, 2)))[0]
    # Nothing found counts as a run that ended on the start slice.
    first, last = (found_z[0], found_z[-1]) if len(found_z) else (z0, z0)
    rest = np.arange(len(volume)) != z0
    without, full = iou(found[rest], truth[rest]), iou(found, truth)
    return VolumeResult(
        start_iou=iou(start, truth[z0]),
        iou=without,
        dice=iou_to_dice(without),
        iou_all=full,
        dice_all=iou_to_dice(full),
        low=int(true_z[0] - first),
        high=int(last - true_z[-1]),
        n_slices=len(true_z),
        seconds=seconds,
        z0=z0,
    )


def evaluate_3d(
    method: PredictorLike | PropagateFunction,
    samples: Iterable[Sample3D],
    start: Segmenter | PredictorLike | PredictFunction | None = None,
    z0: int | None = None,
) -> Evaluation3D:
    """Propagate every object.

    Parameters
    ----------
    method
        A predictor, used with `src_core.propagation.propagate`, which is told the size of voxels; or a function of
        the signature `PropagateFunction`.
    samples
        As from `datasets.objects_3d`.
    start
        Start from its answer to one click; None to start from the true mask.
    z0
        Start slice of every object; None for each one's middle.
    """
    segmenter = None if start is None else as_segmenter(start)
    results = []
    for s in samples:
        propagate = propagation_of(method, scale=s.scale) if isinstance(method, PredictorLike) else method
        results.append(propagate_object(propagate, s.volume, s.truth, segmenter, z0))
    return Evaluation3D(tuple(results))


def propagation_of(
    predictor: PredictorLike, scale: dict[str, float] | None = None, **options: Any
) -> PropagateFunction:
    """Make `src_core.propagation.propagate` with this predictor a `PropagateFunction`.

    Parameters
    ----------
    predictor
        The predictor.
    scale
        Size of a voxel along every axis in micrometers, if it is known.
    **options
        Handed on.
    """

    def run(volume: NDArray[Any], z0: int, mask: Mask) -> Mask:
        from src_core.propagation import propagate
        from src_core.volumes import open_volume

        found = np.zeros(volume.shape[:3], np.bool_)
        found[z0] = mask
        if not found.any():  # the answer to the click was empty: that goes nowhere
            return found
        units = None if scale is None else "micrometer"
        opened = open_volume(volume, axes="zyx" if volume.ndim == 3 else None, scale=scale, units=units)
        for step in propagate(cast("Predictor", predictor), opened, {z0: {1: mask}}, **options):
            if 1 in step.masks and step.index != z0:
                found[step.index] = step.masks[1]
        return found

    return run
