"""One image being labelled: its session and the layers to click, draw and paint in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Labels, Layer

from napari_sam import storage
from napari_sam.layers import OnScreen, on_plane, plane_on_screen, volume_of
from napari_sam.painting import Refused
from napari_sam.prompt_layers import (
    LABELS,
    Preview,
    boxes_layer,
    placed_like,
    points_layer,
    size_points,
    style_points,
    style_shapes,
)
from src_core.errors import VolumeError
from src_core.masks import Mask
from src_core.session import Session
from src_core.types import PlaneRef

if TYPE_CHECKING:
    import napari


class Scene:
    """Made when the user chooses an image, closed when another is chosen or the image goes.

    Parameters
    ----------
    viewer, image
        Where to work and on what.
    session
        Objects and labels of the image.
    """

    def __init__(self, viewer: napari.Viewer, image: Image, session: Session) -> None:
        self.viewer, self.image, self.session = viewer, image, session
        self.labels = self._labels_layer()
        self.preview = Preview(viewer, image)
        self.boxes = boxes_layer(viewer, image)
        self.points = points_layer(viewer, image)
        self.points.mode = "add"
        viewer.layers.selection.active = self.points
        self.quiet = False
        """While True, changes of the layers are ours and mean nothing."""
        self._cleanups: list[Callable[[], None]] = []

    def _labels_layer(self) -> Labels:
        """Return a layer of the labels: the one that an earlier panel left, or a new one."""
        data = storage.layer_data(self.image, self.session.labels)
        where = {storage.REMEMBERED: str(self.session.labels.path)}
        for layer in self.viewer.layers:
            if isinstance(layer, Labels) and layer.metadata == where:
                layer.data = data
                return layer
        return self.viewer.add_labels(
            data, name=LABELS, opacity=0.5, metadata=where, **placed_like(self.image)
        )

    def renew(self, layer: Layer) -> None:
        """Make a layer for prompts or the preview anew after the user has deleted it."""
        if layer is self.preview.layer:
            self.preview = Preview(self.viewer, self.image)
        elif layer is self.boxes:
            self.boxes = boxes_layer(self.viewer, self.image)
        elif layer is self.points:
            self.points = points_layer(self.viewer, self.image)
            self.points.mode = "add"
        self.viewer.layers.selection.active = self.points

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers this scene added."""
        return (self.points, self.boxes, self.preview.layer, self.labels)

    def on_screen(self) -> OnScreen:
        """Return the plane the viewer shows; raises `VolumeError` where it is no plane of the image."""
        return plane_on_screen(self.viewer, self.image)

    def listen(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Connect until the scene closes."""
        emitter.connect(callback)
        self._cleanups.append(lambda: emitter.disconnect(callback))

    def set_defaults(self, negative: bool) -> None:
        """Say what object and sign the next points and shapes have."""
        identity = self.session.current
        sign = "negative" if negative else "positive"
        wanted = {"object": identity, "label": sign}
        for layer in (self.points, self.boxes):
            # A script may have given a layer features of its own, which napari wants repeated.
            now = layer.feature_defaults.iloc[0].to_dict()
            known = {k: v for k, v in wanted.items() if k in layer.features}
            if any(now.get(k) != v for k, v in known.items()):
                layer.feature_defaults = {**now, **known}

    def show_current(self) -> None:
        """Show the points of the current object only, and paint with its id."""
        self.show_drawn()
        self.quiet = True
        self.labels.selected_label = self.session.current
        self.quiet = False

    def show_drawn(self) -> None:
        """Show points and shapes of the current object only, each point with the symbol of its sign."""
        style_points(self.points, self.session.current)
        style_shapes(self.boxes, self.session.current)
        self.size_points()

    def size_points(self) -> None:
        """Fit the size of points to whether the slice on screen has any."""
        shown, points = np.asarray(self.points.shown, bool), self.points
        if shown.any() and self.viewer.dims.ndisplay == 2:
            try:
                shown = shown & on_plane(self.image, self.on_screen(), points, points.data)
            except VolumeError:
                pass  # no slice of the image is on screen
        size_points(points, bool(shown.any()))

    def refresh_labels(self) -> None:
        """Show what is in the labels now."""
        self.labels.refresh(thumbnail=False, extent=False)

    def look_only(self) -> None:
        """Keep hands off a session that another window is changing."""
        self.labels.data = storage.layer_data(self.image, self.session.labels)
        self.lock()

    def lock(self) -> None:
        """Let nothing be drawn or painted; napari forgets it with every change of a layer's data."""
        for layer in (self.labels, self.points, self.boxes):
            layer.editable = False

    def put_back(self, refused: list[Refused]) -> None:
        """Take back what was painted where nothing may change."""
        labels = self.session.labels
        for part in refused:
            plane, box = part.plane, part.box_yxyx
            now = labels.read_box(plane.axis, plane.index, box, t=plane.t)
            labels.write_box(plane.axis, plane.index, box, part.restored(now), t=plane.t)
            self.session.census.changed(plane, box)
        self.refresh_labels()

    def go_to(self, identity: int) -> None:
        """Show a slice of an object: one the user made, else the least sure one."""
        state, axis = self.session.objects.get(identity), self.on_screen().plane.axis
        if state is None or axis is None:
            return
        made = sorted(p.index for p in state.anchors if p.axis == axis)
        filled = sorted((score, p.index) for p, score in state.scores.items() if p.axis == axis)
        if made or filled:
            self.show_plane(PlaneRef(axis, made[0] if made else filled[0][1]))

    def show_plane(self, plane: PlaneRef) -> None:
        """Go to a slice along the axis on screen; one along another axis is not shown."""
        on_screen = self.on_screen()
        if plane.axis is not None and plane.axis == on_screen.plane.axis:
            dim = on_screen.axes.index(plane.axis) + self.viewer.dims.ndim - self.image.ndim
            self.viewer.dims.set_current_step(dim, plane.index)

    def point_out(self, on_screen: OnScreen, mask: Mask) -> None:
        """Outline what an object has on the slice on screen, and bring it into view if it is out of it."""
        self.preview.show(on_screen, mask)
        if not mask.any():
            return
        middle = [p or 0.0 for p in on_screen.position]
        for dim, pixels in zip(on_screen.kept, np.nonzero(mask), strict=True):
            middle[dim] = float(pixels.mean())
        rows_columns = list(on_screen.kept)
        first, last = self.labels.corner_pixels[:, rows_columns]
        inside = np.array(middle)[rows_columns]
        if ((inside < first) | (inside > last)).any():
            world = self.labels.data_to_world(middle)
            offset = self.viewer.dims.ndim - self.image.ndim
            camera = getattr(self.viewer, "scene", self.viewer).camera  # it has moved in napari 0.9
            camera.center = tuple(world[d - offset] for d in self.viewer.dims.displayed)

    def renew_contrast(self) -> None:
        """Look at the image with its present contrast limits from now on."""
        self.session.volume = volume_of(self.image)

    def close(self, *, remove: bool = True, keep_labels: bool = False) -> None:
        """Let go of the layers, and take them away unless the viewer itself goes."""
        self.quiet = True
        for clean in self._cleanups:
            try:
                clean()
            except (RuntimeError, ValueError, KeyError, TypeError):
                pass  # the layer or the viewer has gone before us
        self._cleanups.clear()
        for layer in self.layers if remove else ():
            if layer in self.viewer.layers and not (keep_labels and layer is self.labels):
                self.viewer.layers.remove(layer)
