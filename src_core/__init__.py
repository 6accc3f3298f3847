"""Segment Anything on microscopy volumes, without a window.

>>> import src_core
>>> volume = src_core.open_volume("cells.ome.zarr")
>>> predictor = src_core.Predictor.load("nano")
>>> embedding = predictor.embed(volume.plane(z=50))
>>> found = predictor.predict(embedding, src_core.Prompts(points_yx=[(120, 88)], labels=[1]))
>>> for step in src_core.propagate(predictor, volume, {50: {1: found.masks[0]}}):
...     print(step.index, step.scores)

The same, every plane saved at once and a killed run going on where it was:

>>> clicks = {50: {1: src_core.Prompts(points_yx=[(120, 88)])}}
>>> report = src_core.propagate_to_labels(predictor, volume, clicks, "cells.labels.ome.zarr")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from src_core.automatic import automatic_masks
    from src_core.embedding import Embedding
    from src_core.embeddings import EmbeddingStore
    from src_core.errors import CacheError, CheckpointError, PromptError, SamError, SessionError, VolumeError
    from src_core.labels import LabelVolume
    from src_core.linking import segment_stack
    from src_core.predictor import Predictor
    from src_core.prompts import Prompts
    from src_core.propagation import (
        ObjectReport,
        PropagationSettings,
        PropagationState,
        Report,
        Step,
        anchor_masks,
        propagate,
        propagate_to_labels,
    )
    from src_core.session import ReviewQueue, Session, open_session, replay
    from src_core.types import Candidates
    from src_core.volumes import Plane, Volume, open_volume

__all__ = [
    "CacheError",
    "Candidates",
    "CheckpointError",
    "Embedding",
    "EmbeddingStore",
    "LabelVolume",
    "ObjectReport",
    "Plane",
    "Predictor",
    "PromptError",
    "Prompts",
    "PropagationSettings",
    "PropagationState",
    "Report",
    "ReviewQueue",
    "SamError",
    "Session",
    "SessionError",
    "Step",
    "Volume",
    "VolumeError",
    "anchor_masks",
    "automatic_masks",
    "open_session",
    "open_volume",
    "propagate",
    "propagate_to_labels",
    "replay",
    "segment_stack",
]

_HOME = {
    "CacheError": "errors",
    "Candidates": "types",
    "CheckpointError": "errors",
    "Embedding": "embedding",
    "EmbeddingStore": "embeddings",
    "LabelVolume": "labels",
    "ObjectReport": "propagation",
    "Plane": "volumes",
    "Predictor": "predictor",
    "PromptError": "errors",
    "Prompts": "prompts",
    "PropagationSettings": "propagation",
    "PropagationState": "propagation",
    "Report": "propagation",
    "ReviewQueue": "session",
    "SamError": "errors",
    "Session": "session",
    "SessionError": "errors",
    "Step": "propagation",
    "Volume": "volumes",
    "VolumeError": "errors",
    "anchor_masks": "propagation",
    "automatic_masks": "automatic",
    "open_session": "session",
    "open_volume": "volumes",
    "propagate": "propagation",
    "propagate_to_labels": "propagation",
    "replay": "session",
    "segment_stack": "linking",
}


def __getattr__(name: str) -> Any:  # torch and zarr take seconds to import: only when they are needed
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"src_core.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
