"""A tiny stack, random weights and the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from src_core.cli import app
from tests.src_core.drawn_weights import save_random_nano, small_stack
from tests.src_core.image_files import write_ome_zarr

Run = Callable[..., Any]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_nano(tmp_path_factory.mktemp("weights") / "random.safetensors")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    return write_ome_zarr(tmp_path / "cells.ome.zarr", [small_stack()], scale=[2.0, 0.5, 0.5])


@pytest.fixture
def run() -> Run:
    def invoke(*args: object) -> Any:
        return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "200"})

    return invoke
