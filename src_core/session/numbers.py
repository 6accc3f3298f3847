"""Numbers for many new objects."""

from __future__ import annotations

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
    granted: list[int] = []
    for wish in wishes:
        free = wish is not None and 1 <= wish <= limit // 2 and wish not in known
        granted.append(wish if wish is not None and free and wish not in granted else 0)
    following = max([*known, *granted], default=0) + 1
    ids = [k or (following := following + 1) - 1 for k in granted]
    if following + spare - 1 > limit:
        raise SessionError(
            f"labels with ids up to {limit} cannot hold {len(wishes)} more objects; {len(known)} are there already"
        )
    return ids, following
