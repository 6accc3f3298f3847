"""Embed a plane once, then ask about it as often as you like; nothing is remembered between calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core import frames, tiling
from src_core.answers import UNPAINTED, masks_of, together
from src_core.asking import BATCH, ask, settle, settled
from src_core.continuity import Continuity
from src_core.embedding import Embedding
from src_core.errors import PromptError
from src_core.model.nano import Nano
from src_core.model.nano_encoder import SIZE_MULTIPLE_PX
from src_core.model.sam import Sam
from src_core.prompts import Prompts
from src_core.questions import Question
from src_core.room import SMALLER, Room, smaller, with_box, within_plane
from src_core.tiles import Extent
from src_core.tiling import Tiling
from src_core.types import Cancelled, Candidates, Progress
from src_core.volumes import Plane, open_volume

AFRESH = 0.05
"""An answer that has forgotten the mask before it must be rated so much higher than one that begins with it."""


class Predictor:
    """A network ready to answer prompts.

    Parameters
    ----------
    model
        The network, in eval mode.
    name
        What to call it, for example "nano".
    whole
        Look at planes only as a whole, shrunk to the network's input, as the reference implementation does.
    """

    def __init__(self, model: Sam, name: str = "", *, whole: bool = False) -> None:
        self.model = model.eval()
        self.name, self.whole = name, whole

    @cached_property
    def continuity(self) -> Continuity | None:
        """Judges whether objects go on from slice to slice; None for networks it was not trained beside."""
        return Continuity.load() if isinstance(self.model, Nano) else None

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "nano",
        device: str = "auto",
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Predictor:
        """Load a model of the zoo or a checkpoint; see `src_core.zoo.load_model` for the parameters.

        Raises
        ------
        CheckpointError
            The weights are missing, damaged or of an unknown network, or their download failed.
        SamError
            The device is not available.
        """
        from src_core import zoo

        return cls(zoo.load(name_or_path, device, progress, cancelled), str(name_or_path))

    @cached_property
    def room(self) -> Room | None:
        """Judges how much room boxes leave; None for networks it was not trained beside."""
        return Room.load() if isinstance(self.model, Nano) else None

    def embed(self, plane: Plane | NDArray[Any], *, lazily: bool = False) -> Embedding:
        """Run the image encoder on a plane (paper, section 3, "Image encoder").

        Parameters
        ----------
        plane
            From `Volume.plane` or `Volume.plane_at`, or a (H, W) or (H, W, 3) image; colour is uint8, a
            larger integer type or float from 0 to 1.
        lazily
            Encode nothing yet: the first prompt then waits for the tile it needs. A plane of several tiles is
            always left to its prompts, as nobody knows which of them will be needed.

        Raises
        ------
        VolumeError
            The image cannot be read as one plane.
        """
        if not isinstance(plane, Plane):
            plane = open_volume(_colour8(plane)).plane()
        embedding = Embedding(plane, self.tiles(plane.shape), self.model)
        if not lazily and embedding.tiles.overview_suffices:
            embedding.features(0)
        return embedding

    def predict(self, embedding: Embedding, prompts: Prompts, *, multimask: bool | None = None) -> Candidates:
        """Answer one object's prompts.

        Parameters
        ----------
        embedding
            Of the plane the prompts are on, made by this predictor.
        prompts
            Points, box and mask in pixels of that plane.
        multimask
            True for three candidates, False for one; by default three where one click alone is ambiguous.

        Raises
        ------
        PromptError
            A prompt lies outside the plane or does not fit it, or another network made the embedding.
        """
        return self.predict_many(embedding, [prompts], multimask=multimask)[0]

    def predict_many(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompts],
        *,
        multimask: bool | None = None,
        beside: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of many objects on one plane, batched; one `Candidates` per object, in order.

        Without `beside`, each is looked at on the level that shows it best alone, and boxes are taken to fit.
        """
        if embedding.model is not None and embedding.model is not self.model:
            raise PromptError(
                "the embedding was made by another network, whose features mean nothing to "
                f"{self.name or 'this one'}: embed the plane with the predictor that is asked"
            )
        for prompt in prompts:
            prompt.check_inside(embedding.shape)
        if beside:
            prompts = self.fitted(embedding, prompts)
        afresh = [i for i, prompt in enumerate(prompts) if self.model.native_tiles and _says_too_much(prompt)]
        all_prompts = [*prompts, *(replace(prompts[i], mask=None, mask_window=None) for i in afresh)]
        asked = settled(self.model, embedding, all_prompts, multimask)
        for i, other in zip(afresh, asked[len(prompts) :], strict=True):
            if other.trust > asked[i].trust + AFRESH:
                asked[i] = other
        chosen = asked[: len(prompts)]
        if beside:
            for question in chosen:
                question.look_beside()
            settle(self.model, embedding, chosen, multimask, painted=False)
        return [self._said(embedding, question) for question in chosen]

    def within(self, embedding: Embedding, boxes: Sequence[Extent]) -> list[list[Candidates]]:
        """Answer boxes (y0, x0, y1, x1), and the smaller ones in each of them (`room.SMALLER`), without masks.

        All are looked at on the level that shows the largest best.
        """
        asked = settled(self.model, embedding, [Prompts(box_yxyx=box) for box in boxes], False)
        tiles: dict[int, list[int]] = {}
        found: list[list[Candidates]] = []
        for i, question in enumerate(asked):
            ((tile, largest),) = question.looks
            tiles.setdefault(tile, []).append(i)
            found.append([replace(largest, masks=UNPAINTED)])
        for tile, members in tiles.items():
            each = [
                (i, Prompts(box_yxyx=smaller(boxes[i], by, embedding.shape)))
                for i in members
                for by in SMALLER[1:]
            ]
            answers = ask(self.model, embedding, tile, [prompt for _, prompt in each], False, painted=False)
            for (i, _), answer in zip(each, answers, strict=True):
                found[i].append(answer)
        return found

    def fitted(self, embedding: Embedding, prompts: Sequence[Prompts]) -> Sequence[Prompts]:
        """Return prompts with smaller boxes where these leave less room around their objects."""
        shape = embedding.shape
        drawn = {i: within_plane(p.box_yxyx, shape) for i, p in enumerate(prompts) if p.box_yxyx is not None}
        if not drawn or self.room is None:
            return prompts
        fitting, places = list(prompts), list(drawn)
        for start in range(0, len(places), BATCH):  # of each, six answers are in memory at once
            part = places[start : start + BATCH]
            for i, answers in zip(part, self.within(embedding, [drawn[i] for i in part]), strict=True):
                fitting[i] = with_box(prompts[i], self.room.fitting(drawn[i], answers, shape))
        return fitting

    def _said(self, embedding: Embedding, question: Question) -> Candidates:
        (index, first), *others = question.looks
        return together(self.model, embedding.tiles[index], first, [found for _, found in others])

    def mask_of(
        self, logits: NDArray[np.float32], window: Extent, shape: tuple[int, int]
    ) -> NDArray[np.bool_]:
        """Return the (H, W) bool mask of low-resolution logits (h, w) over a window, as `predict` does."""
        there = self.tiles(shape).starting_at(*window[:2])
        fitting = (t for t in there if frames.low_res_shape(self.model, t) == logits.shape)
        tile = next((t for t in fitting if frames.window(self.model, t) == window), None)
        if tile is None:
            raise PromptError(f"window {window} is not one of this model's on a plane of {shape}")
        mask: NDArray[np.bool_] = masks_of(self.model, logits[None], tile, shape)[0]
        return mask

    def tiles(self, shape: tuple[int, int]) -> Tiling:
        """Return the rectangles through which the network sees a plane of `shape` (H, W)."""
        size = self.model.image_size
        max_zoom, multiple = (
            (tiling.MAX_ZOOM, SIZE_MULTIPLE_PX) if self.model.native_tiles else (float("inf"), 1)
        )
        if self.whole:
            return Tiling(tiling.whole(shape, size, max_zoom, multiple))
        return tiling.tiled(shape, size, max_zoom, multiple)


def _says_too_much(prompt: Prompts) -> bool:
    """Say whether the latest click is against the network's own answer: that may hold on to what it should let go."""
    own = prompt.mask is not None and prompt.mask.dtype != np.bool_
    return own and bool((prompt.labels == 1).any()) and prompt.labels[-1] == 0


def _colour8(image: Any) -> Any:
    """Return colour (H, W, 3 or 4) of any dtype as uint8, and anything else as it is."""
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    dtype = getattr(image, "dtype", np.dtype("O"))
    if len(shape) != 3 or shape[-1] not in (3, 4) or dtype.kind not in "uif" or dtype == np.uint8:
        return image
    image = np.asarray(image)
    full = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    shown = np.clip(np.nan_to_num(image.astype(np.float64) / full, nan=0.0), 0, 1)
    return np.rint(255 * shown).astype(np.uint8)
