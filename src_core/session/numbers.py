"""Numbers for many new objects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from src_core.errors import SessionError


def choose(
    wishes: Sequence[int | None], known: set[int], limit: int, *, spare: int = 0
) -> tuple[list[int], int]:
    """Return a free number for every wish, and the next free one.

    Wishes in the upper half of what the labels can hold are not granted, or no number would be left above them.

    Raises
    ------
    SessionError
        There are not enough numbers up to `limit`, with `spare` more.
    """
    taken = set(known)
    granted: list[int | None] = []
    for wish in wishes:
        if wish is None or not 1 <= wish <= limit // 2 or wish in taken:
            granted.append(None)
        else:
            granted.append(wish)
            taken.add(wish)
    above = itertools.count(max(taken, default=0) + 1)
    ids = [next(above) if k is None else k for k in granted]
    following = next(above)
    if following + spare - 1 > limit:
        raise SessionError(
            f"labels with ids up to {limit} cannot hold {len(wishes)} more objects; {len(known)} are there already"
        )
    return ids, following
