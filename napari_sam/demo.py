"""The window that `napari-sam demo` opens: the sample stack, the panel, and three steps to begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.sample_data import image_layer
from src_core.samples import open_sample

if TYPE_CHECKING:
    import napari

    from napari_sam.widgets.segment import SegmentWidget

HINT = "<b>1.</b> Click on a nucleus. &nbsp;<b>2.</b> W keeps the mask. &nbsp;<b>3.</b> G sends it through the stack."


def build_demo(show: bool = True) -> tuple[napari.Viewer, SegmentWidget]:
    """Return a viewer with the sample stack and the docked panel, ready for the first click."""
    import napari

    from napari_sam.widgets.segment import SegmentWidget

    viewer = napari.Viewer(title="napari-sam", show=show)
    data, arguments, _ = image_layer(open_sample("plant_nuclei"), "plant nuclei")
    viewer.add_image(data, **arguments)
    viewer.dims.set_current_step(0, data.shape[0] // 2)
    panel = SegmentWidget(viewer)
    viewer.window.add_dock_widget(panel, name="Segment", area="right")
    panel.status.setText(HINT)
    return viewer, panel


def open_demo() -> None:
    """Open the demo and run until the window is closed."""
    import napari

    build_demo()
    napari.run()
