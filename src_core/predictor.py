"""Embed a plane once, then ask about it as often as you like; nothing is remembered between calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src_core import frames, tiling
from src_core.answers import Asked, as_prompted, masks_of, together
from src_core.continuity import Continuity
from src_core.embedding import Embedding
from src_core.errors import PromptError
from src_core.model.nano import Nano
from src_core.model.nano_encoder import SIZE_MULTIPLE_PX
from src_core.model.sam import Decoded, Sam
from src_core.prompts import Prompts
from src_core.questions import EYES, Question
from src_core.tiles import Extent, Tile
from src_core.tiling import Tiling
from src_core.types import Cancelled, Candidates, Progress
from src_core.volumes import Plane, open_volume

AFRESH = 0.05
"""An answer that has forgotten the mask before it must be rated so much higher than one that begins with it."""
BATCH = 32
"""Prompts decoded at once: beyond it the decoder is no faster and only needs more memory."""


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

        Without `beside`, each is looked at on the level that shows it best alone.
        """
        if embedding.model is not None and embedding.model is not self.model:
            raise PromptError(
                "the embedding was made by another network, whose features mean nothing to "
                f"{self.name or 'this one'}: embed the plane with the predictor that is asked"
            )
        for prompt in prompts:
            prompt.check_inside(embedding.shape)
        native = self.model.native_tiles
        eyes, low_res = EYES[native], frames.LOW_RES[native]
        afresh = [i for i, prompt in enumerate(prompts) if native and _says_too_much(prompt)]
        all_prompts = [*prompts, *(replace(prompts[i], mask=None, mask_window=None) for i in afresh)]
        asked = [Question(prompt, embedding.tiles, low_res, eyes) for prompt in all_prompts]
        self._settle(embedding, asked, multimask)
        for i, other in zip(afresh, asked[len(prompts) :], strict=True):
            if other.trust > asked[i].trust + AFRESH:
                asked[i] = other
        chosen = asked[: len(prompts)]
        if beside:
            for question in chosen:
                question.look_beside()
            self._settle(embedding, chosen, multimask)
        return [self._said(embedding, question) for question in chosen]

    def _settle(self, embedding: Embedding, asked: list[Question], multimask: bool | None) -> None:
        """Ask through one tile after the other until no question is open."""
        while groups := self._grouped(asked, multimask):
            for (tile, many, *_), members in groups.items():
                for start in range(0, len(members), BATCH):
                    part = members[start : start + BATCH]
                    found = self._ask(embedding, tile, [asked[i].prompt_here() for i in part], many)
                    for i, candidates in zip(part, found, strict=True):
                        asked[i].take(candidates)

    def _said(self, embedding: Embedding, question: Question) -> Candidates:
        (index, first), *others = question.looks
        return together(self.model, embedding.tiles[index], first, [found for _, found in others])

    def _grouped(
        self, asked: list[Question], multimask: bool | None
    ) -> dict[tuple[int, bool, int, bool, bool], list[int]]:
        """Return which open questions can share a batch: same tile, same kind of prompts."""
        groups: dict[tuple[int, bool, int, bool, bool], list[int]] = {}
        for i, question in enumerate(asked):
            if question.tile is not None:
                many = _is_ambiguous(question.prompt) if multimask is None else multimask
                here = question.prompt_here()
                kind = (len(here.points_yx), here.box_yxyx is None, here.mask is None)
                groups.setdefault((question.tile, many, *kind), []).append(i)
        return groups

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

    def _ask(self, embedding: Embedding, index: int, prompts: list[Prompts], many: bool) -> list[Candidates]:
        tile = embedding.tiles[index]
        features = embedding.features(index)
        low_res = frames.low_res_shape(self.model, tile)
        points = frames.points(prompts, tile, self.model)
        boxes = frames.boxes(prompts, tile, self.model.device)
        masks = self._masks(prompts, embedding, tile, low_res)
        with torch.inference_mode():
            decoded = self.model.decode(
                features, points=points, boxes=boxes, masks=masks, multimask_output=many
            )
            return self._candidates(decoded, (points, boxes, masks), tile, embedding.shape)

    def _masks(
        self, prompts: list[Prompts], embedding: Embedding, tile: Tile, low_res: tuple[int, int]
    ) -> Tensor | None:
        if prompts[0].mask is None:
            return None
        window = frames.window(self.model, tile)
        dense = []
        for prompt in prompts:
            mask = prompt.mask
            if mask is None:
                raise PromptError("prompts with and without a mask cannot share a batch")
            if mask.dtype == np.bool_:
                dense.append(frames.mask_to_logits(mask, tile, window, low_res))
                continue
            own = prompt.mask_window
            if own is None:
                overview = embedding.tiles.overview
                fits = mask.shape == frames.low_res_shape(self.model, overview)
                if not (fits and embedding.tiles.overview_suffices):
                    raise PromptError(
                        f"logits of shape {mask.shape} as mask, but {low_res} over one window expected: pass "
                        "Candidates.logits[k] and mask_window=Candidates.window, or a bool mask of the plane"
                    )
                own = frames.window(self.model, overview)
            dense.append(frames.resample_logits(mask, own, window, low_res))
        return torch.from_numpy(np.stack(dense)).unsqueeze(1).to(self.model.device)

    def _candidates(
        self, decoded: Decoded, asked: Asked, tile: Tile, shape: tuple[int, int]
    ) -> list[Candidates]:
        order = decoded.iou.argsort(dim=1, descending=True)
        iou = decoded.iou.gather(1, order).float().cpu().numpy()
        rows = torch.arange(len(order), device=order.device).unsqueeze(1)
        logits = decoded.logits[rows, order].float().cpu()
        # What a mask alone asks for is what the object has become: it may have parted.
        if self.model.native_tiles and not (asked[0] is None and asked[1] is None):
            logits = as_prompted(logits, asked)
        presence = None if decoded.presence is None else decoded.presence.sigmoid().float().cpu().numpy()
        window = frames.window(self.model, tile)
        found = []
        for i in range(len(iou)):
            own = logits[i].numpy()
            there = 1.0 if presence is None else float(presence[i])
            found.append(Candidates(masks_of(self.model, own, tile, shape), iou[i], own, window, there))
        return found


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


def _is_ambiguous(prompt: Prompts) -> bool:
    return len(prompt.points_yx) == 1 and prompt.box_yxyx is None and prompt.mask is None
