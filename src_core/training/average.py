"""The mean of several trainings' weights, which is often better than any of them ("Model soups", Wortsman et al. 2022).

    python -m src_core.training.average runs/sixth/nano.safetensors runs/seventh/nano.safetensors --out nano.safetensors

All must have begun with the same weights. Those of an earlier form of the network count what they lack as zero.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from src_core.errors import CheckpointError
from src_core.files import write_atomically
from src_core.model.nano import build_nano
from src_core.training.loop import begin_with


def average(files: Sequence[Path], out: Path) -> None:
    """Write the mean of some weights of nano, in half precision; whole numbers are those of the last file.

    Raises
    ------
    CheckpointError
        There is no file, or one is of another network.
    """
    if not files:
        raise CheckpointError("there are no weights to take the mean of")
    states = []
    for file in files:
        model = build_nano()
        begin_with(model, file)
        states.append(model.state_dict())
    mean = {
        name: torch.stack([s[name] for s in states]).mean(0).half().contiguous()
        if value.dtype.is_floating_point
        else value
        for name, value in states[-1].items()
    }
    write_atomically(out, lambda part: save_file(mean, part))


def main() -> None:
    """Average the files named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    average(options.files, options.out)


if __name__ == "__main__":
    main()
