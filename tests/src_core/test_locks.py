"""One run at a time writes to an output, and what was killed does not keep it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from src_core.automatic.exporting import labels_to_coco
from src_core.errors import SessionError
from src_core.labels import LabelVolume, create_labels
from src_core.locks import sole_writer
from src_core.session import open_session, replay
from src_core.training.config import TrainConfig
from src_core.training.loop import train
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.src_core.cli.conftest import run, stack, weights
from tests.src_core.drawn_weights import small_stack

__all__ = ["run", "stack", "weights"]

HOLD = """
import sys
from src_core.locks import sole_writer
with sole_writer(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_an_output_that_another_process_writes_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "labels.ome.zarr"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        with pytest.raises(SessionError, match=f"process {other.pid} on .* wait until that has ended"):
            with sole_writer(out):
                pass
        other.kill()
    assert os.listdir(tmp_path) == [".labels.ome.zarr.lock"]
    with sole_writer(out):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_worker_process_that_outlives_its_parent_does_not_keep_the_output(tmp_path: Path) -> None:
    out = tmp_path / "run"
    code = (
        "import os, signal, time; from src_core.locks import sole_writer\n"
        f"with sole_writer({str(out)!r}):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.close(1); time.sleep(60); os._exit(0)\n"
        "    print(child, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=False, stdout=subprocess.PIPE, text=True
    )
    child = int(done.stdout)
    try:
        with sole_writer(out):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_link_to_an_output_is_the_same_output(tmp_path: Path) -> None:
    (tmp_path / "real.zarr").mkdir()
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    with sole_writer(tmp_path / "real.zarr"):
        with pytest.raises(SessionError):
            with sole_writer(tmp_path / "link.zarr"):
                pass
        with sole_writer(tmp_path / "other.zarr"):
            pass


def test_folders_that_were_made_for_the_lock_alone_go_with_it(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "a" / "b" / "labels.zarr"):
        assert (tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path) == []
    with sole_writer(tmp_path / "a" / "b" / "labels.zarr"):
        (tmp_path / "a" / "b" / "labels.zarr").mkdir()
    assert os.listdir(tmp_path / "a" / "b") == ["labels.zarr"]


def test_where_no_lock_can_be_made_the_writing_itself_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    reached = False
    with sole_writer(tmp_path / "file" / "labels.zarr"):
        reached = True
    assert reached


def test_labels_that_a_run_writes_are_not_replaced_by_a_script(tmp_path: Path) -> None:
    volume, out = open_volume(small_stack(3)), tmp_path / "labels.zarr"
    create_labels(volume, out)
    with sole_writer(out):
        with pytest.raises(SessionError, match="is being written by another run"):
            create_labels(volume, out, overwrite=True)
    create_labels(volume, out, overwrite=True)
    assert os.listdir(tmp_path) == ["labels.zarr"]


COMMANDS = {
    "propagate": ("propagate", "--point", "2,22,18"),
    "axes": ("propagate", "--axes", "zy", "--point", "2,22,18"),
    "segment": ("segment", "--point", "2,22,18"),
    "auto": ("auto",),
    "plane": ("auto", "--plane", "2"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_leave_alone_what_another_run_writes(
    run: Callable[..., object], stack: Path, weights: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "o.ome.zarr"
    create_labels(open_volume(stack), out).write_box("z", 0, (0, 0, 1, 1), np.full((1, 1), 7, np.uint32))
    command, *options = COMMANDS[name]
    with sole_writer(out):
        found = run(command, stack, *options, "--out", out, "--model", weights, "--overwrite")
    assert found.exit_code == 2  # type: ignore[attr-defined]
    assert "is being written by another run" in found.stderr  # type: ignore[attr-defined]
    assert LabelVolume.open(out, "r").read_plane("z", 0)[0, 0] == 7


def test_following_replaying_exporting_and_training_wait_as_well(
    run: Callable[..., object], weights: Path, tmp_path: Path
) -> None:
    film, out = tmp_path / "film.zarr", tmp_path / "o.ome.zarr"
    array = zarr.create_array(film, data=small_stack(2)[:, :24, :24], dimension_names=("t", "y", "x"))
    labels = create_labels(open_volume(array), tmp_path / "z.zarr")
    session = open_session(open_volume(small_stack(3)), tmp_path / "s")
    session.accept(PlaneRef("z", 1), np.ones((48, 48), bool))
    session.close()
    with sole_writer(out), sole_writer(tmp_path / "folder"):
        found = run("auto", film, "--tracks", tmp_path / "tracks", "--out", out, "--model", weights)
        assert "is being written by another run" in found.stderr  # type: ignore[attr-defined]
        for work in (
            lambda: replay(tmp_path / "s", out),
            lambda: labels_to_coco(labels, tmp_path / "folder", axis="t"),
            lambda: train(TrainConfig(tmp_path / "folder")),
        ):
            with pytest.raises(SessionError, match="is being written by another run"):
                work()
    assert not out.exists() and not (tmp_path / "folder").exists()
    replay(tmp_path / "s", out)
