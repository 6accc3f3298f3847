"""How prompts reach the network: in batches, each through the tile that shows its object best, until all are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from src_core import frames
from src_core.answers import candidates
from src_core.embedding import Embedding
from src_core.model.sam import Sam
from src_core.prompts import Prompts
from src_core.questions import EYES, Question
from src_core.types import Candidates

BATCH = 32
"""Prompts decoded at once: beyond it the decoder is no faster and only needs more memory."""


def settled(
    model: Sam, embedding: Embedding, prompts: Sequence[Prompts], multimask: bool | None
) -> list[Question]:
    """Return prompts with their answers: nobody needs to ask any further."""
    eyes, low_res = EYES[model.native_tiles], frames.LOW_RES[model.native_tiles]
    asked = [Question(prompt, embedding.tiles, low_res, eyes) for prompt in prompts]
    settle(model, embedding, asked, multimask)
    return asked


def settle(
    model: Sam, embedding: Embedding, asked: list[Question], multimask: bool | None, painted: bool = True
) -> None:
    """Ask through one tile after the other until no question is open."""
    while groups := _grouped(asked, multimask):
        for (tile, many, *_), members in groups.items():
            here = [asked[i].prompt_here() for i in members]
            for i, found in zip(members, ask(model, embedding, tile, here, many, painted), strict=True):
                asked[i].take(found)


def _grouped(
    asked: list[Question], multimask: bool | None
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


def ask(
    model: Sam, embedding: Embedding, index: int, prompts: Sequence[Prompts], many: bool, painted: bool = True
) -> Iterator[Candidates]:
    """Ask through a tile about prompts of one kind, for several candidates or one, a batch at a time.

    Answers come without masks unless they are to be `painted`.
    """
    tile, shape = embedding.tiles[index], embedding.shape if painted else None
    features = embedding.features(index)
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        points = frames.points(part, tile, model)
        boxes = frames.boxes(part, tile, model.device)
        masks = frames.masks(part, tile, embedding.tiles, model)
        with torch.inference_mode():
            decoded = model.decode(features, points=points, boxes=boxes, masks=masks, multimask_output=many)
            found = candidates(model, decoded, (points, boxes, masks), tile, shape)
        yield from found


def _is_ambiguous(prompt: Prompts) -> bool:
    return len(prompt.points_yx) == 1 and prompt.box_yxyx is None and prompt.mask is None
