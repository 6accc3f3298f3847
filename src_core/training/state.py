"""What a training run changes: weights, their moving average and the optimisers; kept on disk to go on with."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from src_core.errors import CheckpointError
from src_core.files import write_atomically
from src_core.model.nano import Nano, build_nano
from src_core.training.config import UNDECIDING, TrainConfig
from src_core.training.muon import Muon, is_matrix
from src_core.zoo import choose_device, read_state_dict

MAX_NORM = 3.0
"""Longer gradients are shortened to it."""


class State:
    """The network, its exponential moving average and its optimisers, on the device of the run.

    Parameters
    ----------
    config
        The run.
    files
        The images it may see.

    Raises
    ------
    SamError
        `config.device` is not available.
    CheckpointError
        `config.start` is of another network.
    """

    def __init__(self, config: TrainConfig, files: list[Path]) -> None:
        self.config, self.files = config, files
        model = build_nano()
        if config.start is not None:
            begin_with(model, config.start)
        device = choose_device(config.device)
        self.model: Nano = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.optimisers = _optimisers(self.model, config)

    def step(self, loss: torch.Tensor, rate: float, decay: float) -> float:
        """Go down the gradient of a loss, let the average follow, and return the gradient's norm."""
        self.model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self._follow(decay)
        return float(norm)

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        state = self.model.state_dict()
        drifts = [name for name, value in state.items() if value.dtype.is_floating_point]
        torch._foreach_lerp_([self.average[n] for n in drifts], [state[n] for n in drifts], 1 - decay)
        for name in state.keys() - set(drifts):
            self.average[name].copy_(state[name])

    @property
    def _file(self) -> Path:
        return self.config.out / "state.pt"

    def save(self, step: int) -> None:
        """Write all of it after `step` steps, and the average as the weights."""
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimisers": [o.state_dict() for o in self.optimisers],
            "config": json.dumps(asdict(self.config), default=str),
            "files": [file.name for file in self.files],
        }
        write_atomically(self._file, lambda part: torch.save(state, part))
        half = {
            k: (v.half() if v.dtype.is_floating_point else v).cpu().contiguous()
            for k, v in self.average.items()
        }
        write_atomically(self.config.out / "nano.safetensors", lambda part: save_file(half, part))

    def resume(self) -> int:
        """Take what `save` wrote, if there is anything, and return the number of steps done.

        Raises
        ------
        CheckpointError
            It is damaged, of a run with other settings or of another network.
        """
        if not self._file.exists():
            return 0
        state, before, names = self._read()
        now = json.loads(json.dumps(asdict(self.config), default=str))
        changed = [k for k in now if k not in UNDECIDING and now[k] != before.get(k)]
        if names != [file.name for file in self.files]:
            changed.append("images")
        if changed:
            raise CheckpointError(
                f"{self._file} belongs to a run with other settings ({', '.join(changed)}); choose another folder "
                "or remove it"
            )
        try:
            self.model.load_state_dict(state["model"])
            for name, value in self.average.items():
                value.copy_(state["average"][name])
            for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
            return int(state["step"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self._file} is not a state of this network; remove it or choose another folder"
            ) from error

    def _read(self) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        try:
            state = torch.load(self._file, map_location="cpu", weights_only=True)
            names = state.get("files", [file.name for file in self.files])
            return state, json.loads(state["config"]), names
        # On damaged files torch.load raises whatever its reader trips over: OSError, EOFError, KeyError, ...
        except Exception as error:
            raise CheckpointError(
                f"{self._file} cannot be read as the state of a run ({type(error).__name__}): it is damaged. "
                "Remove it to begin anew, or choose another folder"
            ) from error


def begin_with(model: Nano, weights: Path) -> set[str]:
    """Take what fits from weights of this network or of an earlier form of it; return the names of that."""
    own = model.state_dict()
    known = {k: _grown(v, own[k]) for k, v in read_state_dict(weights).items() if k in own}
    known = {k: v for k, v in known.items() if v.shape == own[k].shape}
    if len(known) < len(own) / 2:
        raise CheckpointError(f"{weights} cannot be trained further as nano: {len(known)} of its tensors fit")
    model.load_state_dict(known, strict=False)
    return set(known)


def _grown(value: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Add inputs that count nothing yet to a layer that had fewer."""
    missing = own.shape[1] - value.shape[1] if value.ndim == own.ndim > 1 else 0
    if missing <= 0 or value.shape[0] != own.shape[0] or value.shape[2:] != own.shape[2:]:
        return value
    return torch.cat([value, value.new_zeros(len(value), missing, *value.shape[2:])], 1)


def _optimisers(model: Nano, config: TrainConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Return Muon for what mixes features, and AdamW for the rest; vectors do not decay."""
    matrices = [p for name, p in model.named_parameters() if is_matrix(name, p)]
    rest = [p for name, p in model.named_parameters() if not is_matrix(name, p)]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    return (
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98)),
        Muon(matrices, config.learning_rate, config.weight_decay),
    )
