"""`napari-sam auto`: a slice and a stack, in every format, interrupted and continued."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from src_core.labels import LabelVolume
from src_core.synthetic import make_stack
from src_core.tracking import read_ctc
from tests.src_core.cli.conftest import Run
from tests.src_core.image_files import write_ome_zarr

FEW = ("--points-per-side", "18")


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    stack = make_stack(8_000_304, (4, 96, 96), "nuclei", 10.0)
    return write_ome_zarr(tmp_path / "nuclei.ome.zarr", [stack.image])


def test_a_stack_in_all_formats(run: Run, nuclei: Path, tmp_path: Path) -> None:
    out, tiff, coco = tmp_path / "objects.zarr", tmp_path / "o.tif", tmp_path / "coco"
    found = run("auto", nuclei, "--out", out, "--tiff", tiff, "--coco", coco, *FEW)
    assert found.exit_code == 0, found.output
    labels = LabelVolume.open(out)
    stack = np.stack([labels.read_plane("z", z) for z in range(4)])
    ids = set(np.unique(stack)) - {0}
    assert len(ids) >= 3 and f"{len(ids)} objects" in found.output and "least sure at z=" in found.output
    assert np.array_equal(tifffile.imread(tiff), stack)
    files = sorted(coco.glob("*.json"))
    assert len(files) == sum(plane.any() for plane in stack)
    content = json.loads(files[0].read_text())
    assert all(0 < a["predicted_iou"] <= 1 for a in content["annotations"])
    again = run("auto", nuclei, "--out", out, *FEW)
    assert again.exit_code == 2 and "already exists" in again.output


@pytest.mark.parametrize("name", ["a.json", "a.tif", "a.zarr"])
def test_one_slice(run: Run, nuclei: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    found = run("auto", nuclei, "--plane", 2, "--out", out, *FEW)
    assert found.exit_code == 0 and f"wrote {out}" in found.output, found.output
    count = int(found.output.split(" objects")[0].split()[-1])
    assert count >= 3
    if name == "a.json":
        assert len(json.loads(out.read_text())["annotations"]) == count
    elif name == "a.tif":
        assert len(np.unique(tifffile.imread(out))) == count + 1
    else:
        labels = LabelVolume.open(out)
        assert len(np.unique(labels.read_plane("z", 2))) == count + 1 and not labels.read_plane("z", 1).any()


def test_a_series_is_followed(run: Run, tmp_path: Path) -> None:
    stack = make_stack(8_000_304, (3, 96, 96), "nuclei", 10.0)
    frames = np.stack([np.roll(stack.image[1], 2 * t, 1) for t in range(3)])
    tifffile.imwrite(tmp_path / "a.ome.tif", frames, metadata={"axes": "TYX"})
    found = run(
        "auto", tmp_path / "a.ome.tif", "--out", tmp_path / "a.zarr", "--tracks", tmp_path / "res", *FEW
    )
    assert found.exit_code == 0 and " tracks, " in found.output, found.output
    tracking, images = read_ctc(tmp_path / "res")
    assert len(images) == 3 and len(tracking.tracks) >= 4
    refused = run(
        "auto", samples_folder() / "plant_nuclei.ome.tif", "--out", tmp_path / "b.zarr", "--tracks", "c"
    )
    assert refused.exit_code == 2 and "no time axis" in refused.output


def test_a_film_of_planes_has_no_slices_to_choose(run: Run, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 32, 32), np.uint8), metadata={"axes": "TYX"})
    refused = run("auto", tmp_path / "a.ome.tif", "--out", tmp_path / "a.zarr", "--plane", 1)
    assert refused.exit_code == 2 and "which has no slices" in refused.output


def test_exports_that_failed_are_made_up_for_without_searching_again(
    run: Run, nuclei: Path, tmp_path: Path
) -> None:
    out = tmp_path / "objects.zarr"
    (tmp_path / "file").write_text("in the way")
    found = run("auto", nuclei, "--out", out, "--tiff", tmp_path / "file" / "o.tif", *FEW)
    assert found.exit_code == 2 and "cannot write" in found.output, found.output
    coco, tiff = tmp_path / "coco", tmp_path / "o.tif"
    coco.mkdir()
    found = run("auto", nuclei, "--out", out, "--tiff", tiff, "--coco", coco, *FEW)
    assert found.exit_code == 0 and "went on from an unfinished run" in found.output, found.output
    labels = LabelVolume.open(out)
    assert np.array_equal(tifffile.imread(tiff), np.stack([labels.read_plane("z", z) for z in range(4)]))
    assert list(coco.glob("*.json"))


def test_a_run_that_was_killed_while_it_exported_goes_on(
    run: Run, nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--out", tmp_path / "o.zarr", "--tiff", tmp_path / "o.tif", "--coco", tmp_path / "coco", *FEW)

    def killed(*_: object, **__: object) -> None:
        (tmp_path / "coco").mkdir()
        (tmp_path / "coco" / "z00000.json").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("src_core.automatic.exporting.labels_to_coco", killed)
        assert run("auto", nuclei, *options).exit_code == 130
    assert (tmp_path / "o.tif").exists()
    found = run("auto", nuclei, *options)
    assert found.exit_code == 0, found.output
    assert all(json.loads(p.read_text())["annotations"] for p in (tmp_path / "coco").glob("*.json"))


@pytest.mark.parametrize("option", ["--coco", "--tracks"])
def test_files_in_a_folder_are_not_replaced_by_accident(
    run: Run, nuclei: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "res_track.txt").write_text("1 0 2 0")
    found = run("auto", nuclei, "--out", tmp_path / "a.zarr", option, tmp_path / "full", *FEW)
    assert found.exit_code == 2 and "has files in it already" in found.output
    found = run("auto", nuclei, "--out", tmp_path / "a.zarr", option, tmp_path / "full" / "res_track.txt")
    assert found.exit_code == 2 and "is a file; name a folder" in found.output


@pytest.mark.parametrize(
    ("only", "ignored"),
    [
        (("--plane", 1), ("--link",)),
        (("--plane", 1), ("--min-slices", 3)),
        (("--plane", 1), ("--embeddings", "kept")),
        (("--tracks", "res"), ("--axis", "y")),
        (("--tracks", "res"), ("--embeddings", "kept")),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    run: Run, nuclei: Path, tmp_path: Path, only: tuple[str | int, ...], ignored: tuple[str | int, ...]
) -> None:
    found = run("auto", nuclei, "--out", tmp_path / "a.zarr", *only, *ignored)
    assert found.exit_code == 2 and f"{ignored[0]} cannot be given" in found.output, found.output


@pytest.mark.parametrize(
    ("option", "name"), [("--tiff", "a.zarr"), ("--coco", "a.zarr/coco"), ("--tracks", "a.zarr")]
)
def test_exports_do_not_lie_in_the_labels(
    run: Run, nuclei: Path, tmp_path: Path, option: str, name: str
) -> None:
    found = run("auto", nuclei, "--out", tmp_path / "a.zarr", option, tmp_path / name, *FEW)
    assert found.exit_code == 2 and "choose another path" in found.output
    assert not (tmp_path / "a.zarr").exists()


def samples_folder() -> Path:
    from src_core import samples

    return Path(samples.__file__).parent


def test_linking_is_chosen_by_an_option(run: Run, nuclei: Path, tmp_path: Path) -> None:
    found = run("auto", nuclei, "--out", tmp_path / "a.zarr", "--link", *FEW)
    assert found.exit_code == 0 and "objects" in found.output, found.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "a.png", "--plane", "1"), "must end in .json, .tif or .zarr"),
        (("--out", "a.zarr", "--min-score", "2"), "min_score must be from 0 to 1"),
        (("--out", "a.zarr", "--plane", "99"), "out of range"),
        (("--out", "a.tif", "--plane", "1", "--coco", "c"), "--coco cannot be given for one slice"),
        (("--out", "a.png"), "must end in .zarr"),
        (("--out", "a.zarr", "--plane", "1", "--range", "0:2"), "--range cannot be given for one slice"),
        (
            ("--out", "a.zarr", "--tracks", "c", "--plane", "1", "--tiff", "t.tif"),
            "--plane and --tiff cannot be given for a whole time series",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, nuclei: Path, options: tuple[str, ...], words: str
) -> None:
    found = run("auto", nuclei, *options)
    assert found.exit_code == 2 and words in found.output, found.output
