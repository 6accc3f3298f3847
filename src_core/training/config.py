"""What decides a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from src_core.errors import CheckpointError, SamError
from src_core.training.samples import check_options

UNDECIDING = ("out", "images", "excluded", "checkpoint_every", "device", "workers")
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
    device, workers
        Where the network is trained, "cuda" or by default the CPU, and how many other processes draw samples; more
        than one draw the prompts, too.
    samples
        Options of `Samples`, by name.

    Raises
    ------
    SamError
        `samples` has an unknown option, or a setting a value that cannot be.
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
    device: str = "cpu"
    workers: int = 1
    samples: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_options(self.samples)
        if self.workers < 1:
            raise SamError(f"workers must be at least 1, got {self.workers}")


def training_files(config: TrainConfig) -> list[Path]:
    """Return the images of `config` that may be trained on, sorted by name."""
    if config.images is None:
        return []
    files = sorted(f for f in config.images.glob("*.npz") if f.name not in set(config.excluded))
    if not files:
        raise CheckpointError(f"no .npz images to train on in {config.images}")
    return files
