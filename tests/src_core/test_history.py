"""Undo and redo as stacks; patches as they were packed."""

from __future__ import annotations

import numpy as np

from src_core.history import Edit, History, Patch
from src_core.types import PlaneRef


def test_a_patch_gives_back_both_sides_and_is_small() -> None:
    before = np.zeros((300, 400), np.uint32)
    after = before.copy()
    after[10:50, 20:60] = 2**32 - 1
    patch = Patch.of(PlaneRef("z", 3), (5, 7, 305, 407), before, after)
    assert np.array_equal(patch.ids(after=False), before)
    assert np.array_equal(patch.ids(after=True), after)
    assert sum(map(len, patch.packed)) < before.nbytes / 50


def test_patches_of_views_that_are_not_contiguous() -> None:
    ids = np.arange(48, dtype=np.uint32).reshape(6, 8).T
    assert np.array_equal(Patch.of(PlaneRef("z", 0), (0, 0, 8, 6), ids, ids).ids(after=True), ids)


def test_steps_back_and_forward() -> None:
    history = History()
    assert history.step_back() is None and history.step_forward() is None
    for name in "abc":
        history.push(Edit(name))
    assert history.undo_name == "c" and history.redo_name is None
    assert [history.step_back().name for _ in range(3)] == ["c", "b", "a"]
    assert history.step_back() is None
    assert history.step_forward().name == "a"
    assert (history.undo_name, history.redo_name) == ("a", "b")


def test_a_new_edit_forgets_what_was_undone() -> None:
    history = History()
    history.push(Edit("a"))
    history.step_back()
    history.push(Edit("b"))
    assert history.redo_name is None and history.undo_name == "b"
