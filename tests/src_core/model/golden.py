"""Reference outputs in tests/data/golden: weights, images and prompts that make them, and the comparison.

Weights are drawn from generators seeded with each parameter's own name, so that no checkpoint is needed.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src_core import painting
from src_core.model.builder import build_sam
from src_core.model.sam import Sam
from src_core.predictor import Predictor
from src_core.prompts import Prompts

FOLDER = Path(__file__).parents[2] / "data" / "golden"
NETWORKS = ("vit_b", "vit_l", "vit_h", "vit_t", "med2d_b")
CASES = ("point", "points", "box", "boxes", "box_points", "mask_point", "mask_box")
TOLERANCE = 5e-4
SEED = 7


def keys(network: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the official checkpoint."""
    return {
        name: tuple(shape)
        for name, shape in json.loads((FOLDER / f"{network}_keys.json").read_text()).items()
    }


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of the parameter or buffer called `name`."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.tensor(0)
    digest = hashlib.sha256(name.encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    normal = generator.standard_normal(shape, dtype=np.float32)
    if kind == "running_var":
        values = 1.0 + 0.1 * np.abs(normal)
    elif kind == "positional_encoding_gaussian_matrix":
        values = normal
    elif kind == "bias":
        values = 0.05 * normal
    elif kind == "weight" and len(shape) == 1:
        values = 1.0 + 0.1 * normal
    elif len(shape) < 2 or kind in ("rel_pos_h", "rel_pos_w", "pos_embed", "attention_biases"):
        values = 0.1 * normal
    else:
        values = normal / np.sqrt(int(np.prod(shape[1:])), dtype=np.float32)
    return torch.from_numpy(values)


def load(network: str) -> Sam:
    """The network with its drawn weights.

    Loaded in eval mode, as the reference was when its outputs were recorded: vit_t's table of attention
    biases is then still zero.
    """
    sam = build_sam(network)
    sam.load_state_dict({name: draw(name, shape) for name, shape in keys(network).items()}, assign=True)
    return sam


@cache
def picture(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth (height, width, 3) uint8 image with blobs, gradients and noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    waves = [60 + 40 * np.sin(columns / (20 + 7 * c)) + 30 * np.cos(rows / (33 - 5 * c)) for c in range(3)]
    pixels = np.stack(waves, -1)
    for _ in range(25):
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(8, 60)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] += rng.uniform(-90, 110, size=3)
    pixels += rng.normal(0, 6, size=pixels.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


class Golden:
    """One network's reference outputs, and how far a network's own are from them."""

    def __init__(self, network: str) -> None:
        with np.load(FOLDER / f"{network}.npz") as archive:
            self._arrays = {k.removeprefix(f"s{SEED}/"): torch.from_numpy(archive[k]) for k in archive.files}
        self.has_predictor = "predictor/scores" in self._arrays

    def image(self, sam: Sam) -> Tensor:
        """The normalised (1, 3, S, S) input."""
        size = sam.image_size
        pixels = torch.from_numpy(picture(size, size, SEED + 1000)).permute(2, 0, 1).float()
        return sam.normalise(pixels)[None]

    def embedding(self, sam: Sam, embedding: Tensor) -> float:
        """Max |difference| of the embedding, its mean and deviation, and the positional encoding."""
        mean_std = torch.stack([embedding.double().mean(), embedding.double().std(correction=0)])
        pe = sam.prompt_encoder.get_dense_pe()
        return max(
            self._differs("embedding_sub", embedding[0, ::16, ::4, ::4]),
            self._differs("embedding_mean_std", mean_std),
            self._differs("image_pe_sub", pe[0, ::16, ::4, ::4]),
        )

    def case(self, sam: Sam, embedding: Tensor, case: str) -> float:
        """Max |difference| of logits and IoUs for one kind of prompt."""
        get = self._arrays.get
        points = get(f"{case}/points_xy")
        prompt = {
            "points": None if points is None else (points, self._arrays[f"{case}/labels"]),
            "boxes": get(f"{case}/box_xyxy"),
            "masks": disc(sam.image_size // 16) if case.startswith("mask") else None,
        }
        worst = 0.0
        for kind in ("multi", "single"):
            decoded = sam.decode((embedding,), **prompt, multimask_output=kind == "multi")
            worst = max(
                worst,
                self._differs(f"{case}/{kind}_lowres_sub", decoded.logits[..., ::4, ::4]),
                self._differs(f"{case}/{kind}_iou", decoded.iou),
            )
        return worst

    def predictor(self, sam: Sam) -> float:
        """Max |difference| over the predictor's whole way from a uint8 image to masks of its size."""
        height, width = (int(n) for n in self._arrays["predictor/image_hw"])
        predictor = Predictor(sam)
        embedding = predictor.embed(picture(height, width, SEED))
        point_yx = self._arrays["predictor/point_xy"].numpy()[:, ::-1]
        found = predictor.predict(embedding, Prompts(point_yx))
        # The reference answers in the decoder's order, the predictor with the best first.
        order = self._arrays["predictor/scores"].argsort(descending=True).argsort()
        low_res = torch.from_numpy(found.logits)[order]
        logits = painting.upscale(sam, low_res[None], embedding.tiles[0])[0, :, ::8, ::8]
        masks, expected = found.masks[order.numpy(), ::8, ::8], self._arrays["predictor/logits_sub"].numpy()
        if (masks != (expected > 0))[np.abs(expected) > TOLERANCE].any():
            raise AssertionError("masks differ from the reference's")
        return max(
            self._differs("predictor/features_sub", embedding.features(0)[0][0, ::16, ::4, ::4]),
            self._differs("predictor/lowres_sub", low_res[:, ::4, ::4]),
            self._differs("predictor/scores", torch.from_numpy(found.scores)[order]),
            self._differs("predictor/logits_sub", logits),
        )

    def _differs(self, name: str, value: Tensor) -> float:
        expected = self._arrays[name]
        if value.shape != expected.shape:
            raise AssertionError(f"{name}: shape {tuple(value.shape)}, expected {tuple(expected.shape)}")
        return (value.double() - expected.double()).abs().max().item()


def disc(grid: int) -> Tensor:
    """The mask prompt: (1, 1, 4 grid, 4 grid) logits, +6 within a disc and -6 elsewhere."""
    side = torch.arange(4 * grid, dtype=torch.float64)
    squared = (side[:, None] - 2 * grid) ** 2 + (side - 1.5 * grid) ** 2
    return torch.where(squared < (0.8 * grid) ** 2, 6.0, -6.0).float()[None, None]
