"""The training loop: cosine schedule, checkpoints; every one of them can be resumed to the same result."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Subset

from src_core.locks import sole_writer
from src_core.training import episodes
from src_core.training.config import TrainConfig, training_files
from src_core.training.data import ImageSource, StackSource
from src_core.training.samples import Sample, Samples
from src_core.training.state import State
from src_core.types import Cancelled


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
    SamError
        `config.device` is not available.
    CheckpointError
        There is nothing to train on, `config.start` is of another network, or the state in `config.out` is
        damaged or of a run with other settings.
    VolumeError
        An image in `config.images` cannot be used.
    """
    # Processes come first: what has touched a GPU must not be forked.
    with sole_writer(config.out), _clickers(config.workers) as pool:
        config.out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        files = training_files(config)
        state = State(config, files)
        first = state.resume()
        started = time.monotonic()
        for step, sample in enumerate(_samples(config, files, first), start=first):
            if cancelled is not None and cancelled():
                if step > first:
                    state.save(step)
                break
            state.model.train()
            outcome = episodes.run(state.model, sample, np.random.default_rng((config.seed, step, 1)), pool)
            norm = state.step(
                outcome.loss, learning_rate(config, step), min(config.ema, (1 + step) / (10 + step))
            )
            loss = outcome.loss.item()
            record = {"step": step, "loss": round(loss, 4), "norm": round(norm, 3)}
            record |= {name: round(score, 4) for name, score in outcome.scores.items()}
            with (config.out / "log.jsonl").open("a") as log:
                log.write(json.dumps({**record, "seconds": round(time.monotonic() - started, 1)}) + "\n")
            if progress is not None:
                progress(step + 1, config.steps, loss)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                state.save(step + 1)
    return config.out / "nano.safetensors"


@contextmanager
def _clickers(workers: int) -> Iterator[Executor | None]:
    """Start processes that draw prompts; none where one worker is all there is."""
    if workers == 1:
        yield None
        return
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        pool.submit(int).result()
        yield pool


def _samples(config: TrainConfig, files: list[Path], first: int) -> DataLoader[Sample]:
    """Return what is shown from step `first` on, drawn in other processes."""
    seed = 1_000_000 * (config.stacks_seed + 1)
    samples = Samples(
        StackSource(config.out / "stacks", config.n_stacks, seed),
        ImageSource(files) if files else None,
        seed=config.seed,
        steps=config.steps,
        scenes=StackSource(config.out / "scenes", max(1, config.n_stacks // 4), seed, "scenes"),
        **config.samples,
    )
    return DataLoader(
        Subset(samples, range(first, config.steps)),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=6 if config.workers == 1 else 2,
        shuffle=False,
    )


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
