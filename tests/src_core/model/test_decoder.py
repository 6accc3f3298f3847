"""Prompt encoder and mask decoder against the plain formulas, on a network small enough to run at once."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from src_core.model.mask_decoder import MaskDecoder
from src_core.model.prompt_encoder import PromptEncoder
from src_core.model.sam import Sam
from src_core.model.transformer import TwoWayTransformer
from tests.benchmarks import eager_sam

DIM, GRID = 32, 8


def _sam() -> Sam:
    torch.manual_seed(0)
    transformer = TwoWayTransformer(depth=2, embedding_dim=DIM, num_heads=4, mlp_dim=64)
    encoder = PromptEncoder(DIM, (GRID, GRID), (16 * GRID, 16 * GRID))
    sam = Sam(torch.nn.Identity(), encoder, MaskDecoder(DIM, transformer)).eval()
    for name, value in sam.named_parameters():
        value.data.normal_(std=0.5 if "bias" in name else value[0].numel() ** -0.5 if value.ndim > 1 else 1.0)
    return sam


def _points(batch: int, count: int) -> tuple[Tensor, Tensor]:
    return torch.rand(batch, count, 2) * 16 * GRID, torch.randint(0, 2, (batch, count))


@pytest.mark.parametrize("count", [1, 4, 40])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("places", [1, 4096])
def test_answers_equal_the_plain_formulas(
    count: int, batch: int, masked: bool, grad: bool, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether tokens are folded or the image is projected, for many prompts or one at a time."""
    monkeypatch.setattr("src_core.model.mask_decoder.PLACES", places)
    monkeypatch.setattr("src_core.model.mask_decoder.STRIP", 24)
    sam, image = _sam(), torch.randn(1, DIM, GRID, GRID)
    masks = torch.randn(batch, 1, 4 * GRID, 4 * GRID) if masked else None
    points = _points(batch, count)
    with torch.set_grad_enabled(grad):
        for _ in range(2):  # the second time from what was kept
            found = sam.decode((image,), points, masks=masks)
            logits, iou = eager_sam.decode(sam, image, points, masks=masks)
            torch.testing.assert_close(found.logits, logits, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(found.iou, iou, atol=1e-4, rtol=1e-4)


def test_other_images_and_other_weights_are_not_answered_from_what_was_kept() -> None:
    sam, points = _sam(), _points(2, 1)
    images = [torch.randn(1, DIM, GRID, GRID) for _ in range(6)]
    first = sam.mask_decoder.transformer.layers[0]
    with torch.no_grad():
        for image in (*images, *images):
            expected = eager_sam.decode(sam, image, points)[0]
            torch.testing.assert_close(sam.decode((image,), points).logits, expected, atol=1e-4, rtol=1e-4)
        changes = [
            lambda: first.cross_attn_token_to_image.v_proj.weight.mul_(2),
            lambda: sam.prompt_encoder.no_mask_embed.weight.add_(1),
            lambda: sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.mul_(1.5),
            lambda: sam.load_state_dict({k: 0.9 * v for k, v in sam.state_dict().items()}, assign=True),
            lambda: images[-1].add_(1),
        ]
        for change in changes:
            before = sam.decode((images[-1],), points).logits
            change()
            found = sam.decode((images[-1],), points).logits
            assert not torch.allclose(found, before, atol=1e-3)
            expected = eager_sam.decode(sam, images[-1], points)[0]
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_what_is_kept_does_not_travel_with_copies() -> None:
    sam, points, image = _sam(), _points(1, 1), torch.randn(1, DIM, GRID, GRID)
    with torch.inference_mode():
        expected = sam.decode((image,), points).logits
        for other in (copy.deepcopy(sam), pickle.loads(pickle.dumps(sam))):
            assert not other.mask_decoder._images._entries
            torch.testing.assert_close(other.decode((image,), points).logits, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_every_decoder_weight_learns_as_in_the_plain_formulas(masked: bool) -> None:
    sam, image, points = _sam(), torch.randn(1, DIM, GRID, GRID), _points(2, 2)
    masks = torch.randn(2, 1, 4 * GRID, 4 * GRID) if masked else None
    gradients = []
    for decode in (lambda: sam.decode((image,), points, masks=masks)[:2], None):
        sam.zero_grad()
        logits, iou = decode() if decode else eager_sam.decode(sam, image, points, masks=masks)
        (logits.square().mean() + iou.square().mean()).backward()
        gradients.append({k: p.grad.clone() for k, p in sam.named_parameters() if p.grad is not None})
    own, plain = gradients
    # What the single mask alone uses, and a bias that softmax takes no notice of.
    unused = {k for k in plain if ".0." in k and "hypernetworks" in k} | {
        k for k in plain if "k_proj.bias" in k
    }
    assert own.keys() | unused == plain.keys() | unused
    for name in own.keys() - unused:
        torch.testing.assert_close(own[name], plain[name], atol=1e-4, rtol=1e-3, msg=name)
