"""COCO's run lengths, against numbers worked out by hand and by the reference's own algorithm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from src_core.automatic import read_coco, write_coco
from src_core.automatic.coco import _from_text, _to_text, decode, encode
from src_core.errors import PromptError
from src_core.masks import PackedMask
from tests.src_core.automatic.stub import box, record


def test_runs_go_down_the_columns_and_begin_with_background() -> None:
    mask = np.zeros((3, 4), np.bool_)
    mask[1:, 1] = mask[0, 2] = True
    text = encode(PackedMask.of(mask))["counts"]
    assert _from_text(text) == [4, 3, 5]
    # 5 is written as its difference to the run two before only from the fourth run on.
    assert text == "435"
    first = np.zeros((2, 2), np.bool_)
    first[0, 0] = True
    assert _from_text(encode(PackedMask.of(first))["counts"]) == [0, 1, 3]


def test_text_as_the_reference_writes_it() -> None:
    # Characters carry five bits from "0" on; a sixth says that more follow: 1000 = 31 * 32 + 8.
    assert _to_text([1000]) == chr(48 + 0x20 + 8) + chr(48 + 0x20 + 31) + "0"
    # From the fourth on differences: 5 - 20 = -15, which five bits hold with their sign.
    assert _to_text([3, 20, 4, 5]) == "3" + chr(48 + 0x20 + 20) + "0" + "4" + chr(48 + 0x11)


@pytest.mark.parametrize("seed", range(5))
def test_any_mask_comes_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((int(rng.integers(1, 60)), int(rng.integers(1, 60)))) < rng.uniform(0.05, 0.95)
    mask[0, 0] = True
    found = decode(encode(PackedMask.of(mask)))
    assert found is not None and np.array_equal(found.unpack(), mask)


def test_an_own_reading_of_the_runs_agrees() -> None:
    mask = np.random.default_rng(1).random((17, 23)) < 0.4
    runs = _from_text(encode(PackedMask.of(mask))["counts"])
    flat = np.repeat(np.arange(len(runs)) % 2, runs)
    assert np.array_equal(flat.reshape(23, 17).T.astype(bool), mask)


def test_a_file_comes_back_with_all_numbers(tmp_path: Path) -> None:
    records = [record(box(3, 5, 9, 20), 0.75, 0.5), record(box(0, 0, 40, 60), 0.25, 1.0)]
    write_coco(tmp_path / "a.json", records, (40, 60), file_name="a.tif", ids=[7, 70_000])
    found, shape = read_coco(tmp_path / "a.json")
    assert shape == (40, 60) and list(found) == [7, 70_000]
    for got, given in zip(found.values(), records, strict=True):
        assert np.array_equal(got.mask.unpack(), given.mask.unpack())
        assert (got.area, got.score, got.stability) == (given.area, given.score, given.stability)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["annotations"][0]["bbox"] == [5, 3, 15, 6], "x, y, width, height"
    assert content["image"] == {"image_id": 0, "width": 60, "height": 40, "file_name": "a.tif"}


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "{}",
        json.dumps({"image": {"height": 4, "width": 4}, "annotations": [{"id": 1, "segmentation": {}}]}),
        json.dumps(
            {
                "image": {"height": 4, "width": 4},
                "annotations": [{"id": 1, "segmentation": {"size": [4, 4], "counts": [3, 4]}}],
            }
        ),
        json.dumps(
            {
                "image": {"height": 4, "width": 4},
                "annotations": [{"id": 1, "segmentation": {"size": [2, 2], "counts": [1, 3]}}],
            }
        ),
    ],
)
def test_other_files_are_a_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(PromptError):
        read_coco(tmp_path / "a.json")


def test_uncompressed_runs_and_empty_masks_are_read() -> None:
    found = decode({"size": [2, 3], "counts": [1, 2, 3]})
    assert found is not None and np.array_equal(found.unpack(), [[0, 1, 0], [1, 0, 0]])
    assert decode({"size": [2, 3], "counts": [6]}) is None
