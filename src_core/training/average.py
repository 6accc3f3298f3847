"""The mean of several trainings' weights, which is often better than any of them ("Model soups", Wortsman et al. 2022).

    python -m src_core.training.average runs/sixth/nano.safetensors runs/seventh/nano.safetensors --out nano.safetensors

All must have begun with the same weights. Those of an earlier form of the network count inputs that they lack as zero;
of blocks that they lack, which begin as the identity, the mean does half as much (or whatever their share is).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from src_core.errors import CheckpointError
from src_core.files import write_atomically
from src_core.model.nano import build_nano
from src_core.training.state import begin_with


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
        known = begin_with(model, file)
        silent = {name for name, p in model.named_parameters() if name.endswith("weight") and not p.any()}
        nothing = silent | {name.removesuffix("weight") + "bias" for name in silent}
        states.append({k: v for k, v in model.state_dict().items() if k in known or k in nothing})
    mean: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        values = [state[name] for state in states if name in state] or [value]
        mean[name] = (
            torch.stack(values).mean(0).half().contiguous() if value.dtype.is_floating_point else values[-1]
        )
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
