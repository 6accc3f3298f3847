"""Segment Anything on microscopy volumes, without a window.

>>> import src_core
>>> volume = src_core.open_volume("cells.ome.zarr")
>>> predictor = src_core.Predictor.load("nano")
>>> embedding = predictor.embed(volume.plane(z=50))
>>> found = predictor.predict(embedding, src_core.Prompts(points_yx=[(120, 88)], labels=[1]))
>>> for step in src_core.propagate(predictor, volume, {50: {1: found.masks[0]}}):
...     print(step.index, step.scores)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from src_core.errors import CacheError, CheckpointError, PromptError, SamError, SessionError, VolumeError
    from src_core.labels import LabelVolume
    from src_core.predictor import Embedding, Predictor
    from src_core.prompts import Prompts
    from src_core.propagation import PropagationSettings, Step, propagate
    from src_core.types import Candidates
    from src_core.volumes import Plane, Volume, open_volume

__all__ = [
    "CacheError",
    "Candidates",
    "CheckpointError",
    "Embedding",
    "LabelVolume",
    "Plane",
    "Predictor",
    "PromptError",
    "Prompts",
    "PropagationSettings",
    "SamError",
    "SessionError",
    "Step",
    "Volume",
    "VolumeError",
    "open_volume",
    "propagate",
]

_HOME = {
    "CacheError": "errors",
    "Candidates": "types",
    "CheckpointError": "errors",
    "Embedding": "predictor",
    "LabelVolume": "labels",
    "Plane": "volumes",
    "Predictor": "predictor",
    "PromptError": "errors",
    "Prompts": "prompts",
    "PropagationSettings": "propagation",
    "SamError": "errors",
    "SessionError": "errors",
    "Step": "propagation",
    "Volume": "volumes",
    "VolumeError": "errors",
    "open_volume": "volumes",
    "propagate": "propagation",
}


def __getattr__(name: str) -> Any:  # torch and zarr take seconds to import: only when they are needed
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"src_core.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
