"""Names, shapes and formulas of the image encoders, on networks small enough to run at once."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from src_core.errors import CheckpointError
from src_core.model import image_encoder
from src_core.model.builder import build_sam, network_names
from src_core.model.common import ConvNorm
from src_core.model.image_encoder import Attention, ImageEncoderViT, ViTConfig, WindowIndex
from src_core.model.tiny_vit import TinyViT
from tests.benchmarks import eager_sam
from tests.src_core.model.golden import NETWORKS, keys


def _drawn(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for name, value in module.named_parameters():
        scale = 1.0 if "rel_pos" in name or "attention_biases" in name else value[0].numel() ** -0.5
        value.data.normal_(std=scale, generator=generator)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(generator=generator)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2, generator=generator)
    return module.eval()


def _vit(adapters: bool, grid: int = 17) -> ImageEncoderViT:
    return ImageEncoderViT(ViTConfig(24, 2, 3, (1,), image_size=16 * grid, adapters=adapters), out_dim=8)


@pytest.mark.parametrize("network", NETWORKS)
def test_names_and_shapes_are_the_checkpoints(network: str) -> None:
    with torch.device("meta"):
        sam = build_sam(network)
    assert {name: tuple(t.shape) for name, t in sam.state_dict().items()} == keys(network)
    assert not sam.training


@pytest.mark.parametrize("network", NETWORKS)
def test_index_tables_are_computed_although_weights_are_not(network: str) -> None:
    sam = build_sam(network)
    windows = [m for m in sam.modules() if isinstance(m, WindowIndex)]
    assert windows
    for w in windows:
        assert torch.equal(w.to_windows[w.from_windows], torch.arange(len(w.from_windows)))


def test_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="vit_x") as error:
        build_sam("vit_x")
    assert all(name in str(error.value) for name in network_names())


@pytest.mark.parametrize("encoder", [_vit(False), TinyViT(64)])
@pytest.mark.parametrize("shape", [(1, 3, 63, 64), (3, 64, 64), (1, 1, 64, 64)])
def test_wrong_input_shape_is_a_clear_error(encoder: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"got \("):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize(("grid", "window"), [(16, 14), (14, 7), (5, 7), (64, 14)])
def test_windows_come_back_and_the_rim_is_padding(grid: int, window: int) -> None:
    index = WindowIndex(grid, window)
    x = torch.arange(2.0 * grid * grid).reshape(2, grid * grid, 1) + 1
    windows = index.split(x, padding=torch.tensor([-1.0]))
    count = -(-grid // window)
    assert windows.shape == (2 * count**2, window**2, 1)
    assert (windows == -1).sum() == 2 * ((count * window) ** 2 - grid**2)
    expected, _ = eager_sam._windows(x.reshape(2, grid, grid, 1), window)
    assert torch.equal(windows.clamp(min=0), expected.flatten(1, 2))
    assert torch.equal(index.join(windows.reshape(2, -1, 1)), x)


@pytest.mark.parametrize("budget", [1, 50, 700, 10**9])
def test_attention_in_parts_is_attention(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attn = _drawn(Attention(24, 3, grid=7, window=None))
    x = torch.randn(2, 49, 24)
    expected = eager_sam._relative_attention(attn, x.reshape(2, 7, 7, 24)).flatten(1, 2)
    monkeypatch.setattr(image_encoder, "_BIAS_ELEMENTS_CPU", budget)
    torch.testing.assert_close(attn(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("adapters", [False, True])
def test_vit_equals_the_plain_formulas(adapters: bool) -> None:
    torch.manual_seed(0)
    encoder = _drawn(_vit(adapters, grid=18))
    image = torch.randn(2, 3, 288, 288)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(image), eager_sam.vit(encoder, image), atol=1e-4, rtol=1e-4)


def test_tiny_vit_equals_the_plain_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = _drawn(TinyViT(128)).train().eval()  # through training, so that the bias tables are made again
    image = torch.randn(2, 3, 128, 128)
    with torch.inference_mode():
        expected = eager_sam.tiny_vit(encoder, image)
        for elements in (1, 2**17, 2**30):
            monkeypatch.setattr("src_core.model.tiny_vit._STRIP_ELEMENTS", elements)
            torch.testing.assert_close(encoder(image), expected, atol=1e-4, rtol=1e-4)


def test_attention_biases_reach_the_answer_on_leaving_training() -> None:
    torch.manual_seed(0)
    encoder = _drawn(TinyViT(64).eval())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        stale = encoder(image)
        fresh = encoder.train().eval()(image)
    assert not torch.allclose(stale, fresh)


@pytest.mark.parametrize("encoder", [_vit(True, grid=16), TinyViT(64)])
def test_every_encoder_weight_learns(encoder: nn.Module) -> None:
    _drawn(encoder).train()
    encoder(torch.randn(2, 3, encoder.image_size, encoder.image_size)).square().sum().backward()
    idle = {name for name, p in encoder.named_parameters() if p.grad is None}
    assert idle <= {"norm_head.weight", "norm_head.bias", "head.weight", "head.bias"}


def test_a_norm_within_its_convolution_changes_nothing_and_follows_the_weights() -> None:
    torch.manual_seed(0)
    block, image = ConvNorm(3, 8, stride=2), torch.rand(1, 3, 20, 12)
    for _ in range(2):
        block.train()(image * 3)  # moves the running mean and variance
        plain = block.eval()(image)
        with torch.inference_mode():
            folded = block(image)
        torch.testing.assert_close(folded, plain)
        assert not folded.requires_grad and plain.requires_grad
        with torch.no_grad():
            block[0].weight.mul_(2)
            block[1].bias.add_(0.5)
    assert set(copy.deepcopy(block).state_dict()) == set(block.state_dict())


def test_a_folded_norm_follows_a_mean_and_variance_that_alone_have_moved() -> None:
    torch.manual_seed(0)
    block, image = ConvNorm(3, 8).eval(), torch.rand(1, 3, 20, 12)
    with torch.no_grad():
        before = block(image)
        block.train()(image * 3)
        after = block.eval()(image)
    torch.testing.assert_close(after, block(image))
    assert not torch.allclose(after, before, atol=1e-3)
