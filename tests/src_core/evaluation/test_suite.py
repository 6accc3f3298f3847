"""The benchmark as a whole: which slices and which rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from src_core import Candidates, Prompts, open_volume
from src_core import evaluation as ev
from src_core.errors import VolumeError
from src_core.evaluation.suite import run_suite, slices_2d
from src_core.labels import LabelVolume
from tests.src_core.image_files import write_ome_zarr


class BrightPixels:
    """Answers with everything bright; a network's stand-in."""

    def embed(self, plane: np.ndarray) -> np.ndarray:
        return plane

    def predict(self, embedding: np.ndarray, prompts: Prompts) -> Candidates:
        mask = (embedding > 100)[None]
        return Candidates(
            mask, np.ones(1, np.float32), np.ones((1, 4, 4), np.float32), (0.0, 0.0, 16.0, 16.0)
        )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    truth = np.zeros((52, 16, 16), np.bool_)
    truth[:, 4:12, 4:12] = True
    path = write_ome_zarr(tmp_path / "cells_a.ome.zarr", [np.where(truth, 200, 5).astype(np.uint8)])
    labels = LabelVolume.create_in(open_volume(path), "ground_truth")
    for z, mask in enumerate(truth):
        labels.write_plane("z", z, {1: mask})
    (tmp_path / "flat").mkdir()
    np.savez(tmp_path / "flat" / "0.npz", image=truth[0] * 200, labels=truth[0].astype(np.uint8))
    return tmp_path


def test_every_tenth_slice_is_an_image(data: Path) -> None:
    samples = list(slices_2d(data / "cells"))
    assert [s.path.name for s in samples] == [f"cells_a_z{z:04d}.npz" for z in (5, 15, 25, 35, 45)]
    assert all(s.ids == (1,) and s.image.max() == 200 for s in samples)


def test_rows_for_images_slices_and_volumes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def same_mask(predictor: object, **options: object) -> object:
        return lambda volume, z0, mask: np.repeat(mask[None], len(volume), 0)

    monkeypatch.setattr("src_core.evaluation.propagation.propagation_of", same_mask)
    seen: list[tuple[int, int, str]] = []
    result = run_suite(BrightPixels(), data, ["flat", "cells"], 3, lambda *step: seen.append(step))
    assert list(result.summary_2d) == ["flat", "cells slices"]
    assert list(result.summary_3d) == ["cells, true slice", "cells, one click"]
    assert all(row["mIoU@1"] == 1 for row in result.summary_2d.values())
    assert all(row["IoU"] == 1 for row in result.summary_3d.values())
    assert result.summary_2d["cells slices"]["objects"] == 3
    assert seen[0] == (0, 4, "flat, 2D") and seen[-1] == (4, 4, "")
    assert json.loads(result.to_json())["3D"]["cells, one click"]["Dice"] == 1
    with pytest.raises(VolumeError, match="no set 'tissue'"):
        run_suite(BrightPixels(), data, ["tissue"])


def test_volumes_without_truth_are_refused_before_anything_is_measured(data: Path) -> None:
    class Unasked(BrightPixels):
        def embed(self, plane: np.ndarray) -> np.ndarray:
            raise AssertionError("nothing should be measured")

    write_ome_zarr(data / "cells_b.ome.zarr", [np.zeros((3, 16, 16), np.uint8)])
    with pytest.raises(VolumeError, match=r"cells_b\.ome\.zarr has no labels/ground_truth"):
        run_suite(Unasked(), data, ["flat", "cells"])
    for draw in (slices_2d(data / "cells"), ev.objects_3d(data, "cells")):
        with pytest.raises(VolumeError, match=r"cells_b\.ome\.zarr"):
            list(draw)


def test_truth_of_another_shape_is_refused(data: Path) -> None:
    truth = data / "cells_a.ome.zarr" / "labels" / "ground_truth" / "0"
    shutil.rmtree(truth)
    with pytest.raises(VolumeError, match="ground_truth"):
        ev.read_truth(data / "cells_a.ome.zarr")
    zarr.create_array(truth, shape=(52, 16, 8), dtype="u4")
    with pytest.raises(VolumeError, match=r"\(52, 16, 16\) and \(52, 16, 8\)"):
        ev.read_truth(data / "cells_a.ome.zarr")


def test_an_empty_start_goes_nowhere() -> None:
    truth = np.zeros((5, 16, 16), np.int32)
    truth[1:4, 4:8, 4:8] = 1
    sample = ev.Sample3D(Path("x"), truth * 50.0, truth, 1)  # too dark for BrightPixels
    (result,) = ev.evaluate_3d(BrightPixels(), [sample], BrightPixels()).objects
    assert result.start_iou == 0 and result.iou == 0 and result.n_slices == 3
