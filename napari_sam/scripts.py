"""Functions for napari's console and startup scripts: layers in, labels out, no panel needed."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from numpy.typing import NDArray

from napari_sam.layer_objects import Frame, Said, collect
from napari_sam.layer_prompts import checked, ids_of
from napari_sam.layers import OnScreen, axes_of, volume_of
from src_core.errors import PromptError, VolumeError
from src_core.predictor import Predictor
from src_core.propagation import PropagationSettings
from src_core.propagation import propagate as propagate_masks
from src_core.types import PlaneRef

if TYPE_CHECKING:
    from src_core.volumes import Volume

__all__ = ["propagate", "segment"]


def segment(
    image: Image,
    points: Points | None = None,
    shapes: Shapes | None = None,
    labels: Labels | None = None,
    *,
    model: str | Path | Predictor = "nano",
    identity: int = 1,
) -> NDArray[np.uint32]:
    """Segment every slice that the prompt layers speak about, each on its own.

    Parameters
    ----------
    image
        The image layer, 2-D or a stack.
    points
        Points inside the object; those whose feature `label` is "negative" are outside.
    shapes
        Rectangles are boxes, ellipses and polygons are rough masks, paths and lines are points along them.
    labels
        A rough mask, painted.
    model
        A model's name, a checkpoint's path, or a loaded predictor.
    identity
        The id to write, 1 or more, for points and shapes that name no object. Those with a feature `object` get
        the id it holds.

    Returns
    -------
    ndarray
        uint32 label data of the image's shape without colour and channels, ready for `viewer.add_labels`.

    Raises
    ------
    PromptError
        There is no prompt, one lies outside the image or across slices, or an object's id is no whole number.
    VolumeError
        The image cannot be used.
    """
    volume, predictor = volume_of(image), _predictor(model)
    out = _empty(volume)
    for _, index, k, mask in _anchors(image, volume, predictor, points, shapes, labels, identity):
        out[index][mask] = k
    return out


def propagate(
    image: Image,
    points: Points | None = None,
    shapes: Shapes | None = None,
    labels: Labels | None = None,
    *,
    model: str | Path | Predictor = "nano",
    identity: int = 1,
    settings: PropagationSettings | None = None,
) -> NDArray[np.uint32]:
    """Segment the prompted slices as `segment` does and carry the masks through the stack along z.

    Same parameters, result and errors as `segment`; the label data is filled slice by slice.
    """
    volume, predictor = volume_of(image), _predictor(model)
    if "z" not in volume.axes:
        raise VolumeError("a single image has no slices to propagate to")
    out = _empty(volume)
    anchors: dict[int, dict[int, dict[int, NDArray[np.bool_]]]] = {}
    for plane, _, k, mask in _anchors(image, volume, predictor, points, shapes, labels, identity):
        anchors.setdefault(plane.t, {}).setdefault(plane.index, {})[k] = mask
    for t, on_time in anchors.items():
        for step in propagate_masks(predictor, volume, on_time, t=t, settings=settings):
            plane_labels = out[t, step.index] if "t" in volume.axes else out[step.index]
            for k, mask in step.masks.items():
                plane_labels[mask] = k
    return out


def _predictor(model: str | Path | Predictor) -> Predictor:
    return model if isinstance(model, Predictor) else Predictor.load(model)


def _empty(volume: Volume) -> NDArray[np.uint32]:
    return np.zeros([volume.sizes[a] for a in volume.axes if a != "c"], np.uint32)


def _anchors(
    image: Image,
    volume: Volume,
    predictor: Predictor,
    points: Points | None,
    shapes: Shapes | None,
    labels: Labels | None,
    identity: int,
) -> list[tuple[PlaneRef, tuple[int, ...], int, NDArray[np.bool_]]]:
    """Return plane, index into the labels, id and mask for every prompted plane and object."""
    axes = axes_of(image)
    start = OnScreen.at(tuple(None if a in ("y", "x") else 0 for a in axes), axes)
    frame = Frame(image, start, everywhere=True)
    said = _said(frame, points, shapes, labels, identity)
    found = []
    in_order = sorted(said.parts, key=lambda k: (_index(k[0]), k[0].channel, k[1]))
    for on_screen, group in groupby(in_order, key=lambda k: k[0]):
        plane = on_screen.plane
        embedding = predictor.embed(volume.plane_at(plane, on_screen.channel))
        for _, key in group:
            prompts = checked(said.parts[on_screen, key].prompts(frame.shape))
            mask = predictor.predict(embedding, prompts).masks[0]
            found.append((plane, _index(on_screen), said.numbers[key] or identity, mask))
    if not found:
        raise PromptError("no prompt lies on the image: add a point, a shape or a painted region to it")
    return found


def _index(on_screen: OnScreen) -> tuple[int, ...]:
    """Return where a plane is in the labels, which have no channels."""
    return tuple(
        p for a, p in zip(on_screen.axes, on_screen.position, strict=True) if p is not None and a != "c"
    )


def _said(
    frame: Frame, points: Points | None, shapes: Shapes | None, labels: Labels | None, identity: int
) -> Said:
    """Return what the layers say together: what names no object speaks about `identity`."""
    said = Said()
    for layer in (points, shapes):
        if layer is None or not len(layer.data):
            continue
        if layer.ndim < frame.image.ndim:
            raise PromptError(
                "2-D prompts do not say which slice of a stack they are on; use 3-D points or shapes"
            )
        collect(frame, layer, said, together=identity)
    if said.skipped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in said.skipped.items())
        raise PromptError(f"points or shapes that cannot be used: {reasons}; move or remove them")
    largest = np.iinfo(np.uint32).max
    if wrong := [k for k in said.numbers if not isinstance(k, int) or not 1 <= k <= largest]:
        raise PromptError(
            f"the feature `object` must hold whole numbers from 1 to {largest}, got {wrong[:5]}"
        )
    if labels is not None:
        _add_painted(frame, labels, said, identity)
    return said


def _add_painted(frame: Frame, labels: Labels, said: Said, identity: int) -> None:
    """Add painted regions: those of objects that are named elsewhere, else all of it as one object."""
    ids_on = ids_of(frame.image, frame.on_screen, labels, frame.shape)
    named = [k for k in said.numbers if isinstance(k, int) and k != identity]
    planes = {plane for plane, _ in said.parts}
    if labels.ndim == frame.image.ndim:
        planes |= set(frame.planes())
    for plane in planes:
        ids = ids_on(plane)
        for k in [identity, *named]:
            mask = ids == k if named else ids > 0
            if mask.any():
                said.of(plane, k).masks.append(mask)
