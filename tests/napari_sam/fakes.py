"""A predictor that needs no weights: an object is a connected bright region."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core import frames
from src_core.embedding import Embedding
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.tiling import Tiling, whole
from src_core.types import Candidates
from src_core.volumes import Plane, open_volume


class Threshold(Predictor):
    """Answers a prompt with the bright region it touches; the candidates are that, a larger and a smaller one."""

    def __init__(self, name: str = "nano") -> None:
        self.model = SimpleNamespace(native_tiles=True, image_size=512)  # type: ignore[assignment]
        self.name = name
        self.delay_s = 0.0
        """How long an answer takes: for tests that stop a propagation, which must not be over by then."""
        self.embedded: list[tuple[str | None, int]] = []

    def embed(self, plane: Plane | NDArray[Any], *, lazily: bool = False) -> Embedding:
        if not isinstance(plane, Plane):
            plane = open_volume(plane).plane()
        self.embedded.append((plane.axis, plane.index))
        picture = plane.rgb8()
        embedding = Embedding(picture, Tiling(whole((picture.shape[0], picture.shape[1]), 512)))
        embedding._features[0] = ()
        return embedding

    def predict_many(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompts],
        *,
        multimask: bool | None = None,
        beside: bool = True,
    ) -> list[Candidates]:
        time.sleep(self.delay_s)
        return [self._answer(embedding, p, bool(multimask)) for p in prompts]

    def mask_of(self, logits: NDArray[np.float32], window: Any, shape: Any) -> NDArray[np.bool_]:
        return np.asarray(logits > 0)

    def _answer(self, embedding: Embedding, prompt: Prompts, many: bool) -> Candidates:
        prompt.check_inside(embedding.shape)
        regions, _ = ndi.label(embedding.picture[..., 0] > 100)
        touched: set[int] = set()
        for (y, x), label in zip(np.rint(prompt.points_yx).astype(int), prompt.labels, strict=True):
            if label == 1:
                touched.add(int(regions[y, x]))
        if prompt.box_yxyx is not None:
            y0, x0, y1, x1 = (int(v) for v in prompt.box_yxyx)
            touched |= set(np.unique(regions[max(y0, 0) : y1, max(x0, 0) : x1]).tolist())
        if prompt.mask is not None and prompt.mask.shape == embedding.shape:
            touched |= set(np.unique(regions[prompt.mask > 0]).tolist())
        for (y, x), label in zip(np.rint(prompt.points_yx).astype(int), prompt.labels, strict=True):
            if label == 0:
                touched.discard(int(regions[y, x]))
        mask = np.isin(regions, sorted(touched - {0}))
        masks = [mask, ndi.binary_dilation(mask), ndi.binary_erosion(mask)] if many else [mask]
        logits = np.where(masks, frames.BOOL_LOGIT, -frames.BOOL_LOGIT).astype(np.float32)
        scores = np.array([0.9, 0.7, 0.5][: len(masks)], np.float32)
        return Candidates(np.array(masks), scores, logits, (0.0, 0.0, *map(float, embedding.shape)))


class BlindBelow(Threshold):
    """Sees nothing on the lower slices along z, as if they were too dark."""

    def predict_many(self, *args: Any, **options: Any) -> list[Candidates]:
        found = super().predict_many(*args, **options)
        if self.embedded[-1] in [("z", z) for z in range(5)]:
            for answer in found:
                answer.masks[:] = False
        return found


def balls(shape: tuple[int, int, int] = (12, 48, 64)) -> NDArray[np.uint8]:
    """Two bright balls in a dark stack: centres (6, 16, 16) and (6, 30, 46), radius about 5 slices, 9 pixels."""
    z, y, x = np.indices(shape)
    out = np.full(shape, 20, np.uint8)
    for cy, cx in ((16, 16), (30, 46)):
        out[((z - 6) / 4.5) ** 2 + ((y - cy) / 9) ** 2 + ((x - cx) / 9) ** 2 < 1] = 220
    return out
