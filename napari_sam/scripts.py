"""Functions for napari's console and startup scripts: layers in, labels out, no panel needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from numpy.typing import NDArray

from napari_sam.layer_prompts import prompts_on_plane
from napari_sam.layers import OnScreen, array_of, axes_of, volume_of
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
        The id to write, 1 or more. Where the prompts have a feature `object`, every object gets its own id.

    Returns
    -------
    ndarray
        uint32 label data of the image's shape without colour and channels, ready for `viewer.add_labels`.

    Raises
    ------
    PromptError
        There is no prompt, or one lies outside the image.
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
    found = []
    axes = axes_of(image)
    sliced = [a for a in axes if a not in ("y", "x")]
    named = _named(points, shapes)
    for position in _positions(image, axes, points, shapes, labels):
        where = dict(zip(sliced, position, strict=True))
        plane = PlaneRef("z" if "z" in where else None, where.get("z", 0), where.get("t", 0))
        on_screen = OnScreen(plane, where.get("c", 0), tuple(where.get(a) for a in axes), axes)
        shape = volume.plane_shape(plane.axis)
        embedding = None
        for k in sorted(named) or [identity]:
            chosen = k if k in named else None
            prompts = prompts_on_plane(image, on_screen, shape, points, shapes, labels, chosen)
            if prompts is None:
                continue
            if embedding is None:
                at = {"z": plane.index} if plane.axis else {}
                embedding = predictor.embed(volume.plane(**at, t=plane.t, c=on_screen.channel))
            mask = predictor.predict(embedding, prompts).masks[0]
            index = tuple(where[a] for a in sliced if a != "c")
            found.append((plane, index, k, mask))
    if not found:
        raise PromptError("no prompt lies on the image: add a point, a shape or a painted region to it")
    return found


def _named(points: Points | None, shapes: Shapes | None) -> set[int]:
    return {
        int(v)
        for layer in (points, shapes)
        if layer is not None and "object" in layer.features
        for v in layer.features["object"]
    }


def _positions(
    image: Image, axes: tuple[str, ...], points: Points | None, shapes: Shapes | None, labels: Labels | None
) -> list[tuple[int, ...]]:
    """Return the indices along the axes other than y and x of every plane that has a prompt."""
    sliced = [d for d, a in enumerate(axes) if a not in ("y", "x")]
    if not sliced:
        return [()]
    shape = array_of(image).shape
    positions: set[tuple[int, ...]] = set()
    vertices = [(points, p) for p in points.data] if points is not None else []
    vertices += [(shapes, v) for s in shapes.data for v in s] if shapes is not None else []
    for layer, vertex in vertices:
        data = np.asarray(image.world_to_data(layer.data_to_world(vertex)))
        if len(data) < image.ndim:
            raise PromptError(
                "2-D prompts do not say which slice of a stack they are on; use 3-D points or shapes"
            )
        index = tuple(int(np.rint(data[-image.ndim :][d])) for d in sliced)
        if not all(0 <= i < shape[d] for i, d in zip(index, sliced, strict=True)):
            raise PromptError(
                f"a prompt lies outside the image, at {index} along {[axes[d] for d in sliced]}"
            )
        positions.add(index)
    if labels is not None and labels.ndim == image.ndim:
        painted = np.asarray(labels.data).any(axis=tuple(d for d in range(image.ndim) if d not in sliced))
        positions |= {tuple(int(i) for i in index) for index in np.argwhere(painted)}
    return sorted(positions)
