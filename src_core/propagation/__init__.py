"""Masks travel through a stack: each plane's answer is the dense prompt of the next.

From an object's outermost anchors outwards, and between two anchors from both ends, blended by distance.
"""

from src_core.propagation.anchors import Anchors, anchor_masks
from src_core.propagation.fusing import propagate_axes
from src_core.propagation.run import propagate
from src_core.propagation.saving import ObjectReport, Report, propagate_to_labels
from src_core.propagation.settings import PropagationSettings, Step
from src_core.propagation.several_axes import propagate_axes_to_labels
from src_core.propagation.tracks import PropagationState

__all__ = [
    "Anchors",
    "ObjectReport",
    "PropagationSettings",
    "PropagationState",
    "Report",
    "Step",
    "anchor_masks",
    "propagate",
    "propagate_axes",
    "propagate_axes_to_labels",
    "propagate_to_labels",
]
