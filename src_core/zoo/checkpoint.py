"""Read a weights file, tell which network it belongs to, and fingerprint it. Files are never trusted."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from src_core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")
WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict")
PREFIXES = ("module.", "model.", "sam.")

_VIT_BY_WIDTH = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
_BLOCK_BYTES = 1 << 22


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a Segment Anything network from a file.

    Parameters
    ----------
    path
        A .safetensors file or one that `torch.save` wrote: a state dict, or one wrapped under "model",
        "state_dict" or "model_state". A prefix such as "module." or "sam." on every name is taken off.

    Returns
    -------
    dict of str to Tensor
        On the CPU, in the file's dtypes, with the official names (image_encoder., prompt_encoder.,
        mask_decoder.). The tensors may be mapped from the file: copy them before the file changes.

    Raises
    ------
    CheckpointError
        Not a file, empty, damaged, holding Python objects (which could run code), or not such a network.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist: give the path of a weights file")
    if not path.is_file():
        raise CheckpointError(f"{path} is a folder: give the path of the weights file in it")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty: fetch it again")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _unwrap(content)
    if state is None:
        raise CheckpointError(f"{path} holds no state dict (tensors by name) but {_describe(content)}")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def recognise(state: Mapping[str, Tensor]) -> str:
    """Tell the network by the names and shapes in its state dict.

    Returns
    -------
    str
        "vit_b", "vit_l", "vit_h", "vit_t", "med2d_b" or "nano". Only tell-tale names are looked at; whether
        everything fits is decided on loading.

    Raises
    ------
    CheckpointError
        It is none of these.
    """
    missing = [part for part in PARTS if not any(name.startswith(part) for name in state)]
    if missing:
        raise CheckpointError(
            f"not the weights of a Segment Anything network: no name begins with {' or '.join(missing)}; "
            f"it holds {_describe(state)}"
        )
    encoder = {name.removeprefix(PARTS[0]): state[name] for name in state if name.startswith(PARTS[0])}
    if "blocks.0.Adapter.norm.weight" in encoder:
        return "med2d_b"
    if "patch_embed.seq.0.c.weight" in encoder:
        return "vit_t"
    if "pos_embed" in encoder and "blocks.0.attn.rel_pos_h" in encoder:
        width = encoder["pos_embed"].shape[-1]
        if width in _VIT_BY_WIDTH:
            return _VIT_BY_WIDTH[width]
        raise CheckpointError(
            f"an image encoder {width} channels wide is not known; expected one of {sorted(_VIT_BY_WIDTH)}"
        )
    return "nano"


def fingerprint(weights: str | Path | nn.Module | Mapping[str, Tensor]) -> str:
    """Identify weights by their content, for the key under which embeddings are cached.

    Parameters
    ----------
    weights
        A weights file, or a network, or its state dict. A file and the network loaded from it have different
        fingerprints; use the same kind for the same purpose.

    Returns
    -------
    str
        xxh128 as 32 hexadecimal digits: of the file's bytes, or of all names, dtypes, shapes and values.

    Raises
    ------
    CheckpointError
        The file cannot be read.
    """
    digest = xxhash.xxh128()
    if isinstance(weights, (str, Path)):
        try:
            with open(weights, "rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise CheckpointError(f"{weights} cannot be read ({error})") from error
        return digest.hexdigest()
    state = weights if isinstance(weights, Mapping) else weights.state_dict()
    import torch

    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(_damaged(path, error)) from error


def _read_torch(path: Path) -> Any:
    import torch

    try:
        # Mapped, a file of 2.5 GB is not in memory twice while it is copied into the network.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is no weights file at all. Python objects in it could run "
            "code and are not loaded: save the bare state dict with torch.save(model.state_dict(), ...) or "
            "safetensors"
        ) from error
    # On damaged files torch.load raises whatever its reader trips over: OSError, EOFError, KeyError, ...
    except Exception as error:
        raise CheckpointError(_damaged(path, error)) from error


def _unwrap(content: Any) -> dict[str, Tensor] | None:
    """Return the state dict in what a file holds, or None."""
    import torch

    if not isinstance(content, Mapping):
        return None
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _unwrap(content[wrapper])
    if not content or not all(isinstance(name, str) for name in content):
        return None
    return dict(content) if all(isinstance(value, torch.Tensor) for value in content.values()) else None


def _damaged(path: Path, error: Exception) -> str:
    return (
        f"{path} ({path.stat().st_size} bytes) cannot be read as weights: it is cut short, damaged or of "
        f"another kind ({type(error).__name__}: {error}). Expected a file written by torch.save or "
        "safetensors; fetch it again"
    )


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    names = [str(name) for name in content]
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
