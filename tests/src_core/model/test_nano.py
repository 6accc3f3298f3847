"""nano: its size, its frames, and that a tile may be smaller than the frame or lie elsewhere in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from src_core import zoo
from src_core.model.builder import build_sam
from src_core.model.nano import Nano, build_nano
from src_core.model.nano_encoder import SIZE_MULTIPLE_PX, STRIDE_PX, TILE_PX
from tests.src_core.networks import random_nano


def _half(model: Nano) -> dict[str, torch.Tensor]:
    return {
        k: v.half().contiguous() if v.dtype.is_floating_point else v.clone()
        for k, v in model.state_dict().items()
    }


def test_the_shipped_weights_fit_into_sixteen_megabytes(tmp_path: Path) -> None:
    save_file(_half(build_nano()), tmp_path / "nano.safetensors")
    assert (tmp_path / "nano.safetensors").stat().st_size < 16e6


def test_weights_come_back_through_the_zoo(tmp_path: Path) -> None:
    model = random_nano()
    save_file(_half(model), tmp_path / "any_name.safetensors")
    loaded = zoo.load_model(tmp_path / "any_name.safetensors", "cpu")
    assert loaded.network == "nano"
    assert isinstance(loaded.sam, Nano)
    assert not loaded.sam.training
    own, other = model.state_dict(), loaded.sam.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[k].half().float(), other[k]) for k in own if own[k].dtype.is_floating_point)
    assert all(v.dtype in (torch.float32, torch.int64) for v in other.values())


def test_the_builder_knows_it() -> None:
    model = build_sam("nano")
    assert isinstance(model, Nano)
    assert model.native_tiles
    assert model.image_size == TILE_PX
    assert not model.training


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 512), (64, 96), (512, 512), (160, 32)])
def test_any_tile_whose_sides_are_multiples_of_32(height: int, width: int) -> None:
    assert height % SIZE_MULTIPLE_PX == width % SIZE_MULTIPLE_PX == 0
    model = random_nano()
    with torch.inference_mode():
        features = model.encode(torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0)))
        assert features[0].shape == (1, 96, height // STRIDE_PX, width // STRIDE_PX)
        points = (torch.tensor([[[5.0, 6.0]], [[20.0, 9.0]]]), torch.ones(2, 1, dtype=torch.int64))
        many = model.decode(features, points)
        single = model.decode(features, points, multimask_output=False)
        masked = model.decode(features, masks=many.logits[:, :1], multimask_output=False)
    assert many.logits.shape == (2, 3, height // 2, width // 2)
    assert many.iou.shape == (2, 3)
    assert many.presence is not None
    assert many.presence.shape == (2,)
    assert single.logits.shape == masked.logits.shape == (2, 1, height // 2, width // 2)
    assert all(x.isfinite().all() for x in (many.logits, many.iou, many.presence, masked.logits))


def test_several_tiles_at_once_answer_as_one_by_one() -> None:
    model = random_nano()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    coords = torch.rand(6, 1, 2, generator=generator) * 60
    labels = torch.ones(6, 1, dtype=torch.int64)
    with torch.inference_mode():
        together = model.decode_all(model.encode(images), (coords, labels), None, None)
        for g in range(2):
            part = slice(3 * g, 3 * g + 3)
            alone = model.decode_all(
                model.encode(images[g : g + 1]), (coords[part], labels[part]), None, None
            )
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[part], b, atol=2e-4, rtol=1e-4)


def test_the_grid_offset_says_where_the_tile_lies_in_the_frame() -> None:
    """A tile in the corner of the frame is that tile at offset 0; elsewhere its positions are others."""
    model = random_nano()
    with torch.inference_mode():
        features = model.encode(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
        points = (torch.tensor([[[100.0, 200.0]]]), torch.ones(1, 1, dtype=torch.int64))
        at = [
            model.decode_all(features, points, None, None, offset)[0] for offset in ((0, 0), (20, 10), (0, 0))
        ]
        assert torch.equal(at[0], at[2])
        assert not torch.allclose(at[0], at[1], atol=1e-3)
        # rows first: the positional encoding of the grid cell (20, 10) is where the tile starts
        pe = model.prompt_encoder.get_dense_pe()
        centre = torch.tensor([[[10 * STRIDE_PX + 3.5, 20 * STRIDE_PX + 3.5]]])
        torch.testing.assert_close(model.prompt_encoder._encode(centre)[0, 0], pe[0, :, 20, 10])


def test_extreme_dense_prompts_are_tamed() -> None:
    model = random_nano()
    with torch.inference_mode():
        features = model.encode(torch.zeros(1, 3, 32, 32))
        a, b = (model.decode(features, masks=torch.full((1, 1, 16, 16), v)).logits for v in (10.0, 1e6))
    assert torch.equal(a, b)
