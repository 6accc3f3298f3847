"""README says what works: its commands are single lines and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from src_core import LabelVolume

ROOT = Path(__file__).parents[1]


def _blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_commands_are_single_lines_that_install_from_the_checkout() -> None:
    commands = _blocks("sh")
    assert len(commands) == 2
    assert all(len(command.splitlines()) == 1 for command in commands)
    assert all(command.startswith("python3 -m venv .venv && ") for command in commands)
    assert all("-c constraints.txt" in command for command in commands)


def test_ci_runs_the_test_command() -> None:
    (command,) = (c.strip() for c in _blocks("sh") if "pytest" in c)
    pattern = re.search(r"grep -m 1 -E '(.*)' README\.md", (ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert pattern is not None
    assert re.search(pattern[1], command)


def test_folders_of_the_map_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    folders = re.findall(r"`((?:napari_sam|src_core|tests)/[\w/]*)`", text)
    assert len(folders) > 8
    assert [f for f in folders if not (ROOT / f).is_dir()] == []


def test_the_library_example_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = _blocks("python")
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("24 {1: 1.0}")
    assert len(lines) > 3
    first, last, label = (int(n) for n in lines[-1].split())
    assert first < 24 < last and label == 1
    assert LabelVolume.open(tmp_path / "nuclei.labels.ome.zarr", "r").object_ids() == [1]


def test_the_commands_of_the_table_exist() -> None:
    from src_core.cli import app

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `napari-sam (\w+)", text, re.MULTILINE))
    known = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback is not None}
    assert named == known
