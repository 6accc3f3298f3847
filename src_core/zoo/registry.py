"""The models this library knows by name; the facts are in `src_core/weights/models.json`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from src_core.errors import CheckpointError

FOLDER_VARIABLE = "NAPARI_SAM_MODELS"
"""The environment variable that moves downloaded weights out of the user's cache."""

_WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class ModelInfo:
    """One set of weights.

    Attributes
    ----------
    name
        What the user calls it, such as "vit_b_lm".
    network
        The network the weights belong to: vit_b, vit_l, vit_h, vit_t, med2d_b or nano.
    licence
        The licence of the weights.
    file
        The file's name in the models folder (or in the package, if bundled).
    url, xxh128
        Where the file comes from and its checksum as 32 hexadecimal digits; None if nobody publishes them.
    size_mb
        About how large the file is, in megabytes (10**6 bytes); None if not known.
    bundled
        True for weights that ship with this package.
    note
        One sentence for the user, or "".
    """

    name: str
    network: str
    licence: str
    file: str
    url: str | None = None
    xxh128: str | None = None
    size_mb: int | None = None
    bundled: bool = False
    note: str = ""

    @property
    def path(self) -> Path:
        """Where the file is or would be."""
        return (_WEIGHTS if self.bundled else models_folder()) / self.file

    @property
    def downloaded(self) -> Path | None:
        """The file, or None if it is not on this machine."""
        return self.path if self.path.is_file() else None


def models() -> tuple[ModelInfo, ...]:
    """Every model known by name, the bundled one first.

    Returns
    -------
    tuple of ModelInfo
        `ModelInfo.downloaded` tells which of them are on this machine.
    """
    return tuple(_registry().values())


def named(name: str) -> ModelInfo:
    """Look up one model by name.

    Raises
    ------
    CheckpointError
        No model has this name.
    """
    try:
        return _registry()[name]
    except KeyError:
        raise CheckpointError(f"no model is called {name!r}; known are {', '.join(_registry())}") from None


def models_folder() -> Path:
    """Folder of downloaded weights: $NAPARI_SAM_MODELS, or a folder in the user's cache."""
    import pooch

    return Path(pooch.utils.cache_location(pooch.os_cache("napari-sam") / "models", env=FOLDER_VARIABLE))


@functools.cache
def _registry() -> dict[str, ModelInfo]:
    facts = json.loads((_WEIGHTS / "models.json").read_text(encoding="utf-8"))
    return {name: ModelInfo(name=name, **fact) for name, fact in facts.items()}
