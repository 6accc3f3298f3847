"""How well two label images agree: average precision, variation of information, adapted Rand error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from src_core.errors import VolumeError


@dataclass(frozen=True, eq=False)
class Contingency:
    """How many pixels each pair of objects shares, of any number of blocks of two label images.

    Attributes
    ----------
    true_ids, found_ids
        The ids that occur, ascending, background 0 included.
    counts
        (true, found) pixels that a pair shares.
    """

    true_ids: NDArray[np.int64]
    found_ids: NDArray[np.int64]
    counts: sparse.csr_array

    @classmethod
    def of(cls, blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> Contingency:
        """Count the pairs of (true labels, found labels), block by block, so that volumes need not be in memory.

        Raises
        ------
        VolumeError
            Two arrays differ in shape, or hold no whole numbers.
        """
        total: dict[tuple[int, int], int] = {}
        for true, found in blocks:
            if true.shape != found.shape or {true.dtype.kind, found.dtype.kind} - set("biu"):
                raise VolumeError(
                    f"labels to compare need equal shapes and whole numbers, got {true.dtype} {true.shape} and "
                    f"{found.dtype} {found.shape}"
                )
            pairs = np.stack([true.ravel(), found.ravel()]).astype(np.int64)
            for (a, b), n in zip(*_counted(pairs), strict=True):
                total[int(a), int(b)] = total.get((int(a), int(b)), 0) + int(n)
        pairs = np.array(list(total), np.int64).reshape(-1, 2)
        true_ids, rows = np.unique(pairs[:, 0], return_inverse=True)
        found_ids, columns = np.unique(pairs[:, 1], return_inverse=True)
        values = np.array(list(total.values()), np.int64)
        shape = (len(true_ids), len(found_ids))
        return cls(true_ids, found_ids, sparse.csr_array((values, (rows, columns)), shape=shape))

    def objects(self) -> tuple[int, int]:
        """Return how many true and how many found objects there are."""
        return int(np.count_nonzero(self.true_ids)), int(np.count_nonzero(self.found_ids))

    def ious(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the pairs of objects that touch, as indices of rows and columns, and their IoU."""
        pairs = self.counts.tocoo()
        rows, columns = pairs.coords
        true, found = (np.asarray(self.counts.sum(axis)).ravel() for axis in (1, 0))
        real = (self.true_ids[rows] != 0) & (self.found_ids[columns] != 0)
        rows, columns, shared = rows[real], columns[real], pairs.data[real]
        return rows, columns, shared / (true[rows] + found[columns] - shared)


@dataclass(frozen=True)
class Matches:
    """How many objects were found, invented and missed at one IoU."""

    found: int
    invented: int
    missed: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.found + other.found, self.invented + other.invented, self.missed + other.missed)

    @property
    def average_precision(self) -> float:
        """Found / (found + invented + missed), as the Data Science Bowl scores; 1 if there is nothing at all."""
        total = self.found + self.invented + self.missed
        return self.found / total if total else 1.0

    @property
    def recall(self) -> float:
        """Part of the true objects that was found; 1 if there are none."""
        return self.found / (self.found + self.missed) if self.found + self.missed else 1.0


def match(contingency: Contingency, min_iou: float) -> Matches:
    """Pair true and found objects one to one so that most pairs reach an IoU.

    Parameters
    ----------
    contingency
        What the two label images share.
    min_iou
        From which on an object counts as found, above 0.
    """
    n_true, n_found = contingency.objects()
    rows, columns, ious = contingency.ious()
    good = ious >= min_iou
    rows, columns, ious = rows[good], columns[good], ious[good]
    if min_iou > 0.5:  # then no object can reach it with two others
        pairs = len(ious)
    else:
        pairs = _assigned(rows, columns, ious)
    return Matches(pairs, n_found - pairs, n_true - pairs)


def average_precision(true: NDArray[Any], found: NDArray[Any], min_iou: float = 0.5) -> float:
    """Average precision of one label image at one IoU: found / (found + invented + missed) objects."""
    return match(Contingency.of([(true, found)]), min_iou).average_precision


