"""Masks travel through a stack: each plane's answer is the dense prompt of the next.

From an object's outermost anchors outwards, and between two anchors from both ends, blended by distance. What was found
is then looked at again across the slices.
"""

from src_core.propagation.anchors import Anchors, anchor_masks
from src_core.propagation.run import propagate
from src_core.propagation.saving import ObjectReport, Report, propagate_to_labels
from src_core.propagation.settings import PropagationSettings, Step
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
    "propagate_to_labels",
]
