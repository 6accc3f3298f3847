"""Whatever is wrong with the input: one clear line on stderr, exit status 2, nothing left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr
from safetensors.torch import save_file

from src_core.labels import LabelVolume, create_labels
from src_core.session import open_session
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.src_core.cli.conftest import Run
from tests.src_core.drawn_weights import small_stack
from tests.src_core.image_files import write_ome_tiff_set, write_ome_zarr

MARKS = ("--point", "2,22,18")


def refused(found: object, *words: str) -> None:
    assert found.exit_code == 2, found.output  # type: ignore[attr-defined]
    stderr = found.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in stderr
    line = stderr.strip().splitlines()[-1]
    assert line.startswith("napari-sam: ")
    assert all(word in line for word in words), line


@pytest.mark.parametrize("command", ["info", "segment", "propagate"])
def test_images_that_cannot_be_opened(run: Run, tmp_path: Path, weights: Path, command: str) -> None:
    options = () if command == "info" else (*MARKS, "--out", tmp_path / "o.ome.zarr", "--model", weights)
    refused(run(command, tmp_path / "nowhere.zarr", *options), "does not exist")
    half = write_ome_zarr(tmp_path / "half.ome.zarr", [small_stack()])
    shutil.rmtree(half / "0")
    refused(run(command, half, *options), "half written")
    (half / "zarr.json").unlink()
    refused(run(command, half, *options), "half written")
    zarr.create_group(tmp_path / "group.zarr", zarr_format=3)
    refused(run(command, tmp_path / "group.zarr", *options), "without an image")
    zarr.save_array(tmp_path / "complex.zarr", np.zeros((3, 8, 8), np.complex64))
    refused(run(command, tmp_path / "complex.zarr", *options), "complex64")
    zarr.create_array(tmp_path / "empty.zarr", shape=(0, 8, 8), dtype="u1")
    refused(run(command, tmp_path / "empty.zarr", *options), "length 0")
    (tmp_path / "text.txt").write_text("no image")
    refused(run(command, tmp_path / "text.txt", *options), "not a supported image")
    assert not (tmp_path / "o.ome.zarr").exists()


@pytest.mark.parametrize("command", ["segment", "propagate"])
@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ("", ["no prompt"]),
        ("--object 2", ["no prompt"]),
        ("--point 2,100,18", ["outside the plane of 48 x 48"]),
        ("--point 9,22,18", ["z=9"]),
        ("--point -1,22,18", ["z=-1"]),
        ("--point 22,18", ["3 numbers, got 2"]),
        ("--point 2,a,18", ["'2,a,18'"]),
        ("--point 2,nan,18", ["finite"]),
        ("--point 2.5,22,18", ["counts slices"]),
        ("--box 2,20,20,10,30", ["no area"]),
        ("--box 2,20,20,30", ["5 numbers, got 4"]),
        ("--box 2,1,1,9,9 --box 2,1,1,8,8", ["two boxes"]),
        ("--negative 2,22,18", ["only negative points"]),
        ("--point 2,22,18 --axis t", ["'t'"]),
        ("--point 2,22,18 --time 4", ["t=4"]),
        ("--point 2,22,18 --channel 4", ["c=4"]),
        ("--point 2,22,18 --device gpu", ["'gpu' is not a device"]),
        ("--point 2,22,18 --model vit_x", ["'vit_x'"]),
    ],
)
def test_prompts_that_make_no_sense(
    run: Run, stack: Path, weights: Path, tmp_path: Path, command: str, marks: str, words: list[str]
) -> None:
    if command == "segment" and "--object" in marks:
        pytest.skip("segment has one object")
    out = tmp_path / "o.ome.zarr"
    refused(run(command, stack, "--model", weights, "--out", out, *marks.split()), *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ("--object 2 --point 2,22,18 --object 2 --point 2,30,30", ["--object 2 is given twice"]),
        ("--point 2,22,18 --object 1 --point 2,30,30", ["--object 1 is given twice"]),
        ("--object 0 --point 2,22,18", ["whole number from 1"]),
        ("--object one --point 2,22,18", ["whole number from 1"]),
        ("--point 2,22,18 --object 3", ["--object 3 is not followed"]),
        ("--point 2,22,18 --range 3:6", ["outside the planes 3 to 5"]),
        ("--point 2,22,18 --range 0:60", ["0:60"]),
        ("--point 2,22,18 --range 0", ["START:STOP"]),
    ],
)
def test_objects_and_ranges_that_make_no_sense(
    run: Run, stack: Path, weights: Path, tmp_path: Path, marks: str, words: list[str]
) -> None:
    out = tmp_path / "o.ome.zarr"
    refused(run("propagate", stack, "--model", weights, "--out", out, *marks.split()), *words)
    assert not out.exists()


def test_two_planes_are_too_many_for_segment(run: Run, stack: Path, tmp_path: Path) -> None:
    found = run("segment", stack, *MARKS, "--point", "3,22,18", "--out", tmp_path / "m.png")
    refused(found, "z=2 and z=3", "propagate takes several")
    refused(run("segment", stack, *MARKS, "--out", tmp_path / "m.jpg"), "must end in")


def test_a_flat_image_cannot_be_propagated_through(run: Run, weights: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "flat.tif", small_stack()[0])
    out = tmp_path / "o.ome.zarr"
    found = run("propagate", tmp_path / "flat.tif", "--point", "22,18", "--model", weights, "--out", out)
    refused(found, "2-D image")


@pytest.mark.parametrize("command", ["segment", "propagate"])
@pytest.mark.parametrize(
    ("value", "words"), [(7.0, "constant"), (np.nan, "no pixel that is a finite number")]
)
def test_planes_without_contrast(
    run: Run, weights: Path, tmp_path: Path, command: str, value: float, words: str
) -> None:
    image = write_ome_zarr(tmp_path / "blank.ome.zarr", [np.full((4, 48, 48), value, np.float32)])
    out = tmp_path / "o.ome.zarr"
    refused(run(command, image, *MARKS, "--model", weights, "--out", out), words)
    assert not out.exists()


def test_a_few_nan_do_no_harm(run: Run, weights: Path, tmp_path: Path) -> None:
    pixels = small_stack().astype(np.float32)
    pixels[:, 5:9] = np.nan
    image = write_ome_zarr(tmp_path / "holes.ome.zarr", [pixels])
    found = run("segment", image, *MARKS, "--model", weights, "--out", tmp_path / "m.png")
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize("command", ["segment", "propagate"])
def test_targets_that_cannot_be_written(
    run: Run, stack: Path, weights: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("")
    options = (stack, *MARKS, "--model", weights, "--out")
    # Permissions do not stop the superuser; a path below a file stops everybody.
    refused(run(command, *options, tmp_path / "file" / "o.ome.zarr"), "o.ome.zarr")
    refused(run(command, *options, "/proc/o.ome.zarr"), "/proc/o.ome.zarr")
    before = sorted(p.name for p in stack.rglob("*"))
    refused(run(command, *options, stack, "--overwrite"), "never replaced")
    assert sorted(p.name for p in stack.rglob("*")) == before


def test_no_output_ever_replaces_the_image(run: Run, stack: Path, weights: Path, tmp_path: Path) -> None:
    tiff = tmp_path / "cells.tif"
    tifffile.imwrite(tiff, small_stack(), metadata={"axes": "ZYX"})
    before, options = tiff.read_bytes(), ("--model", weights, "--overwrite")
    refused(run("segment", tiff, *MARKS, "--out", tiff, *options), "is the image itself")
    refused(run("auto", tiff, "--plane", 1, "--out", tiff, *options), "is the image itself")
    refused(run("auto", tiff, "--out", tmp_path / "a.zarr", "--tiff", tiff, *options), "is the image itself")
    refused(
        run("auto", stack, "--out", tmp_path / "a.zarr", "--coco", stack, *options), "is the image itself"
    )
    refused(run("segment", stack, *MARKS, "--out", stack / "0" / "m.png", *options), "inside the image")
    create_labels(open_volume(tiff), tmp_path / "labels.zarr")
    measured = ("measure", tiff, "--labels", tmp_path / "labels.zarr", "--overwrite", "--out")
    refused(run(*measured, tiff), "is the image itself")
    refused(run(*measured, tmp_path / "labels.zarr" / "zarr.json"), "in the labels to measure")
    assert tiff.read_bytes() == before and LabelVolume.open(tmp_path / "labels.zarr").object_ids() == []
    of_a_set = write_ome_tiff_set(tmp_path, small_stack(4).astype(np.uint16))
    refused(run("segment", of_a_set, *MARKS, "--out", tmp_path / "1.ome.tif", *options), "the image itself")


def test_labels_of_a_session_are_changed_by_it_alone(
    run: Run, stack: Path, weights: Path, tmp_path: Path
) -> None:
    session = open_session(open_volume(stack))
    mask = np.zeros(session.volume.plane_shape("z"), bool)
    mask[5:20, 6:30] = True
    session.accept(PlaneRef("z", 2), mask)
    out = session.labels.path
    refused(
        run("propagate", stack, *MARKS, "--model", weights, "--out", out, "--overwrite"),
        "belongs to the session",
    )
    refused(run("auto", stack, "--model", weights, "--out", out, "--overwrite"), "belongs to the session")
    session.close()
    refused(run("replay", out.parent.parent, "--out", out, "--overwrite"), "belongs to the session")
    assert np.array_equal(LabelVolume.open(out).read_plane("z", 2) == 1, mask)


def test_a_full_disk_is_one_line(run: Run, stack: Path, weights: Path, tmp_path: Path) -> None:
    options = (stack, *MARKS, "--model", weights, "--out")
    (tmp_path / "m.png").symlink_to("/dev/full")
    refused(run("segment", *options, tmp_path / "m.png"), "already exists")
    (tmp_path / f".part-{os.getpid()}-n.png").symlink_to("/dev/full")
    refused(run("segment", *options, tmp_path / "n.png"), "cannot write", "No space left")


def test_weights_of_another_network(run: Run, stack: Path, tmp_path: Path) -> None:
    options = (stack, *MARKS, "--out", tmp_path / "m.png", "--model")
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    refused(run("segment", *options, tmp_path / "other.safetensors"), "not the weights of a Segment Anything")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00")
    refused(run("segment", *options, tmp_path / "torn.safetensors"), "cannot be read as weights")


def test_usage_errors_have_the_same_status(run: Run, stack: Path) -> None:
    for args in (
        ("propagate", stack),
        ("fly",),
        ("segment", stack, "--out"),
        ("info", stack, "--channel", "x"),
    ):
        found = run(*args)
        assert found.exit_code == 2 and "Traceback" not in found.output


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nGPU 0 has 8 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
    ids=["CUDA", "MPS", "CPU", "Python"],
)
def test_too_little_memory_is_one_line(
    run: Run, stack: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("src_core.volumes.open_volume", fail)
    refused(run("info", stack), "out of memory", "--device cpu")
    assert len(run("info", stack).stderr.strip().splitlines()) == 1


def test_other_failures_of_the_program_are_not_hidden(
    run: Run, stack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr("src_core.volumes.open_volume", fail)
    assert isinstance(run("info", stack).exception, RuntimeError)


def test_data_sets_without_truth(run: Run, weights: Path, stack: Path, tmp_path: Path) -> None:
    options = ("evaluate", "--data", tmp_path, "--model", weights, "--out", tmp_path / "o", "--sets")
    refused(run(*options, "cells"), "cells.ome.zarr", "labels/ground_truth")
    (tmp_path / "flat").mkdir()
    np.savez(tmp_path / "flat" / "0.npz", image=np.zeros((9, 9)))
    refused(run(*options, "flat"), "0.npz", "labels")
    assert not (tmp_path / "o").exists()


def test_training_input(run: Run, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    np.savez(images / "a.npz", image=np.zeros((40, 40), np.uint8))
    refused(run("train", "--out", tmp_path / "o", "--images", images), "a.npz", "labels")
    (tmp_path / "samples.toml").write_text("[samples]\ncolour = 3\n")
    refused(run("train", "--out", tmp_path / "o", "--config", tmp_path / "samples.toml"), "samples colour")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "state.pt").write_bytes(b"PK\x03\x04 half a state")
    refused(run("train", "--out", tmp_path / "torn"), "state.pt", "damaged")
    refused(run("train", "--out", tmp_path / "o", "--images", tmp_path / "none"), "no .npz")
    refused(run("train", "--out", tmp_path / "o", "--config", tmp_path / "none.toml"), "none.toml")
    (tmp_path / "bad.toml").write_text("steps = ")
    refused(run("train", "--out", tmp_path / "o", "--config", tmp_path / "bad.toml"), "not valid TOML")
    refused(run("demo", "--headless", "--sample", "moon", "--out", tmp_path), "no sample is called 'moon'")
    refused(run("models", "--download", "moon"), "no model is called 'moon'")


def test_embeddings_that_have_no_place(run: Run, stack: Path, weights: Path, tmp_path: Path) -> None:
    embed = ("embed", stack, "--model", weights)
    (tmp_path / "file").write_text("x")
    refused(run(*embed, "--embeddings", tmp_path / "file"), "is a file")
    refused(run(*embed, "--embeddings", stack), "zarr image")
    refused(run(*embed, "--range", "4:99"), "4:99", "0:6")
    refused(run(*embed, "--range", "4"), "START:STOP")
    refused(run(*embed, "--axis", "t"), "'t'")
    refused(run(*embed, "--channel", "3"), "c=3")
    refused(run(*embed, "--time", "3"), "t=3")
    refused(run("embed", tmp_path / "nowhere.zarr", "--model", weights), "does not exist")
    assert not (stack.parent / "cells.sam.zarr").exists()
    refused(run(*embed, "--max-size", "0.0003"), "GB", "--max-size")


def test_labels_of_another_image_are_not_measured(run: Run, stack: Path, tmp_path: Path) -> None:
    other = open_volume(small_stack()[:, :40])
    create_labels(other, tmp_path / "labels.zarr")
    out = tmp_path / "cells.csv"
    found = run("measure", stack, "--labels", tmp_path / "labels.zarr", "--out", out)
    refused(found, "not those of the image", "y=40", "y=48", "Choose the labels")
    assert not out.exists()