def variation_of_information(
    contingency: Contingency, *, ignore_background: bool = False
) -> tuple[float, float]:
    """Return (splits, merges) in bits: H(found | true) and H(true | found) (Meila 2007).

    With `ignore_background`, pixels that are background in the true labels do not count.
    """
    counts = _without_background(contingency) if ignore_background else contingency.counts
    total = counts.sum()
    if not total:
        return 0.0, 0.0
    joint = _entropy(counts.data / total)
    true, found = (_entropy(np.asarray(counts.sum(axis)).ravel() / total) for axis in (1, 0))
    return joint - true, joint - found


def adapted_rand_error(contingency: Contingency) -> tuple[float, float, float]:
    """Return (error, precision, recall) of pairs of pixels, as SNEMI3D scores (Arganda-Carreras et al. 2015).

    Pixels that are background in the true labels do not count. The error is 1 - F1; nothing to compare is no error.
    """
    counts = _without_background(contingency)
    if not counts.sum():
        return 0.0, 1.0, 1.0
    both = float((counts.data.astype(np.float64) ** 2).sum())
    true, found = (float((np.asarray(counts.sum(axis), np.float64) ** 2).sum()) for axis in (1, 0))
    n = float(counts.sum())
    # Pairs of a pixel with itself say nothing.
    both, true, found = both - n, true - n, found - n
    precision = both / found if found else 1.0
    recall = both / true if true else 1.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return 1 - f1, precision, recall


def summary(contingency: Contingency) -> dict[str, float]:
    """Return everything above in one row of a table."""
    splits, merges = variation_of_information(contingency, ignore_background=True)
    n_true, n_found = contingency.objects()
    return {
        "true": n_true,
        "found": n_found,
        "AP 0.5": match(contingency, 0.5).average_precision,
        "AP 0.75": match(contingency, 0.75).average_precision,
        "recall 0.5": match(contingency, 0.5).recall,
        "VI splits": splits,
        "VI merges": merges,
        "Rand error": adapted_rand_error(contingency)[0],
    }


def _counted(pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    low, span = int(pairs[1].min(initial=0)), int(pairs[1].max(initial=0)) + 1
    if low < 0 or int(pairs[0].min(initial=0)) < 0:
        raise VolumeError("labels to compare are 0 or more")
    if (int(pairs[0].max(initial=0)) + 1) * span > np.iinfo(np.int64).max:
        ids, places = zip(*(np.unique(row, return_inverse=True) for row in pairs), strict=True)
        found, counts = _counted(np.stack(places))
        return np.stack([own[found[:, i]] for i, own in enumerate(ids)], 1), counts
    # One key a pair: sorting numbers is many times faster than sorting rows.
    keys, counts = np.unique(pairs[0] * span + pairs[1], return_counts=True)
    return np.stack([keys // span, keys % span], 1), counts


def _assigned(rows: NDArray[np.int64], columns: NDArray[np.int64], ious: NDArray[np.float64]) -> int:
    """Return the size of the largest one-to-one matching, each group of touching objects for itself."""
    if not len(rows):
        return 0
    n = int(rows.max()) + 1
    size = n + int(columns.max()) + 1
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns + n)), shape=(size, size))
    _, group = sparse.csgraph.connected_components(graph, directed=False)
    total = 0
    of_pair = group[rows]
    for g in np.unique(of_pair):
        mine = of_pair == g
        r, i = np.unique(rows[mine], return_inverse=True)
        c, j = np.unique(columns[mine], return_inverse=True)
        cost = np.zeros((len(r), len(c)))
        cost[i, j] = -1 - ious[mine] / (2 * min(len(r), len(c)))
        chosen = linear_sum_assignment(cost)
        total += int(np.count_nonzero(cost[chosen]))
    return total


def _without_background(contingency: Contingency) -> sparse.csr_array:
    return contingency.counts[np.flatnonzero(contingency.true_ids != 0)]


def _entropy(parts: NDArray[np.float64]) -> float:
    parts = parts[parts > 0]
    return float(-(parts * np.log2(parts)).sum())
