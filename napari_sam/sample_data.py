"""Sample stacks for napari's File > Open Sample."""

from __future__ import annotations

from typing import Any

from src_core.samples import ground_truth, open_sample
from src_core.volumes import Volume

LayerTuple = tuple[Any, dict[str, Any], str]


def plant_nuclei() -> list[LayerTuple]:
    """Return a real stack of plant nuclei, anisotropic, with its true labels hidden."""
    return _layers("plant_nuclei", "plant nuclei")


def drawn_nuclei() -> list[LayerTuple]:
    """Return a drawn stack of nuclei with its true labels hidden."""
    return _layers("drawn_nuclei", "drawn nuclei")


def _layers(sample: str, name: str) -> list[LayerTuple]:
    volume = open_sample(sample)
    truth = {**placement(volume), "name": f"{name}, true labels", "visible": False}
    return [image_layer(volume, name), (ground_truth(sample), truth, "labels")]


def image_layer(volume: Volume, name: str) -> LayerTuple:
    """Return a volume as an image layer, lazily, with its pyramid if it has one."""
    look = {"name": name, "contrast_limits": volume.contrast_limits_of(), "rgb": volume.rgb}
    data = list(volume.arrays) if len(volume.arrays) > 1 else volume.array
    return (data, {**placement(volume), **look}, "image")


def placement(volume: Volume) -> dict[str, Any]:
    """Return the layer arguments that carry a volume's scale, position, units and axis names."""
    axes = volume.axes[:-1] if volume.rgb else volume.axes
    return {
        "scale": [volume.scale[a] for a in axes],
        "translate": [volume.translate[a] for a in axes],
        "units": [volume.units[a] or "pixel" for a in axes],
        "axis_labels": axes,
    }
