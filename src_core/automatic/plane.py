"""The masks of one plane in one call."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from src_core.automatic.records import MaskRecord
from src_core.automatic.search import look
from src_core.automatic.selecting import select
from src_core.automatic.settings import SearchSettings, Thresholds
from src_core.embedding import Embedding
from src_core.predictor import Predictor
from src_core.types import Cancelled, Progress
from src_core.volumes import Plane


def automatic_masks(
    predictor: Predictor,
    plane: Embedding | Plane | NDArray[Any],
    *,
    search: SearchSettings | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[MaskRecord]:
    """Find everything on one plane.

    Parameters
    ----------
    predictor
        The network.
    plane
        What `Predictor.embed` takes, or what it has made of it.
    search, thresholds
        Where to ask, and which masks to keep. To try other thresholds without asking the network again, call `look`
        once and `select` for each.
    progress, cancelled
        As in `look`.

    Returns
    -------
    The masks, best first. `label_image` draws them.

    Raises
    ------
    VolumeError
        The image cannot be read as one plane.
    """
    embedding = plane if isinstance(plane, Embedding) else predictor.embed(plane, lazily=True)
    found = look(predictor, embedding, search, progress=progress, cancelled=cancelled)
    return select(found.records, thresholds)
