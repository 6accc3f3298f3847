"""Objects of time points become tracks: the links with the largest overlap of all, then divisions where they last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from src_core.errors import PromptError
from src_core.evaluation.instances import Contingency
from src_core.linking.graph import Node, matching


@dataclass(frozen=True)
class TrackSettings:
    """Which objects of two time points are one.

    Attributes
    ----------
    min_overlap
        Least IoU of an object with itself one time point later, 0 to 1.
    max_gap
        Time points in a row at which an object may be missed.
    min_length
        Shorter tracks are dropped, unless they come from a division or the series has fewer time points.
    daughter_overlap
        A daughter begins within its mother: at least this part of it, 0 to 1.
    min_daughter
        Time points that each daughter is followed: what splits for fewer is no division.
    """

    min_overlap: float = 0.2
    max_gap: int = 1
    min_length: int = 2
    daughter_overlap: float = 0.4
    min_daughter: int = 2

    def __post_init__(self) -> None:
        for name in ("min_overlap", "daughter_overlap"):
            if not 0 < getattr(self, name) <= 1:
                raise PromptError(f"{name} must be above 0 and at most 1, got {getattr(self, name)!r}")
        for name, least in (("max_gap", 0), ("min_length", 1), ("min_daughter", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise PromptError(f"{name} must be a whole number from {least}, got {value!r}")


@dataclass(frozen=True)
class Track:
    """One object through time: what it is called at each time point, and the track it has divided from.

    Attributes
    ----------
    places
        Time point -> the object's id in the labels of that time point.
    parent
        The id of the mother's track; None if it is not from a division.
    """

    places: dict[int, int]
    parent: int | None = None

    @property
    def first(self) -> int:
        """Its first time point."""
        return min(self.places)

    @property
    def last(self) -> int:
        """Its last time point."""
        return max(self.places)


@dataclass(frozen=True)
class Tracking:
    """All tracks by id, from 1 on."""

    tracks: dict[int, Track]

    def graph(self) -> dict[int, list[int]]:
        """Return child -> parents, as a napari Tracks layer wants it."""
        return {k: [track.parent] for k, track in self.tracks.items() if track.parent is not None}

    def ids_at(self, t: int) -> dict[int, int]:
        """Return, for one time point, the id in its labels -> the track."""
        return {track.places[t]: k for k, track in self.tracks.items() if t in track.places}


def as_json(tracking: Tracking) -> list[Any]:
    """Return the tracks as JSON."""
    return [[k, list(track.places.items()), track.parent] for k, track in tracking.tracks.items()]


def from_json(value: list[Any]) -> Tracking:
    """Return the tracks that `as_json` was given."""
    return Tracking({k: Track({t: i for t, i in places}, parent) for k, places, parent in value})


@dataclass
class Frames:
    """The overlaps between time points, added one pair at a time: memory for numbers, not for pixels."""

    settings: TrackSettings = field(default_factory=TrackSettings)
    nodes: list[Node] = field(default_factory=list)
    edges: dict[tuple[Node, Node], float] = field(default_factory=dict)
    inside: dict[tuple[Node, Node], float] = field(default_factory=dict)

    def add_objects(self, t: int, ids: list[int]) -> None:
        """Say which objects there are at a time point."""
        self.nodes += [(t, k) for k in ids]

    def add_overlaps(self, before: int, after: int, shared: Contingency) -> None:
        """Say what the objects of two time points share, the earlier as rows."""
        between = after - before - 1
        rows, columns, ious = shared.ious()
        sizes = shared.counts.sum(0)
        counts = shared.counts.todok()
        for i, j, iou in zip(rows.tolist(), columns.tolist(), ious.tolist(), strict=True):
            pair = ((before, int(shared.true_ids[i])), (after, int(shared.found_ids[j])))
            if iou >= self.settings.min_overlap:
                self.edges[pair] = iou * 0.5**between
            if not between:
                self.inside[pair] = float(counts[i, j] / sizes[j])

    def solve(self) -> Tracking:
        """Return the tracks."""
        after = matching(self.edges)
        before = {b: a for a, b in after.items()}
        mothers = self._divisions(after, before)
        for daughters in mothers.values():
            for node in daughters:
                if node in before:
                    del after[before.pop(node)]
        chains: list[list[Node]] = []
        for node in self.nodes:
            if node not in before:
                chain = [node]
                while chain[-1] in after:
                    chain.append(after[chain[-1]])
                chains.append(chain)
        born = {daughter: mother for mother, daughters in mothers.items() for daughter in daughters}
        n_frames = len({t for t, _ in self.nodes})
        least = min(self.settings.min_length, n_frames)
        kept = [c for c in chains if len(c) >= least or c[0] in born or c[-1] in mothers]
        owner = {node: k for k, chain in enumerate(kept, start=1) for node in chain}
        return Tracking(
            {
                k: Track(dict(chain), owner[born[chain[0]]] if chain[0] in born else None)
                for k, chain in enumerate(kept, start=1)
            }
        )

    def _divisions(self, after: dict[Node, Node], before: dict[Node, Node]) -> dict[Node, list[Node]]:
        """Return mother -> its two daughters, each within her and followed long enough."""
        mothers: dict[Node, tuple[float, Node]] = {}
        for (mother, daughter), part in self.inside.items():
            own = before.get(daughter) == mother
            if part >= self.settings.daughter_overlap and (own or daughter not in before):
                if self._length(daughter, after) >= self.settings.min_daughter:
                    mothers[daughter] = max((part, mother), mothers.get(daughter, (0.0, mother)))
        born: dict[Node, list[tuple[float, Node]]] = {}
        for daughter, (part, mother) in mothers.items():  # one that lies in two is born of one of them
            born.setdefault(mother, []).append((part, daughter))
        found: dict[Node, list[Node]] = {}
        for mother, daughters in born.items():
            # One that goes on is a daughter only if the link is to one of those within the mother.
            goes_on = after.get(mother)
            if goes_on is not None and goes_on not in {d for _, d in daughters}:
                continue
            if len(daughters) >= 2:
                found[mother] = [d for _, d in sorted(daughters, reverse=True)[:2]]
                if goes_on is not None and goes_on not in found[mother]:
                    found[mother][1] = goes_on
        return found

    def _length(self, node: Node, after: dict[Node, Node]) -> int:
        n = 1
        while node in after and n < self.settings.min_daughter:
            node, n = after[node], n + 1
        return n
