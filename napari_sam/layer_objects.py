"""Whole layers that the user made or loaded as prompts: which objects they speak about, on which planes.

Layers are read here on the window's thread, into plain arrays; masks are drawn, and labels read, by the worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels, Points, Shapes
from numpy.typing import NDArray

from napari_sam.layer_prompts import Parts, checked, ids_of, names_of, signs_of
from napari_sam.layers import OnScreen, array_of, indices, mapping
from src_core.errors import PromptError
from src_core.prompts import Prompts
from src_core.session_prompts import PromptsProgress, Wanted

if TYPE_CHECKING:
    from napari.layers import Image, Layer

OUTSIDE = "outside the image"
ELSEWHERE = "on other time points or channels"
ACROSS = "not on one slice of the present view"
ALONE = "outside points without an object on their slice"


@dataclass
class Said:
    """What layers say about objects.

    Attributes
    ----------
    parts
        By plane and object.
    numbers
        For every object, in the layers' order, the number they give it.
    skipped
        How many points or shapes could not be used, by reason.
    """

    parts: dict[tuple[OnScreen, Hashable], Parts] = field(default_factory=dict)
    numbers: dict[Hashable, int | None] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)

    def of(self, plane: OnScreen, key: Hashable) -> Parts:
        """Return the parts of an object on a plane, to add to."""
        self.numbers.setdefault(key, key if isinstance(key, int) else None)
        return self.parts.setdefault((plane, key), Parts())

    def wanted(self, here: OnScreen, shape: tuple[int, int]) -> list[Wanted]:
        """Return it as prompts on planes of `shape`, those next to the plane `here` first."""
        nearest = sorted(
            self.parts, key=lambda k: (abs(k[0].plane.index - here.plane.index), k[0].plane.index)
        )
        return [Wanted(p.plane, key, partial(_prompts, self.parts[p, key], shape)) for p, key in nearest]


def _prompts(parts: Parts, shape: tuple[int, int]) -> Prompts:
    return checked(parts.prompts(shape))


class Frame:
    """One orientation of an image, as other layers see it.

    Parameters
    ----------
    image, on_screen
        The image and a plane of it. Layers that have no position along some axis are taken to lie on this plane.
    everywhere
        Use all time points and channels, not only the plane's.
    point
        Where the viewer's sliders stand (world): what counts of layers with more dimensions than the image.
    """

    def __init__(
        self,
        image: Image,
        on_screen: OnScreen,
        *,
        everywhere: bool = False,
        point: tuple[float, ...] | None = None,
    ) -> None:
        self.image, self.on_screen, self.point = image, on_screen, point
        self.sizes = tuple(int(n) for n in array_of(image).shape[: image.ndim])
        self.sliced = [d for d, p in enumerate(on_screen.position) if p is not None]
        self.fixed = [] if everywhere else [d for d in self.sliced if on_screen.axes[d] in ("t", "c")]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the planes."""
        rows, columns = self.on_screen.kept
        return self.sizes[rows], self.sizes[columns]

    def planes(self) -> Iterator[OnScreen]:
        """Go through all planes: of all time points and channels, or only those of the one on screen."""
        where = [
            range(n) if p is not None and d not in self.fixed else [p]
            for d, (n, p) in enumerate(zip(self.sizes, self.on_screen.position, strict=True))
        ]
        for position in product(*where):
            yield OnScreen.at(position, self.on_screen.axes)

    def check(self, layer: Layer) -> None:
        """Raise `PromptError` if a layer has no position along the rows or columns of the planes."""
        missing = self.image.ndim - layer.ndim
        if missing > min(self.on_screen.kept):
            axes = ", ".join(self.on_screen.axes[:missing])
            raise PromptError(
                f"“{layer.name}” says nothing about {axes}: roll the axes back to where {axes} is a slider"
            )

    def leading(self, layer: Layer) -> tuple[int, ...]:
        """Return where the sliders stand along dimensions that a layer has before those of the image."""
        extra = max(layer.ndim - self.image.ndim, 0)
        if not extra or self.point is None:
            return (0,) * extra
        return tuple(int(i) for i in indices(np.asarray(layer.world_to_data(self.point), np.float64))[:extra])

    def positions(self, layer: Layer, data: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map (N, d) data positions of a layer to those of the image."""
        found = mapping(layer, self.image)(data)
        for d in range(self.image.ndim - layer.ndim):
            found[:, d] = self.on_screen.position[d] or 0
        return found

    def planes_of(self, vertices: NDArray[np.float64], starts: NDArray[np.int64]) -> list[OnScreen]:
        """Return the planes of marks, each by its first vertex."""
        known: dict[tuple[int, ...], OnScreen] = {}
        found = []
        with np.errstate(invalid="ignore"):  # what is not finite is not used
            inner = indices(vertices[starts][:, self.sliced]).astype(np.int64)
        for index in map(tuple, inner.tolist()):
            if index not in known:
                where: list[int | None] = [None] * self.image.ndim
                for d, i in zip(self.sliced, index, strict=True):
                    where[d] = i
                known[index] = OnScreen.at(tuple(where), self.on_screen.axes)
            found.append(known[index])
        return found

    def troubles(
        self, strokes: NDArray[np.bool_], vertices: NDArray[np.float64], starts: NDArray[np.int64]
    ) -> list[str | None]:
        """Say why marks cannot be used; None where they can.

        Parameters
        ----------
        strokes
            (K,), False for shapes with an inside, which may reach beyond the image.
        vertices
            (N, d) image positions, mark after mark.
        starts
            (K,) where each mark begins.
        """
        inner, plane = indices(vertices[:, self.sliced]), vertices[:, list(self.on_screen.kept)]
        finite = np.logical_and.reduceat(np.isfinite(vertices).all(1), starts)
        low, high = (f.reduceat(inner, starts) for f in (np.minimum, np.maximum))
        top, bottom = (f.reduceat(plane, starts) for f in (np.minimum, np.maximum))
        size, shape = np.array([self.sizes[d] for d in self.sliced]), np.array(self.shape)
        reaches = (np.maximum(bottom, top + 1) > 0).all(1) & (top < shape).all(1)
        within = ((top >= -0.5) & (bottom <= shape - 0.5)).all(1)
        inside = ((low >= 0) & (low < size)).all(1) & np.where(strokes, within, reaches)
        fixed = [self.sliced.index(d) for d in self.fixed]
        here = np.array([self.on_screen.position[d] for d in self.fixed], np.float64)
        reasons = (
            (~finite, OUTSIDE),
            ((low != high).any(1), ACROSS),
            (~inside, OUTSIDE),
            ((low[:, fixed] != here).any(1), ELSEWHERE),
        )
        found: list[str | None] = [None] * len(starts)
        for holds, reason in reversed(reasons):
            for k in np.flatnonzero(holds):
                found[k] = reason
        return found


def collect(frame: Frame, layer: Points | Shapes, said: Said, together: Hashable | None = None) -> None:
    """Add what points or shapes say.

    Those of one name in the feature `object` are one object. Others are an object each, or all one, `together`.
    A point that its feature `label` calls negative is outside its object, or outside the nearest on its slice.

    Raises
    ------
    PromptError
        The layer has no position along the rows or columns of the planes.
    """
    frame.check(layer)
    if not len(layer.data):
        return
    kinds = ["point"] * len(layer.data) if isinstance(layer, Points) else [str(k) for k in layer.shape_type]
    signs = signs_of(layer) if isinstance(layer, Points) else np.ones(len(layer.data), np.int64)
    marks = [np.atleast_2d(m) for m in layer.data]
    data, starts = np.concatenate(marks), np.cumsum([0, *(len(m) for m in marks[:-1])])
    vertices, leading = frame.positions(layer, data), frame.leading(layer)
    strokes = np.isin(kinds, ("point", "path", "line"))
    troubles = frame.troubles(strokes, vertices, starts)
    elsewhere = (indices(data[starts, : len(leading)]) != leading).any(1)
    places = np.split(vertices[:, list(frame.on_screen.kept)], starts[1:])
    planes = frame.planes_of(vertices, starts)
    loose: list[tuple[OnScreen, NDArray[np.float64]]] = []
    for k, (kind, name, sign) in enumerate(zip(kinds, names_of(layer), signs, strict=True)):
        trouble = troubles[k] or (ELSEWHERE if elsewhere[k] else None)
        if trouble is not None:
            said.skipped[trouble] += 1
        elif name is None and together is None and not sign:
            loose.append((planes[k], places[k]))
        else:
            own = together if together is not None else (layer.name, k)
            parts = said.of(planes[k], own if name is None else name)
            if kind == "point":
                parts.add_points(places[k], signs[k : k + 1])
            else:
                parts.add_shape(kind, places[k])
    for plane, where in loose:
        _add_to_nearest(said, plane, where)


def _add_to_nearest(said: Said, plane: OnScreen, where: NDArray[np.float64]) -> None:
    here = {
        key: np.concatenate(parts.points)
        for (p, key), parts in said.parts.items()
        if p == plane and parts.points
    }
    if not here:
        said.skipped[ALONE] += 1
        return
    nearest = min(here, key=lambda key: float(np.linalg.norm(here[key] - where, axis=1).min()))
    said.of(plane, nearest).add_points(where, np.zeros(1, np.int64))


class LabelsReader:
    """Finds the objects of a labels layer plane by plane, in the worker.

    Every label is an object. Of slices in a row that hold it, the one where it is largest counts: a rough
    volume gives one anchor an object, regions painted here and there give one each.
    """

    def __init__(self, frame: Frame, layer: Labels) -> None:
        frame.check(layer)
        self.here, self.shape = frame.on_screen, frame.shape
        self._ids = ids_of(frame.image, frame.on_screen, layer, frame.shape, frame.leading(layer))
        here, axis = frame.on_screen, frame.on_screen.plane.axis
        # A layer without slices of its own speaks about the one on screen.
        flat = axis is None or here.axes.index(axis) < frame.image.ndim - layer.ndim
        self.planes = [here] if flat else list(frame.planes())
        self._areas: dict[int, list[tuple[int, int]]] = {}
        self._latest: tuple[OnScreen | None, NDArray[np.int64]] = (None, np.zeros(frame.shape, np.int64))

    def scan(self) -> Iterator[PromptsProgress]:
        """Look at every plane."""
        for k, plane in enumerate(self.planes):
            ids = self._ids(plane)
            found, areas = np.unique(ids[ids > 0], return_counts=True)
            for label, area in zip(found.tolist(), areas.tolist(), strict=True):
                self._areas.setdefault(label, []).append((k, area))
            yield PromptsProgress(k + 1, len(self.planes), unit="slice")

    def said(self) -> Said:
        """Return the objects found."""
        return Said(numbers={label: label for label in sorted(self._areas)})

    def wanted(self) -> list[Wanted]:
        """Return a prompt for every object on each of its anchors, those next to the plane on screen first."""
        found = [(k, label) for label in sorted(self._areas) for k in _peaks(self._areas[label])]
        found.sort(key=lambda f: (abs(self.planes[f[0]].plane.index - self.here.plane.index), f[0]))
        return [Wanted(self.planes[k].plane, label, partial(self._prompts, k, label)) for k, label in found]

    def _prompts(self, k: int, label: int) -> Prompts:
        if self._latest[0] != self.planes[k]:
            self._latest = (self.planes[k], self._ids(self.planes[k]))
        return checked(Parts(masks=[self._latest[1] == label]).prompts(self.shape))


def _peaks(areas: list[tuple[int, int]]) -> list[int]:
    """Return the index of the largest area in every run of consecutive indices."""
    starts = [0, *(i for i, (a, b) in enumerate(pairwise(areas), 1) if b[0] != a[0] + 1), len(areas)]
    return [max(areas[a:b], key=lambda item: item[1])[0] for a, b in pairwise(starts)]
