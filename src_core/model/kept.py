"""What is computed from tensors that seldom change, kept until they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import Tensor

T = TypeVar("T")


class Kept(Generic[T]):
    """Remembers the last few results and the tensors they were made of.

    A source counts as the same while it lies in the same memory and nobody has written to it. Writing to tensors
    made in inference mode, such as embeddings, goes unnoticed: nobody does.

    Parameters
    ----------
    limit
        How many results are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: list[tuple[tuple[Tensor, ...], Any, T]] = []

    def get(self, sources: tuple[Tensor, ...], make: Callable[[], T]) -> T:
        """Return what `make` made of these sources, or makes now."""
        state = [_state(s) for s in sources]
        entries = self._entries  # replaced, never changed: threads may ask at once
        found = next((e for e in entries if e[1] == state), None) or (sources, state, make())
        # The sources are held so that no other tensor takes their place in memory.
        self._entries = [found, *(e for e in entries if e is not found)][: self._limit]
        return found[2]

    def __reduce__(self) -> tuple[Any, ...]:
        """Let copies and pickles of a network start with nothing kept."""
        return type(self), (self._limit,)


def _state(tensor: Tensor) -> tuple[Any, ...]:
    version = 0 if tensor.is_inference() else tensor._version
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), version
