"""A file is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from src_core.files import write_atomically


def test_what_is_there_is_replaced_only_by_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "table.npz"
    write_atomically(path, lambda part: part.write_text("first"))

    def torn(part: Path) -> None:
        assert part.suffix == ".npz", "numpy would add it, and the rename miss the file"
        part.write_text("sec")
        assert path.read_text() == "first"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, torn)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path], "nothing stays behind"
    write_atomically(path, lambda part: part.write_text("second"))
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]
