"""Processes that are killed anywhere, and several at once in one folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from src_core import Predictor, open_volume
from src_core.types import PlaneRef
from tests.src_core.embeddings.test_store import same, store_of, tiles_of
from tests.src_core.image_files import write_ome_zarr
from tests.src_core.networks import random_nano

N_PLANES = 150
FILL = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from src_core import Predictor
from tests.src_core.embeddings.test_store import store_of
from tests.src_core.networks import random_nano
store = store_of(Path(sys.argv[1]), Predictor(random_nano()), max_bytes=int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
print(store.fill(progress=lambda done, total: print(done, flush=True)), flush=True)
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with as many threads as the other processes: another number may change the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (N_PLANES, 24, 24), np.uint8)
    return write_ome_zarr(tmp_path / "cells.ome.zarr", [pixels])


def _start(image: Path, max_bytes: int = 10**10) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", FILL, str(image), str(max_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _check(image: Path, planes: set[int], every: int = 7) -> None:
    predictor = Predictor(random_nano())
    store = store_of(image, predictor)
    for index in sorted(planes):
        embedding = store.get(PlaneRef("z", index))
        found = embedding.features(0)
        assert not embedding.made, index
        if index % every == 0:
            exact = predictor.embed(open_volume(image).plane(z=index)).features(0)
            assert same(found, tuple(f.half().float() for f in exact))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_moment_every_tile_is_whole_or_absent(image: Path, seed: int) -> None:
    store = store_of(image, Predictor(random_nano()))
    rng = np.random.default_rng(seed)
    counts = [0]
    for _ in range(40 if seed else 8):
        process = _start(image)
        _go(process)
        assert process.stdout is not None
        # Tiles that are there already are passed at once: some more, then anywhere within the next one.
        for _ in range(counts[-1] + int(rng.integers(0, 4))):
            process.stdout.readline()
        time.sleep(float(rng.uniform(0, 0.02)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        planes = store.stored()
        assert len(planes) >= counts[-1]
        counts.append(len(planes))
        _check(image, planes)
    assert len(set(counts)) > 4 and counts[-1] < N_PLANES, counts
    process = _start(image)
    assert "complete=True" in process.communicate("\n")[0]
    assert store.stored() == set(range(N_PLANES))
    _check(image, store.stored())


def test_two_processes_fill_one_folder(image: Path) -> None:
    processes = [_start(image) for _ in range(2)]
    for process in processes:  # both make the folder and its metadata at the same moment
        _go(process)
    outputs = [p.communicate()[0] for p in processes]
    assert all("complete=True" in out for out in outputs), outputs
    store = store_of(image, Predictor(random_nano()))
    assert store.stored() == set(range(N_PLANES)) and len(tiles_of(store)) == N_PLANES
    assert not list(store.folder.rglob("*.partial"))
    _check(image, store.stored())


def test_one_process_may_delete_what_another_is_reading(image: Path) -> None:
    """Both go on; what one has just deleted, the other makes again."""
    predictor = Predictor(random_nano())
    store = store_of(image, predictor)
    store.fill(stop=12)
    size = max(p.stat().st_size for p in tiles_of(store))
    other = store_of(image, predictor, max_bytes=4 * size)
    for index in range(12):
        embedding = other.get(PlaneRef("z", index))
        tiles_of(store)[0].unlink()
        found = embedding.features(0)
        exact = predictor.embed(open_volume(image).plane(z=index)).features(0)
        assert same(found, tuple(f.half().float() for f in exact))
        store.get(PlaneRef("z", (index + 5) % 12)).features(0)
    assert store.problem is None and other.problem is None
