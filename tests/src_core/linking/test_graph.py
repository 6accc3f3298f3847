"""From masks on slices to chains: the best links for the whole stack, gaps, pieces, spurious masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from src_core.automatic import MaskRecord
from src_core.errors import PromptError
from src_core.linking import Links, LinkSettings
from src_core.linking.graph import Node, matching, shared_area
from tests.src_core.automatic.stub import box, record


def chains(slices: list[list[MaskRecord]], **settings: int) -> list[list[Node]]:
    links = Links(LinkSettings(**settings))  # type: ignore[arg-type]
    for index, records in enumerate(slices):
        links.add(index, records)
    return sorted(links.solve())


A, B = record(box(5, 5, 15, 15)), record(box(5, 30, 15, 40))


def test_overlapping_masks_become_objects_and_others_do_not() -> None:
    assert chains([[A, B], [B, A], [A, B]]) == [[(0, 0), (1, 1), (2, 0)], [(0, 1), (1, 0), (2, 1)]]


def test_an_object_missed_on_a_slice_or_two_stays_one() -> None:
    assert chains([[A], [], [], [A]]) == [[(0, 0), (3, 0)]]
    assert chains([[A], [A], [], [], [], [A], [A]]) == [[(0, 0), (1, 0)], [(5, 0), (6, 0)]]


def test_a_mask_on_one_slice_is_dropped_unless_the_stack_has_no_more() -> None:
    assert chains([[A], [A, B], [A]]) == [[(0, 0), (1, 0), (2, 0)]]
    assert chains([[A, B]]) == [[(0, 0)], [(0, 1)]]


def test_links_are_the_best_for_all_and_not_for_the_first() -> None:
    early = [record(box(0, 0, 10, 20)), record(box(0, 8, 10, 28))]
    late = [record(box(0, 6, 10, 26)), record(box(0, 20, 10, 40))]
    # The second mask fits the first best, but then its neighbour would be left without a partner.
    assert shared_area(early[1].mask, late[0].mask) > shared_area(early[0].mask, late[0].mask) > 0
    found = chains([early, late], min_slices=1)
    links = Links(LinkSettings(min_overlap=0.05))
    links.add(0, early)
    links.add(1, late)
    assert len(found) >= 2
    best = max(
        sum(links.edges.get(((0, i), (1, j)), 0.0) for i, j in enumerate(order))
        for order in itertools.permutations(range(2))
    )
    assert sum(links.edges[pair] for pair in matching(links.edges).items()) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(6))
def test_the_matching_is_the_largest_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = {
        ((0, i), (1, j)): float(rng.uniform(0.1, 1)) for i in range(5) for j in range(4) if rng.random() < 0.6
    }
    found = sum(edges[pair] for pair in matching(edges).items())
    best = max(
        sum(edges.get(((0, i), (1, j)), 0.0) for i, j in zip(order, range(4), strict=True))
        for order in itertools.permutations(range(5), 4)
    )
    assert found == pytest.approx(best)
    assert matching({}) == {}


def test_a_piece_that_splits_off_for_two_slices_joins_what_it_came_from() -> None:
    whole, left, right = record(box(5, 5, 15, 25)), record(box(5, 5, 15, 19)), record(box(5, 19, 15, 25))
    found = chains([[whole], [whole], [left, right], [left, right], [whole], [whole]])
    assert found == [[(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (5, 0)]]


def test_a_branch_that_lasts_is_an_object_of_its_own() -> None:
    whole, left, right = record(box(5, 5, 15, 25)), record(box(5, 5, 15, 19)), record(box(5, 19, 15, 25))
    found = chains([[whole], [whole], *[[left, right]] * 4])
    assert [len(chain) for chain in found] == [6, 4]


def test_only_the_last_slices_masks_are_remembered() -> None:
    links = Links(LinkSettings(max_gap=2))
    for index in range(20):
        links.add(index, [A])
        assert len(links._recent) <= 3
    assert len(links.solve()) == 1


def test_thousands_of_objects_are_linked_in_seconds() -> None:
    import time

    shape = (600, 600)
    from src_core.masks import PackedMask

    disk = np.ones((4, 4), np.bool_)
    slices = [
        [
            MaskRecord(PackedMask.of(disk, (6 * i, 6 * j), shape), 16, 0.9, 0.9, (0.0, 0.0))
            for i in range(50)
            for j in range(50)
        ]
        for _ in range(3)
    ]
    clock = time.process_time()
    found = chains(slices)
    assert len(found) == 2500 and time.process_time() - clock < 20


@pytest.mark.parametrize(
    "bad", [{"method": "guess"}, {"min_overlap": 0.0}, {"max_gap": -1}, {"min_slices": 0}]
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(PromptError):
        LinkSettings(**bad)  # type: ignore[arg-type]
