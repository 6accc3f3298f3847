"""The mean of weights: of this network, and of an earlier form of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from src_core.errors import CheckpointError
from src_core.model.nano import build_nano
from src_core.training.average import average

GROWN = "evidence.iou.layers.0.weight"


def test_the_mean_of_two_is_between_them_and_fits_the_network(tmp_path: Path) -> None:
    files, states = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], []
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        states.append({k: v.contiguous() for k, v in build_nano().state_dict().items()})
        save_file(states[-1], file)
    average(files, tmp_path / "mean.safetensors")
    mean = load_file(tmp_path / "mean.safetensors")
    build_nano().load_state_dict(mean)
    for name in ("image_encoder.stage4.0.0.weight", GROWN):
        assert mean[name].dtype == torch.float16
        torch.testing.assert_close(
            mean[name].float(), (states[0][name] + states[1][name]) / 2, atol=1e-3, rtol=1e-2
        )


def test_what_an_earlier_form_lacks_counts_as_zero(tmp_path: Path) -> None:
    state = {k: v.contiguous() for k, v in build_nano().state_dict().items()}
    save_file(state, tmp_path / "now.safetensors")
    save_file(state | {GROWN: state[GROWN][:, :-3].contiguous()}, tmp_path / "before.safetensors")
    average([tmp_path / "before.safetensors", tmp_path / "now.safetensors"], tmp_path / "mean.safetensors")
    mean = load_file(tmp_path / "mean.safetensors")[GROWN].float()
    torch.testing.assert_close(mean[:, -3:], state[GROWN][:, -3:] / 2, atol=1e-3, rtol=1e-2)
    torch.testing.assert_close(mean[:, :-3], state[GROWN][:, :-3], atol=1e-3, rtol=1e-2)


def test_a_block_that_an_earlier_form_lacks_does_half_as_much(tmp_path: Path) -> None:
    block = "image_encoder.smooth2.3."
    torch.manual_seed(0)
    state = {k: v.contiguous() for k, v in build_nano().state_dict().items()}
    for name in [k for k in state if k.startswith(block) and state[k].dtype.is_floating_point]:
        state[name] = torch.rand_like(state[name]) + 0.5
    save_file(state, tmp_path / "now.safetensors")
    save_file({k: v for k, v in state.items() if not k.startswith(block)}, tmp_path / "before.safetensors")
    average([tmp_path / "before.safetensors", tmp_path / "now.safetensors"], tmp_path / "mean.safetensors")
    mean = build_nano()
    mean.load_state_dict(load_file(tmp_path / "mean.safetensors"))
    now = build_nano()
    now.load_state_dict(state)
    x = torch.randn(1, 16, 8, 8)
    whole, half = (m.eval().image_encoder.smooth2[3].branch(x) for m in (now, mean))
    torch.testing.assert_close(half, whole / 2, atol=2e-2, rtol=2e-2)


def test_without_weights_there_is_no_mean(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights"):
        average([], tmp_path / "mean.safetensors")
