"""Work that is done step by step, and says in the end what it has found."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

Found = TypeVar("Found")
Told = TypeVar("Told")


class Stepwise(Generic[Found]):
    """Go through the (done, total) of a generator; what it returns is in `found` afterwards."""

    found: Found

    def __init__(self, steps: Generator[tuple[int, int], None, Found]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        self.found = yield from self._steps

    def told(self, tell: Callable[[int, int], Told]) -> Generator[Told, None, Found]:
        """Go through all steps, yielding tell(done, total), and return what is found; close them in any case."""
        with closing(self._steps):
            for done, total in self:
                yield tell(done, total)
        return self.found

    def run(self, progress: Callable[[int, int], None] | None = None) -> Found:
        """Go through all steps, calling progress(done, total), and return what is found; close them in any case."""
        for _ in self.told(progress or (lambda done, total: None)):
            pass
        return self.found
