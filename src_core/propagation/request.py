"""What a run is asked for: checked, written down, and compared with what an unfinished run was asked for."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from src_core.errors import PromptError, SessionError, VolumeError
from src_core.labels.files import check_new, is_label_group
from src_core.labels.planes import checked_id
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.propagation.anchors import PromptsByPlane
from src_core.propagation.settings import PropagationSettings
from src_core.propagation.store import RunStore
from src_core.volumes import Volume
from src_core.volumes.fingerprint import data_fingerprint
from src_core.zoo.checkpoint import fingerprint


def plain_prompts(prompts: PromptsByPlane) -> dict[int, dict[int, Prompts]]:
    """Give indices and ids as Python integers, checked, as JSON and the labels need them."""
    if not isinstance(prompts, Mapping) or not all(isinstance(m, Mapping) for m in prompts.values()):
        raise PromptError("prompts map a plane's index to objects: {50: {1: Prompts(...)}}")
    dtype = np.dtype(np.uint32)
    return {
        operator.index(index): {checked_id(k, dtype): p for k, p in asked.items()}
        for index, asked in prompts.items()
    }


def checked_prompts(
    volume: Volume, prompts: PromptsByPlane, axis: str, start: int | None, stop: int | None
) -> int:
    """Return the number of planes along `axis`; raise unless there are prompts and all lie in the range."""
    if len(volume.spatial_axes) == 2:
        raise VolumeError(
            f"{volume.name} is a 2-D image without slices to propagate through; segment it instead"
        )
    planes = volume.planes(axis, start, stop)
    if not any(prompts.values()):
        raise PromptError("no prompt: give at least one point or box")
    for index in prompts:
        if index not in planes:
            raise PromptError(
                f"a prompt lies on {axis}={index}, outside the planes {planes[0]} to {planes[-1]}"
            )
    return volume.n_planes(axis)


PROMPTED = "image content on the planes with prompts"
"""In a request: all of these planes, of which the fingerprint of the image may show nothing."""


def described(predictor: Predictor, volume: Volume, c: int | None) -> dict[str, Any]:
    """Return what a run's answers depend on, as JSON: the image's identity, its contrast, and the network."""
    return {
        "image": str(volume.path.resolve()) if volume.path is not None else volume.name,
        "image shape": [list(volume.axes), list(volume.shape), str(volume.dtype)],
        "image content": data_fingerprint(volume),
        "contrast": list(volume.contrast_limits_of(c)),
        "model": [fingerprint(predictor.model), predictor.model.device.type],
    }


def known_scale(volume: Volume) -> list[float] | None:
    """Return the size of a voxel along z, y and x, None where it is not known: planes across the slices need it."""
    return [volume.scale[a] for a in volume.spatial_axes] if volume.is_scaled else None


def request_of(
    predictor: Predictor,
    volume: Volume,
    prompts: PromptsByPlane,
    axis: str,
    start: int | None,
    stop: int | None,
    t: int,
    c: int | None,
    settings: PropagationSettings,
) -> dict[str, Any]:
    """Describe everything that decides the result, as JSON."""
    pixels = xxhash.xxh128()
    asked: list[Any] = []
    for index, by_object in sorted(prompts.items()):
        pixels.update(np.ascontiguousarray(volume.plane(**{axis: index}, t=t, c=c).pixels).tobytes())
        for k, p in by_object.items():
            box = None if p.box_yxyx is None else list(p.box_yxyx)
            asked.append([index, k, p.points_yx.tolist(), p.labels.tolist(), box, _digest(p)])
    return {
        **described(predictor, volume, c),
        PROMPTED: pixels.hexdigest(),
        "prompts": asked,
        "planes": [axis, start, stop, t, c],
        "scale": known_scale(volume),
        "settings": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items()},
    }


def _digest(prompt: Prompts) -> list[Any] | None:
    if prompt.mask is None:
        return None
    window = None if prompt.mask_window is None else list(prompt.mask_window)
    return [xxhash.xxh128(prompt.mask.tobytes()).hexdigest(), list(prompt.mask.shape), window]


def may_write(out: Path, store: RunStore, request: dict[str, Any], overwrite: bool) -> bool:
    """Return whether `out` is this run's own unfinished output; raise `SessionError` if it is another's."""
    unfinished = store.request()
    if unfinished is not None and is_label_group(out):
        if unfinished == request:
            return not overwrite or store.is_sound()
        if not overwrite:
            differ = [k for k in request if unfinished.get(k) != request[k]]
            if "prompts" in differ:  # then other planes were looked at
                differ = [k for k in differ if k != PROMPTED]
            other = ", ".join(differ)
            raise SessionError(
                f"{out} holds an unfinished run with another {other}: give the same again to finish it, "
                "overwrite it (--overwrite), or choose another path"
            )
    else:
        check_new(out, overwrite=overwrite)
    return False
