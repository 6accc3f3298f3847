"""Every command doing its job on a tiny stack."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from src_core import __version__, samples, zoo
from src_core.cli import app
from src_core.cli.options import can_plot
from src_core.labels import LabelVolume
from src_core.locks import sole_writer
from src_core.predictor import Predictor
from src_core.session import open_session
from src_core.types import Candidates, PlaneRef
from src_core.volumes import open_volume
from tests.src_core.cli.conftest import Run
from tests.src_core.drawn_weights import PERMISSIVE_OPTIONS, save_random_nano, small_stack
from tests.src_core.image_files import write_ome_zarr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from src_core.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as e: print(e.code)\n"
        "heavy = {'torch', 'zarr', 'numpy', 'scipy', 'skimage', 'tifffile', 'dask', 'napari', 'pooch'}\n"
        "print('loaded:', sorted(heavy & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "propagate" in found.stdout and found.stdout.endswith("0\nloaded: []\n"), found.stdout


def test_the_module_runs_as_a_program() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "src_core.cli", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout == f"napari-sam {__version__}\n"


def test_info_shows_what_the_metadata_says(run: Run, stack: Path) -> None:
    from src_core.volumes import open_volume

    LabelVolume.create_in(open_volume(stack), "nuclei")
    found = run("info", stack)
    assert found.exit_code == 0
    for text in (
        "z=6, y=48, x=48",
        "uint8",
        "z: 2 micrometer",
        "y: 0.5",
        "6x48x48",
        "nuclei (6x48x48 uint32)",
    ):
        assert text in found.stdout


def test_models_lists_the_zoo_and_downloads(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path))
    listed = run("models")
    assert listed.exit_code == 0
    assert all(info.name in listed.stdout for info in zoo.models())
    asked = []

    def download(info: zoo.ModelInfo, progress: object) -> Path:
        asked.append(info.name)
        progress(5, 10)  # type: ignore[operator]
        return tmp_path / "file"

    monkeypatch.setattr(zoo, "download", download)
    assert run("models", "--download", "vit_t").stdout.strip() == str(tmp_path / "file")
    assert asked == ["vit_t"]


def test_an_interrupted_download_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "download", download)
    found = run("models", "--download", "vit_t")
    assert found.exit_code == 130 and "interrupted" in found.stderr


@pytest.mark.parametrize("name", ["mask.png", "mask.tif", "labels.ome.zarr"])
def test_segment_writes_the_mask(run: Run, stack: Path, weights: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "new" / name
    found = run("segment", stack, "--point", "2,22,18", "--model", weights, "--out", out)
    assert found.exit_code == 0, found.output
    assert found.stdout.count("candidate") == 3 and found.stdout.count("(saved)") == 1
    n_pixels = int(found.stdout.split("(saved)")[0].splitlines()[-1].split(",")[1].split()[0])
    if name.endswith("zarr"):
        mask = LabelVolume.open(out, "r").read_plane("z", 2) == 1
    else:
        picture = read_picture(out) if name.endswith("png") else tifffile.imread(out)
        assert picture.shape == (48, 48) and picture.dtype == np.uint8 and set(np.unique(picture)) <= {0, 255}
        mask = picture == 255
    assert np.count_nonzero(mask) == n_pixels > 0
    again = run("segment", stack, "--point", "2,22,18", "--model", weights, "--out", out)
    assert again.exit_code == 2 and "already exists" in again.stderr
    assert (
        run(
            "segment", stack, "--box", "2,10,8,30,30", "--model", weights, "--out", out, "--overwrite"
        ).exit_code
        == 0
    )


@pytest.mark.parametrize("axis", ["z", "y", "x"])
@pytest.mark.parametrize("command", ["segment", "auto"])
def test_a_tiff_of_a_slice_has_the_size_of_its_pixels(
    run: Run, weights: Path, tmp_path: Path, command: str, axis: str
) -> None:
    pixels = np.stack([small_stack()[2]] * 30)
    image = write_ome_zarr(tmp_path / "cells.ome.zarr", [pixels], scale=[2.0, 0.5, 0.25])
    which = ("--point", "12,20,18") if command == "segment" else ("--plane", "12", "--points-per-side", 2)
    found = run(command, image, *which, "--axis", axis, "--model", weights, "--out", tmp_path / "m.tif")
    assert found.exit_code == 0, found.output
    volume = open_volume(tmp_path / "m.tif")
    sizes = [size for a, size in (("z", 2.0), ("y", 0.5), ("x", 0.25)) if a != axis]
    assert volume.axes == ("y", "x") and [volume.scale[a] for a in "yx"] == sizes
    assert volume.shape == open_volume(image).plane_shape(axis)
    assert {volume.units[a] for a in "yx"} == {"micrometer"}


def test_segment_a_flat_image(run: Run, weights: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, samples.open_sample("plant_nuclei").plane(z=20).pixels)
    marks = ("--point", "35,52", "--negative", "5,5", "--box", "20,40,50,70")
    found = run("segment", image, *marks, "--model", weights, "--out", tmp_path / "m.png")
    assert found.exit_code == 0, found.output
    assert read_picture(tmp_path / "m.png").any()
    found = run("segment", image, *marks, "--model", weights, "--out", tmp_path / "m.tif")
    assert found.exit_code == 0, found.output
    assert np.array_equal(tifffile.imread(tmp_path / "m.tif"), read_picture(tmp_path / "m.png"))


def test_propagate_writes_every_object(run: Run, stack: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.ome.zarr"
    marks = "--point 2,22,18 --negative 2,2,2 --point 4,24,18 --object 7 --box 3,28,24,44,40".split()
    found = run("propagate", stack, *marks, "--model", weights, "--out", out, *PERMISSIVE_OPTIONS)
    assert found.exit_code == 0, found.output
    labels = LabelVolume.open(out, "r")
    assert labels.object_ids() == [1, 7] and labels.shape == (6, 48, 48)
    assert labels.scale == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert "object 1: z=" in found.stdout and "object 7: z=" in found.stdout
    assert not list(out.glob(".*")), "the state of the run is gone once it is complete"
    again = run("propagate", stack, *marks, "--model", weights, "--out", out)
    assert again.exit_code == 2 and "already exists" in again.stderr
    replaced = run("propagate", stack, "--point", "2,22,18", "--model", weights, "--out", out, "--overwrite")
    assert replaced.exit_code == 0 and LabelVolume.open(out, "r").object_ids() == [1]
    assert "ended at z=" in replaced.stdout


def test_propagate_warns_of_an_object_that_is_not_seen(
    run: Run, stack: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Predictor.predict_many

    def answered(self: Predictor, embedding: Any, prompts: Any, **options: Any) -> list[Candidates]:
        found = answer(self, embedding, prompts, **options)
        return [
            replace(f, masks=np.zeros_like(f.masks)) if [9.0, 9.0] in p.points_yx.tolist() else f
            for f, p in zip(found, prompts, strict=True)
        ]

    monkeypatch.setattr(Predictor, "predict_many", answered)
    options = ("--model", weights, *PERMISSIVE_OPTIONS)
    seen, blind = ("--point", "2,22,18"), ("--object", "2", "--point", "2,9,9")
    found = run("propagate", stack, *seen, *blind, "--out", tmp_path / "a.ome.zarr", *options)
    assert found.exit_code == 0, found.output
    assert "warning: object 2: the network sees nothing at its prompts on z=2" in found.stderr
    assert "object 1: z=" in found.stdout and "object 2" not in found.stdout
    found = run("propagate", stack, *blind, "--out", tmp_path / "b.ome.zarr", *options)
    assert (
        found.exit_code == 2 and "object 2 on z=2" in found.stderr and not (tmp_path / "b.ome.zarr").exists()
    )


def test_propagate_along_another_axis_and_within_a_range(
    run: Run, stack: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.ome.zarr"
    options = ("--axis", "y", "--range", "18:26", "--model", weights, "--out", out, *PERMISSIVE_OPTIONS)
    found = run("propagate", stack, "--point", "22,2,18", *options)
    assert found.exit_code == 0, found.output
    written = LabelVolume.open(out, "r").bounding_box(1)
    assert written is not None and written[0][1] >= 18 and written[1][1] <= 26


def test_propagate_along_all_axes(run: Run, stack: Path, weights: Path, tmp_path: Path) -> None:
    options = ["--model", weights, "--out", tmp_path / "a.ome.zarr", *PERMISSIVE_OPTIONS]
    found = run("propagate", stack, "--point", "2,22,18", "--axes", "zyx", *options)
    assert found.exit_code == 0, found.output
    assert "object 1: z=" in found.stdout and "wrote" in found.stdout
    labels = np.asarray(LabelVolume.open(tmp_path / "a.ome.zarr").array[:])
    assert labels[2].any() and labels.any((1, 2)).sum() > 1
    refused = run("propagate", stack, "--point", "2,22,18", "--axes", "zz", *options, "--overwrite")
    assert refused.exit_code == 2 and "axes to fuse" in refused.output
    assert np.array_equal(LabelVolume.open(tmp_path / "a.ome.zarr").array[:], labels)


def test_propagate_writes_a_pyramid_where_that_is_asked_for(run: Run, weights: Path, tmp_path: Path) -> None:
    image = np.zeros((2, 40, 1100), np.uint8)
    image[:, 10:30, 10:40] = 200
    stack, out = write_ome_zarr(tmp_path / "long.ome.zarr", [image]), tmp_path / "out.ome.zarr"
    options = ("--pyramid", "--model", weights, "--out", out, *PERMISSIVE_OPTIONS)
    found = run("propagate", stack, "--box", "0,10,10,30,40", *options)
    assert found.exit_code == 0, found.output
    levels = LabelVolume.open(out).levels
    assert [a.shape for a in levels] == [(2, 40, 1100), (2, 20, 550), (2, 10, 275)]
    assert np.array_equal(levels[2][:], levels[0][:, ::4, ::4])


def test_propagate_into_the_images_own_labels(run: Run, stack: Path, weights: Path) -> None:
    out = stack / "labels" / "cells"
    options = ("--model", weights, "--out", out, *PERMISSIVE_OPTIONS)
    assert run("propagate", stack, "--point", "2,22,18", *options).exit_code == 0
    assert "cells (6x48x48 uint32)" in run("info", stack).stdout


def test_the_demo_writes_labels_and_pictures(
    run: Run, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from src_core.volumes import open_volume

    # A few slices of the sample are enough here.
    volume = samples.open_sample("plant_nuclei")
    part = np.stack([volume.plane(z=z).pixels for z in range(22, 27)])
    monkeypatch.setattr(samples, "open_sample", lambda name: replace(open_volume(part), name=name))
    monkeypatch.setattr(samples, "sample_clicks", lambda name: [(2, 35, 52), (2, 68, 62)])
    for _ in range(2):  # a second run replaces what the first wrote
        found = run("demo", "--headless", "--out", tmp_path / "demo", "--model", weights)
        assert found.exit_code == 0, found.output
    names = {path.name for path in (tmp_path / "demo").iterdir() if path.name[0] != "."}
    assert names == {"plant_nuclei.labels.ome.zarr", "plant_nuclei.objects.png", "plant_nuclei.slices.png"}
    assert all(str(tmp_path / "demo" / name) in found.stdout for name in names)
    own = tmp_path / "mine" / "plant_nuclei.labels.ome.zarr"
    own.parent.mkdir()
    (tmp_path / "demo" / own.name).rename(own)
    before = sorted(own.rglob("*"))
    refused = run("demo", "--headless", "--out", own.parent, "--model", weights)
    assert refused.exit_code == 2 and "is not the demo's" in refused.stderr
    assert sorted(own.rglob("*")) == before and list(own.parent.iterdir()) == [own]


def test_the_demo_opens_the_plugins_window(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setitem(sys.modules, "napari", types.ModuleType("napari"))
    window = types.ModuleType("napari_sam.demo")
    window.open_demo = lambda: opened.append("window")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari_sam.demo", window)
    assert run("demo").exit_code == 0 and opened == ["window"]


def test_the_demo_without_napari_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    found = run("demo")
    assert found.exit_code == 2 and "pip install 'napari-sam-stacks[gui]'" in found.stderr


def test_without_matplotlib_plots_are_left_out_with_a_word_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util
    import tomllib

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not can_plot()
    (extra,) = re.findall(r"pip install 'napari-sam-stacks\[(\w+)\]'", capsys.readouterr().err)
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    assert [requirement.split(">")[0] for requirement in extras[extra]] == ["matplotlib"]


def test_evaluate_writes_table_json_and_plot(run: Run, weights: Path, tmp_path: Path) -> None:
    from src_core.volumes import open_volume

    data, out = tmp_path / "data", tmp_path / "results"
    image, truth = small_truth()
    path = write_ome_zarr(data / "cells_1.ome.zarr", [image])
    labels = LabelVolume.create_in(open_volume(path), "ground_truth")
    for z, plane in enumerate(truth):
        labels.write_plane("z", z, {1: plane})
    (data / "flat").mkdir()
    np.savez(data / "flat" / "0.npz", image=image[2], labels=truth[2].astype(np.uint8))
    options = ("--objects", 1, "--model", weights, "--out", out)
    found = run("evaluate", "--data", data, "--sets", "flat", "cells", *options)
    assert found.exit_code == 0, found.output
    (table_path,), (json_path,), (plot_path,) = (list(out.glob(f"*.{k}")) for k in ("md", "json", "png"))
    table = table_path.read_text()
    assert "| flat |" in table and "| cells, true slice |" in table and "| cells, one click |" in table
    assert json.loads(json_path.read_text())["2D"]["flat"]["objects"] == 1
    assert read_picture(plot_path).shape[1] > 300
    assert all(str(path) in found.stdout for path in (table_path, json_path, plot_path))

    again = run("evaluate", "--data", data, "--sets", "flat", *options)
    assert again.exit_code == 2 and "already exists" in again.stderr and table_path.read_text() == table
    with sole_writer(table_path.with_suffix("")):
        found = run("evaluate", "--data", data, "--sets", "flat", *options, "--overwrite")
    assert found.exit_code == 2 and "is being written by another run" in found.stderr
    (tmp_path / "other").mkdir()
    other = save_random_nano(tmp_path / "other" / weights.name, seed=7)
    for model, count in ((weights, 3), (other, 6)):
        found = run("evaluate", "--data", data, "--sets", "flat", *options, "--overwrite", "--model", model)
        assert found.exit_code == 0, found.output
        assert len(list(out.iterdir())) == count, "weights of the same name keep results of their own"
    assert "cells" not in table_path.read_text()
    missing = run("evaluate", "--data", data, "--sets", "nothing", *options, "--overwrite")
    assert missing.exit_code == 2 and "nothing" in missing.stderr


def read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def small_truth() -> tuple[np.ndarray, np.ndarray]:
    z, y, x = np.mgrid[:6, :32, :32]
    truth = (y - 15) ** 2 + (x - 15) ** 2 < 60
    return np.where(truth, 200, 30).astype(np.uint8), truth & (z >= 0)


def test_train_makes_weights_and_resumes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from src_core.training import loop

    images = tmp_path / "dsb2018"
    images.mkdir()
    for n in range(70):
        np.savez(images / f"{n}.npz", image=np.zeros((8, 8), np.uint8), labels=np.zeros((8, 8), np.uint8))
    seen: list[loop.TrainConfig] = []

    def train(config: loop.TrainConfig, progress: object) -> Path:
        seen.append(config)
        config.out.mkdir(exist_ok=True)
        with (config.out / "log.jsonl").open("a") as log:
            log.writelines(
                json.dumps({"step": n, "loss": 3.0 - n, "first": 0.1 * n} | ({"walk": 0.5} if n else {}))
                + "\n"
                for n in range(3)
            )
        progress(3, 3, 1.0)  # type: ignore[operator]
        return config.out / "nano.safetensors"

    monkeypatch.setattr(loop, "train", train)
    toml = tmp_path / "config.toml"
    toml.write_text("steps = 7\nlearning_rate = 1\nexcluded = ['0.npz']\n")
    out = tmp_path / "run"
    found = run("train", "--images", images, "--out", out, "--steps", 3, "--seed", 4, "--config", toml)
    assert found.exit_code == 0, found.output
    assert str(out / "nano.safetensors") in found.stdout.replace("\n", "") and (out / "training.png").exists()
    (config,) = seen
    assert (config.steps, config.seed, config.learning_rate) == (3, 4, 1.0)
    assert "0.npz" in config.excluded and 60 <= len(config.excluded) <= 61, "the test split stays out"
    toml.write_text("speed = 7\n")
    assert "unknown settings speed" in run("train", "--out", out, "--config", toml).stderr
    toml.write_text("steps = 'many'\n")
    assert "steps must be a int" in run("train", "--out", out, "--config", toml).stderr


def test_embed_fills_ahead_and_propagate_reads_it(
    run: Run, stack: Path, weights: Path, tmp_path: Path
) -> None:
    home = stack.parent / "cells.sam.zarr" / "embeddings"
    first = run("embed", stack, "--model", weights, "--range", "1:4")
    assert first.exit_code == 0, first.output
    assert f"3 tiles encoded, 0 were there already; kept in {home}" in first.stdout
    assert "3 tiles encoded, 3 were there" in run("embed", stack, "--model", weights).stdout
    chunks = {path: path.stat().st_ino for path in home.rglob("c/*/0/0")}
    assert len(chunks) == 6
    asked = ("propagate", stack, "--model", weights, "--point", "2,22,18", *PERMISSIVE_OPTIONS)
    found = run(*asked, "--out", tmp_path / "a.ome.zarr")
    assert found.exit_code == 0, found.output
    assert {path: path.stat().st_ino for path in home.rglob("c/*/0/0")} == chunks, "it only reads"
    elsewhere = tmp_path / "e"
    assert run(*asked, "--embeddings", elsewhere, "--out", tmp_path / "b.ome.zarr").exit_code == 0
    # One overview a slice; a click that is not trusted is looked at more closely through another tile.
    assert {path.parents[1].name for path in elsewhere.rglob("c/*/0/0")} == set("012345")
    a, b = (np.asarray(LabelVolume.open(tmp_path / f"{n}.ome.zarr", "r").array) for n in "ab")
    assert np.array_equal(a, b) and a.any()


@pytest.mark.parametrize("begun", ["as computed", "stored"])
def test_a_propagation_ends_with_the_embeddings_it_began_with(
    run: Run, stack: Path, weights: Path, tmp_path: Path, begun: str
) -> None:
    from src_core.cli.propagate import stored_embeddings
    from src_core.propagation.store import RunStore

    if begun == "as computed":  # then somebody embeds the image
        assert run("embed", stack, "--model", weights, "--range", "1:2").exit_code == 0
    (tmp_path / "out").mkdir()
    RunStore.begin(tmp_path / "out", {"embeddings": begun}, {})
    predictor, volume = Predictor.load(weights, "cpu"), open_volume(stack)
    store = stored_embeddings(predictor, volume, None, "z", 0, None, tmp_path / "out")
    assert (store is not None) == (begun == "stored")


def test_propagate_refuses_two_axes_for_prompts(run: Run, stack: Path, weights: Path, tmp_path: Path) -> None:
    asked = ("--model", weights, "--point", "2,22,18", "--out", tmp_path / "a.ome.zarr")
    found = run("propagate", stack, *asked, "--axes", "zyx", "--axis", "y")
    assert found.exit_code == 2 and "--axis y says another" in found.output


def test_propagate_leaves_no_embeddings_unasked(run: Run, stack: Path, weights: Path, tmp_path: Path) -> None:
    asked = ("--model", weights, "--point", "2,22,18", *PERMISSIVE_OPTIONS, "--out", tmp_path / "a.ome.zarr")
    assert run("propagate", stack, *asked).exit_code == 0
    assert not (stack.parent / "cells.sam.zarr").exists()


def test_embed_takes_2d_images_and_other_axes(run: Run, tmp_path: Path, stack: Path, weights: Path) -> None:
    flat = write_ome_zarr(tmp_path / "flat.ome.zarr", [np.eye(40, dtype=np.uint8) * 99], axes="yx")
    assert "1 tiles encoded" in run("embed", flat, "--model", weights).stdout
    assert (
        "2 tiles encoded" in run("embed", stack, "--model", weights, "--axis", "x", "--range", "5:7").stdout
    )


def test_embed_that_is_interrupted_keeps_what_is_done(
    run: Run, stack: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from src_core import frames

    real, calls = frames.encode, iter(range(99))

    def interrupted(*args: object) -> object:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(frames, "encode", interrupted)
    cut = run("embed", stack, "--model", weights)
    assert cut.exit_code == 130 and "what is finished is kept" in cut.stderr
    assert "4 tiles encoded, 2 were there already" in run("embed", stack, "--model", weights).stdout


def test_replay_makes_the_labels_of_a_session_again(run: Run, stack: Path, tmp_path: Path) -> None:
    session = open_session(open_volume(stack))
    mask = np.zeros((48, 48), bool)
    mask[5:20, 6:30] = True
    session.accept(PlaneRef("z", 2), mask)
    session.accept(PlaneRef("z", 3), mask)
    session.undo()
    labels = np.asarray(session.labels.array[:])
    session.close()
    found = run("replay", tmp_path / "cells.sam.zarr", "--out", tmp_path / "again.ome.zarr")
    assert found.exit_code == 0 and "1 edits, 1 objects" in found.output
    assert labels.any() and np.array_equal(LabelVolume.open(tmp_path / "again.ome.zarr").array[:], labels)
    again = run("replay", tmp_path / "cells.sam.zarr", "--out", tmp_path / "again.ome.zarr")
    assert again.exit_code == 2 and "already exists" in again.output
    journal = next((tmp_path / "cells.sam.zarr").rglob("*.jsonl"))
    journal.write_text(journal.read_text() + '{"edit": 99}\n{"edit": 99}\n')
    broken = run("replay", tmp_path / "cells.sam.zarr", "--out", tmp_path / "again.ome.zarr", "--overwrite")
    assert broken.exit_code == 2 and "makes no sense" in broken.output
    kept = LabelVolume.open(tmp_path / "again.ome.zarr").array[:]
    assert np.array_equal(kept, labels), "nothing is replaced by half a replay"
    nothing = run("replay", tmp_path, "--out", tmp_path / "other.ome.zarr")
    assert nothing.exit_code == 2 and "no session in" in nothing.output


def test_measure_writes_a_table_with_the_sessions_names(run: Run, stack: Path, tmp_path: Path) -> None:
    nothing = run("measure", stack, "--out", tmp_path / "cells.csv")
    assert nothing.exit_code == 2 and "labels/objects" in nothing.stderr
    session = open_session(open_volume(stack))
    mask = np.zeros(session.volume.plane_shape("z"), bool)
    mask[2:6, 3:9] = True
    session.accept(PlaneRef("z", 1), mask)
    session.rename(1, "root cell")
    session.flush()  # and another window still has it
    found = run("measure", stack, "--out", tmp_path / "cells.csv")
    assert found.exit_code == 0, found.output
    names, row = (line.split(",") for line in (tmp_path / "cells.csv").read_text().splitlines())
    values = dict(zip(names, row, strict=True))
    assert values["id"] == "1" and values["name"] == "root cell" and values["pixels"] == "24"
    assert float(values[next(n for n in names if n.startswith("volume_"))]) == 24 * 2 * 0.5 * 0.5
    again = run("measure", stack, "--out", tmp_path / "cells.csv")
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    session.close()


def test_replay_on_a_larger_version_of_the_image(run: Run, stack: Path, tmp_path: Path) -> None:
    session = open_session(open_volume(stack))
    mask = np.zeros(session.volume.plane_shape("z"), bool)
    mask[5:20, 6:30] = True
    session.accept(PlaneRef("z", 2), mask)
    session.close()
    large = np.repeat(np.repeat(np.asarray(session.volume.array[:]), 2, 1), 2, 2)
    image = write_ome_zarr(tmp_path / "large.ome.zarr", [large], scale=[2.0, 0.25, 0.25])
    found = run("replay", tmp_path / "cells.sam.zarr", "--image", image, "--out", tmp_path / "l.ome.zarr")
    assert found.exit_code == 0, found.output
    labels = LabelVolume.open(tmp_path / "l.ome.zarr")
    assert labels.shape == large.shape and labels.scale["x"] == 0.25
    assert np.array_equal(labels.read_plane("z", 2) == 1, np.kron(mask, np.ones((2, 2))) > 0)
    other = run(
        "replay", tmp_path / "cells.sam.zarr", "--image", stack / "0", "--out", tmp_path / "l.ome.zarr"
    )
    assert other.exit_code == 2 and "already exists" in other.output


def test_every_command_that_opens_an_image_is_told_its_axes() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        options = inspect.signature(command.callback).parameters
        assert ("image" in options) == ("image_axes" in options), command.callback


def test_axes_that_the_file_does_not_name(run: Run, weights: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.zarr"
    zarr.save_array(film, np.stack([small_stack(3)] * 9))
    out = tmp_path / "o.ome.zarr"
    found = run("info", film)
    assert found.exit_code == 2 and "(--image-axes tzyx)" in found.stderr
    axes = ("--image-axes", "tzyx")
    assert "t=9, z=3, y=48, x=48" in run("info", film, *axes).output
    model = (*axes, "--model", weights)
    clicked = run("segment", film, "--point", "1,22,18", "--time", "8", "--out", out, *model)
    assert clicked.exit_code == 0, clicked.output
    labels = LabelVolume.open(out, "r")
    assert labels.axes == ("t", "z", "y", "x") and labels.read_plane("z", 1, 8).any()
    options = ("--point", "1,22,18", "--out", out, "--overwrite", *PERMISSIVE_OPTIONS)
    for command in (
        ("propagate", film, *options, *model),
        ("auto", film, "--plane", "1", "--out", tmp_path / "m.json", *model),
        ("embed", film, "--range", "1:2", *model),
        ("measure", film, "--labels", out, "--out", tmp_path / "m.csv", *axes),
    ):
        done = run(*command)
        assert done.exit_code == 0, (command, done.output)
    wrong = run("info", film, "--image-axes", "zyx")
    assert wrong.exit_code == 2 and "name 3 dimensions" in wrong.stderr
    alone = run("replay", tmp_path, "--out", out, *axes)
    assert alone.exit_code == 2 and "give --image" in alone.stderr


def test_how_large_pixels_are_that_the_file_does_not_say(run: Run, weights: Path, tmp_path: Path) -> None:
    stack, out = tmp_path / "stack.zarr", tmp_path / "o.ome.zarr"
    zarr.save_array(stack, small_stack(4))
    assert "z: 1 pixel, y: 1 pixel, x: 1 pixel" in run("info", stack).output
    scale = ("--image-scale", "2,0.5,0.5")
    assert "z: 2 micrometer, y: 0.5 micrometer, x: 0.5 micrometer" in run("info", stack, *scale).output
    options = ("--point", "1,22,18", "--out", out, "--model", weights, *PERMISSIVE_OPTIONS)
    found = run("propagate", stack, *options, *scale)
    assert found.exit_code == 0, found.output
    assert dict(LabelVolume.open(out, "r").scale) == {"z": 2.0, "y": 0.5, "x": 0.5}
    for wrong, why in (("2,fine,0.5", "a number for every"), ("2,0.5", "scale"), ("0,1,1", "scale")):
        refused = run("info", stack, "--image-scale", wrong)
        assert refused.exit_code == 2 and why in refused.stderr, refused.output


def test_a_session_on_a_larger_image_whose_axes_the_file_does_not_name(run: Run, tmp_path: Path) -> None:
    small = open_volume(np.stack([small_stack(3)] * 9), axes="tzyx")
    session = open_session(small, tmp_path / "s.sam.zarr")
    session.accept(PlaneRef("z", 1, 8), small_stack(3)[1] > 100)
    session.close()
    zarr.save_array(tmp_path / "large.zarr", np.kron(small.array[:], np.ones((2, 2), np.uint8)))
    replayed = (
        "replay",
        tmp_path / "s.sam.zarr",
        "--image",
        tmp_path / "large.zarr",
        "--out",
        tmp_path / "o.zarr",
    )
    assert "--image-axes" in run(*replayed).stderr
    found = run(*replayed, "--image-axes", "tzyx")
    assert found.exit_code == 0, found.output
    assert LabelVolume.open(tmp_path / "o.zarr", "r").read_plane("z", 1, 8).any()
