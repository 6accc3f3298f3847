"""The slider for a range of slices."""

from __future__ import annotations

from magicgui.widgets import RangeSlider
from superqt import QLabeledRangeSlider


def slice_span(tooltip: str) -> RangeSlider:
    """Return a slider for the first and the last slice."""
    span = RangeSlider(label="slices", min=0, max=1, value=(0, 1), tooltip=tooltip)
    # The numbers at the handles say the same, and those at the ends are cut off in a narrow panel.
    span.native.setEdgeLabelMode(QLabeledRangeSlider.EdgeLabelMode.NoLabel)
    return span
