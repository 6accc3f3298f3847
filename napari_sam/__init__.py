"""The napari plugin: Segment Anything for microscopy volumes.

For napari's console and for scripts:

>>> import napari_sam
>>> mask = napari_sam.segment(image_layer, points_layer)
>>> labels = napari_sam.propagate(image_layer, points_layer)

The state behind the panel of an open viewer, for example to make objects of a layer:

>>> napari_sam.interaction_of(viewer).use_layer(points_layer)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.registry import interaction_of
    from napari_sam.scripts import propagate, segment

_HOME = {"interaction_of": "registry", "propagate": "scripts", "segment": "scripts"}
__all__ = ["interaction_of", "propagate", "segment"]


def __getattr__(name: str) -> Any:  # importing the plugin must not import torch
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"napari_sam.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
