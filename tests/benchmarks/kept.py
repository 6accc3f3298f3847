"""What a long benchmark has measured so far, line by line in a file: an interrupted one goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Kept:
    """Measured values by key, of one network.

    Parameters
    ----------
    path
        The file to go on with, None for none.
    network
        Fingerprint of the weights; what other weights have measured is left alone.
    """

    def __init__(self, path: Path | None, network: str) -> None:
        self.path, self.network = path, network
        self._values: dict[tuple[Any, ...], Any] = {}
        for line in path.read_text().splitlines() if path is not None and path.exists() else []:
            entry = json.loads(line)
            if entry["network"] == network:
                self._values[tuple(entry["key"])] = entry["value"]

    def __contains__(self, key: tuple[Any, ...]) -> bool:
        return key in self._values

    def __getitem__(self, key: tuple[Any, ...]) -> Any:
        """Return a value as JSON has it."""
        return self._values[key]

    def put(self, key: tuple[Any, ...], value: Any) -> None:
        """Keep a value that JSON can hold, under strings and numbers."""
        self._values[key] = value
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"network": self.network, "key": key, "value": value}) + "\n")
