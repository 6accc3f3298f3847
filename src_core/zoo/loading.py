"""From a name or a path to a network that is ready to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from src_core.errors import CheckpointError, SamError
from src_core.types import Cancelled, Progress
from src_core.zoo.checkpoint import fingerprint, read_state_dict, recognise
from src_core.zoo.downloads import download
from src_core.zoo.registry import models

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from src_core.model.sam import Sam


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network with its weights.

    Attributes
    ----------
    sam
        In eval mode, float32, on `device`; no parameter asks for a gradient.
    name
        The registry's name, or the path of the file.
    network
        vit_b, vit_l, vit_h, vit_t, med2d_b or nano.
    fingerprint
        xxh128 of the weights file: the weights' part of an embedding's cache key.
    device
        Where the weights are.
    """

    sam: Sam
    name: str
    network: str
    fingerprint: str
    device: torch.device


def load(
    name_or_path: str | Path,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Sam:
    """Load a network with its weights: `load_model(...).sam`, with the same parameters and errors."""
    return load_model(name_or_path, device, progress, cancelled).sam


def load_model(
    name_or_path: str | Path,
    device: str | torch.device = "auto",
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> LoadedModel:
    """Load a model by name, downloading it if needed, or from a file.

    Parameters
    ----------
    name_or_path
        A name from `models()` or the path of a weights file, whose network is recognised by its content.
    device
        "auto" (CUDA, else MPS, else CPU), or what `torch.device` accepts.
    progress, cancelled
        As in `download`; unused if nothing needs downloading.

    Returns
    -------
    LoadedModel

    Raises
    ------
    CheckpointError
        No such name or file; the download failed; the file is damaged, holds more than tensors, or belongs to
        no known network or to another than its name promises; weights are missing, unknown or misshapen.
    SamError
        The device is not available.
    """
    target = choose_device(device)
    known = {info.name: info for info in models()}
    info = known.get(name_or_path) if isinstance(name_or_path, str) else None
    if info is not None:
        path = download(info, progress, cancelled)
    else:
        path = Path(name_or_path).expanduser()
        if not path.exists():
            raise CheckpointError(
                f"{str(name_or_path)!r} is neither a file nor a model's name; known are {', '.join(known)}"
            )
    state = read_state_dict(path)
    try:
        network = recognise(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if info is not None and network != info.network:
        raise CheckpointError(
            f"{path} should hold {info.network} for the model {info.name} but holds {network}: "
            "delete it and download again, or load it by its path"
        )
    sam = _fill(network, state, path).to(target)
    # What the registry promises, the download has just checked.
    digest = (info.xxh128 if info is not None else None) or fingerprint(path)
    return LoadedModel(sam, str(name_or_path), network, digest, target)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Turn "auto" or a device's name into a device that is there.

    Raises
    ------
    SamError
        Unknown, or not available on this machine.
    """
    import torch

    mps = torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise SamError(f"{device!r} is not a device: give 'auto', 'cpu', 'cuda:0' or 'mps'") from error
    n_available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(mps)}.get(chosen.type, 0)
    if (chosen.index or 0) >= n_available:
        raise SamError(
            f"device '{chosen}' is not available here: PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices and {'an' if mps else 'no'} MPS device; "
            "use 'auto' or 'cpu'"
        )
    return chosen


def _fill(network: str, state: Mapping[str, Tensor], path: Path) -> Sam:
    """Build the network and copy the weights into it, as float32, if every name and shape agrees."""
    from src_core.model.builder import build_sam

    sam: Sam = build_sam(network)
    own = sam.state_dict()
    wrong = [f"missing {name}" for name in own if name not in state]
    wrong += [f"not known {name}" for name in state if name not in own]
    for name in own.keys() & state.keys():
        if own[name].shape != state[name].shape:
            wrong.append(f"{name} has shape {tuple(state[name].shape)}, expected {tuple(own[name].shape)}")
        elif own[name].is_floating_point() != state[name].is_floating_point():
            wrong.append(f"{name} has dtype {state[name].dtype}, expected {own[name].dtype}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{path} resembles {network} but its weights do not fit: {'; '.join(wrong[:3])}{more}. "
            "Give the complete state dict of one of the known networks"
        )
    # Copying into the float32 parameters converts half precision on the way.
    sam.load_state_dict(state, strict=True)
    # Through training mode, so that tables derived from the weights are made again.
    return sam.train().eval().requires_grad_(False)
