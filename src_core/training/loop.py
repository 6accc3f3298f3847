"""The training loop: Muon and AdamW, cosine schedule, EMA; every checkpoint can be resumed to the same result."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Subset

from src_core.errors import CheckpointError
from src_core.files import write_atomically
from src_core.model.nano import Nano, build_nano
from src_core.training import episodes
from src_core.training.data import ImageSource, StackSource
from src_core.training.muon import Muon, is_matrix
from src_core.training.samples import Samples, check_options
from src_core.types import Cancelled
from src_core.zoo import read_state_dict

UNDECIDING = ("out", "images", "excluded", "checkpoint_every")
"""Settings that may differ when a run goes on; of the images their names count, wherever they are."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides the weights, and where they go.

    Attributes
    ----------
    out
        Folder for checkpoints, the log and the drawn stacks.
    images
        Folder of labelled `.npz` images, or None to train on synthetic stacks alone.
    excluded
        Names of files in `images` that must not be seen: the test split.
    start
        Weights to begin with, of this network or of an earlier form of it; random by default.
    steps, learning_rate, weight_decay, warmup, ema
        The schedule.
    n_stacks
        How many synthetic stacks are drawn, and a quarter as many scenes.
    seed, stacks_seed
        The first decides initial weights, what is shown of the data, and prompts; the second which stacks are drawn.
    checkpoint_every
        Steps between two checkpoints.
    samples
        Options of `Samples`, by name.

    Raises
    ------
    SamError
        `samples` has an unknown option, or a value that cannot be.
    """

    out: Path
    images: Path | None = None
    excluded: tuple[str, ...] = ()
    start: Path | None = None
    steps: int = 4000
    learning_rate: float = 8e-4
    weight_decay: float = 0.02
    warmup: int = 100
    ema: float = 0.998
    n_stacks: int = 1200
    seed: int = 0
    stacks_seed: int = 0
    checkpoint_every: int = 100
    samples: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(self.samples)


def train(
    config: TrainConfig,
    progress: Callable[[int, int, float], None] | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Train nano, or continue a run found in `config.out`.

    Parameters
    ----------
    config
        The run.
    progress
        Called as progress(step, steps, loss).
    cancelled
        Asked before every step; the steps done so far are saved before the run ends.

    Returns
    -------
    Path
        The EMA weights, of a cancelled run those of its last step; there is no such file if it was cancelled
        before its first.

    Raises
    ------
    CheckpointError
        There is nothing to train on, `config.start` is of another network, or the state in `config.out` is
        damaged or of a run with other settings.
    VolumeError
        An image in `config.images` cannot be used.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    model = build_nano().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.start is not None:
        begin_with(model, config.start)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimisers = _optimisers(model, config)
    state_file = config.out / "state.pt"
    files = training_files(config)
    first = _resume(state_file, config, files, model, average, optimisers)

    def save(step: int) -> None:
        _save(state_file, config, files, step, model, average, optimisers)

    samples = Samples(
        StackSource(config.out / "stacks", config.n_stacks, first_seed=1_000_000 * (config.stacks_seed + 1)),
        ImageSource(files) if files else None,
        seed=config.seed,
        steps=config.steps,
        scenes=StackSource(
            config.out / "scenes",
            max(1, config.n_stacks // 4),
            1_000_000 * (config.stacks_seed + 1),
            "scenes",
        ),
        **config.samples,
    )
    loader = DataLoader(
        Subset(samples, range(first, config.steps)),
        batch_size=None,
        num_workers=1,
        prefetch_factor=6,
        shuffle=False,
    )
    started = time.monotonic()
    for step, sample in enumerate(loader, start=first):
        if cancelled is not None and cancelled():
            if step > first:
                save(step)
            break
        for group in (g for o in optimisers for g in o.param_groups):
            group["lr"] = learning_rate(config, step)
        model.train()
        outcome = episodes.run(model, sample, np.random.default_rng((config.seed, step, 1)))
        loss = outcome.loss
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 3.0)
        for optimiser in optimisers:
            optimiser.step()
        _update(average, model, min(config.ema, (1 + step) / (10 + step)))
        record = {"step": step, "loss": round(loss.item(), 4), "norm": round(float(norm), 3)}
        record |= {name: round(score, 4) for name, score in outcome.scores.items()}
        with (config.out / "log.jsonl").open("a") as log:
            log.write(json.dumps({**record, "seconds": round(time.monotonic() - started, 1)}) + "\n")
        if progress is not None:
            progress(step + 1, config.steps, loss.item())
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            save(step + 1)
    return config.out / "nano.safetensors"


def training_files(config: TrainConfig) -> list[Path]:
    """Return the images of `config` that may be trained on, sorted by name."""
    if config.images is None:
        return []
    files = sorted(f for f in config.images.glob("*.npz") if f.name not in set(config.excluded))
    if not files:
        raise CheckpointError(f"no .npz images to train on in {config.images}")
    return files


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


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


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


@torch.no_grad()
def _update(average: dict[str, torch.Tensor], model: Nano, decay: float) -> None:
    for name, value in model.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


def _save(
    path: Path,
    config: TrainConfig,
    files: list[Path],
    step: int,
    model: Nano,
    average: dict[str, torch.Tensor],
    optimisers: Sequence[torch.optim.Optimizer],
) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "average": average,
        "optimisers": [o.state_dict() for o in optimisers],
        "config": json.dumps(asdict(config), default=str),
        "files": [file.name for file in files],
    }
    write_atomically(path, lambda part: torch.save(state, part))
    half = {k: v.half().contiguous() if v.dtype.is_floating_point else v for k, v in average.items()}
    write_atomically(config.out / "nano.safetensors", lambda part: save_file(half, part))


def _resume(
    path: Path,
    config: TrainConfig,
    files: list[Path],
    model: Nano,
    average: dict[str, torch.Tensor],
    optimisers: Sequence[torch.optim.Optimizer],
) -> int:
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True)
        before = json.loads(state["config"])
        names = state.get("files", [file.name for file in files])
    # On damaged files torch.load raises whatever its reader trips over: OSError, EOFError, KeyError, ...
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as the state of a run ({type(error).__name__}): it is damaged. Remove it to "
            "begin anew, or choose another folder"
        ) from error
    now = json.loads(json.dumps(asdict(config), default=str))
    changed = [k for k in now if k not in UNDECIDING and now[k] != before.get(k)]
    if names != [file.name for file in files]:
        changed.append("images")
    if changed:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({', '.join(changed)}); choose another folder or "
            "remove it"
        )
    try:
        model.load_state_dict(state["model"])
        average.update(state["average"])
        for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        return int(state["step"])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a state of this network; remove it or choose another folder"
        ) from error
