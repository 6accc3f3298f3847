"""Masks on slices become objects: an overlap graph, solved for the whole stack at once.

Each mask has at most one predecessor and one successor on neighbouring slices. The set of links with the largest total
overlap is a matching between masks as predecessors and masks as successors: the assignment problem, solved exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from src_core.automatic.records import MaskRecord
from src_core.linking.settings import LinkSettings
from src_core.masks import PackedMask

COVERED = 0.5
"""A mask lies in another from this part of it on."""
Node = tuple[int, int]
"""(slice, position among the records of that slice)."""


@dataclass
class Links:
    """The overlap graph of a stack, built slice by slice: memory for numbers, not for masks.

    Attributes
    ----------
    edges
        (earlier mask, later mask) -> their weight: the IoU, halved for every slice between them.
    covers
        (mask, mask on a neighbouring slice) -> the part of the first that lies in the second, from `COVERED` on.
    """

    settings: LinkSettings = field(default_factory=LinkSettings)
    edges: dict[tuple[Node, Node], float] = field(default_factory=dict)
    covers: dict[tuple[Node, Node], float] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    n_slices: int = 0
    _recent: list[tuple[int, Sequence[MaskRecord]]] = field(default_factory=list)

    def add(self, index: int, records: Sequence[MaskRecord]) -> None:
        """Put the masks of the next slice into the graph; the last few slices are compared with it."""
        self.n_slices += 1
        self.nodes += [(index, i) for i in range(len(records))]
        for earlier, others in self._recent:
            between = index - earlier - 1
            for i, j, shared in overlaps([r.mask for r in others], [r.mask for r in records]):
                a, b = others[i], records[j]
                iou = shared / (a.area + b.area - shared)
                # A link across a gap must be as good as another, and loses against one without.
                if iou >= self.settings.min_overlap:
                    self.edges[(earlier, i), (index, j)] = iou * 0.5**between
                if not between:
                    self._cover((earlier, i), (index, j), shared / a.area)
                    self._cover((index, j), (earlier, i), shared / b.area)
        self._recent = [r for r in [*self._recent, (index, records)] if index - r[0] <= self.settings.max_gap]

    def _cover(self, inner: Node, outer: Node, part: float) -> None:
        if part >= COVERED:
            self.covers[inner, outer] = part

    def solve(self) -> list[list[Node]]:
        """Return the objects, each as its masks in the order of the slices, several on one where pieces were joined."""
        chains = self._joined(self._chains())
        least = min(self.settings.min_slices, self.n_slices)
        return [sorted(chain) for chain in chains if len({index for index, _ in chain}) >= least]

    def _chains(self) -> list[list[Node]]:
        after = matching(self.edges)
        begun = set(after.values())
        chains: list[list[Node]] = []
        for node in self.nodes:
            if node not in begun:
                chain = [node]
                while chain[-1] in after:
                    chain.append(after[chain[-1]])
                chains.append(chain)
        return chains

    def _joined(self, chains: list[list[Node]]) -> list[list[Node]]:
        """Join short chains to the longer one that holds their first or last mask: a split that does not last is none.

        A chain that goes on for `min_branch` slices beside its neighbour is an object of its own.
        """
        owner = {node: k for k, chain in enumerate(chains) for node in chain}
        holders: dict[Node, list[tuple[float, int]]] = {}
        for (inner, outer), part in self.covers.items():
            if owner[inner] != owner[outer]:
                holders.setdefault(inner, []).append((part, owner[outer]))
        joined = [list(chain) for chain in chains]
        for k in sorted(range(len(chains)), key=lambda k: len(chains[k])):
            if len(chains[k]) >= self.settings.min_branch:
                break
            ends = {chains[k][0], chains[k][-1]}
            options = [
                o for node in ends for o in holders.get(node, []) if len(chains[o[1]]) > len(chains[k])
            ]
            if options:
                _, best = max(options)
                joined[best] += joined[k]
                joined[k] = []
        return joined


def overlaps(a: Sequence[PackedMask], b: Sequence[PackedMask]) -> list[tuple[int, int, int]]:
    """Return (i, j, shared pixels) of the masks that overlap; boxes are compared first."""
    if not a or not b:
        return []
    boxes = np.array([mask.box for mask in b])
    found = []
    for i, mask in enumerate(a):
        y0, x0, y1, x1 = mask.box
        near = (boxes[:, 0] < y1) & (boxes[:, 2] > y0) & (boxes[:, 1] < x1) & (boxes[:, 3] > x0)
        for j in np.flatnonzero(near).tolist():
            if shared := shared_area(mask, b[j]):
                found.append((i, j, shared))
    return found


def shared_area(a: PackedMask, b: PackedMask) -> int:
    """Return how many pixels two masks of one plane's size share."""
    y0, x0 = max(a.box[0], b.box[0]), max(a.box[1], b.box[1])
    y1, x1 = min(a.box[2], b.box[2]), min(a.box[3], b.box[3])
    if y0 >= y1 or x0 >= x1:
        return 0
    parts = [m.crop()[y0 - m.box[0] : y1 - m.box[0], x0 - m.box[1] : x1 - m.box[1]] for m in (a, b)]
    return int(np.count_nonzero(parts[0] & parts[1]))


def matching(edges: dict[tuple[Node, Node], float]) -> dict[Node, Node]:
    """Return the links, one forwards and one backwards a mask, whose weights have the largest sum."""
    if not edges:
        return {}
    early, late = sorted({a for a, _ in edges}), sorted({b for _, b in edges})
    place_early, place_late = ({n: k for k, n in enumerate(nodes)} for nodes in (early, late))
    rows = np.array([place_early[a] for a, _ in edges])
    columns = np.array([place_late[b] for _, b in edges])
    # The solver pairs every row: each has a column of its own that stands for "the object ends here".
    alone = np.arange(len(early))
    costs = np.concatenate([2 - np.array(list(edges.values())), np.full(len(early), 2.0)])
    graph = sparse.csr_array(
        (costs, (np.concatenate([rows, alone]), np.concatenate([columns, alone + len(late)]))),
        shape=(len(early), len(late) + len(early)),
    )
    matched = min_weight_full_bipartite_matching(graph)
    return {early[i]: late[j] for i, j in zip(*matched, strict=True) if j < len(late)}
