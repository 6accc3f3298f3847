"""Hugging Face transformers' `SamModel` with the weights of one of our networks, where that package is installed."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import torch
from torch import Tensor

from src_core.model.sam import Sam

RENAMED = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^(vision_encoder\.)blocks\.", r"\1layers."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
    (r"\.norm", ".layer_norm"),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"point_embeddings\.", "point_embed."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"(mlps\.\d|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(mlps\.\d|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(mlps\.\d|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
)
"""What parameters of the official checkpoints are called there, in this order."""


def is_installed() -> bool:
    """Say whether there is anything to compare with."""
    return importlib.util.find_spec("transformers") is not None


class Peer:
    """The same network by Hugging Face, ViT-B only."""

    def __init__(self, sam: Sam) -> None:
        from transformers import SamConfig, SamModel

        with torch.device("meta"):
            self.model: Any = SamModel(SamConfig()).eval()
        weights = {}
        for name, value in sam.state_dict().items():
            for pattern, by in RENAMED:
                name = re.sub(pattern, by, name)
            weights[name] = value
        shared = weights["prompt_encoder.shared_embedding.positional_embedding"]
        weights["shared_image_embedding.positional_embedding"] = shared
        self.model.load_state_dict(weights, assign=True)

    def encode(self, image: Tensor) -> Tensor:
        """Embed a normalised (1, 3, S, S) image."""
        embedding: Tensor = self.model.get_image_embeddings(image)
        return embedding

    def decode(self, embedding: Tensor, points: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Answer B prompts with three candidates each: low-resolution logits and predicted IoUs."""
        coords, labels = (p[None] for p in points)
        found = self.model(
            image_embeddings=embedding, input_points=coords, input_labels=labels, multimask_output=True
        )
        return found.pred_masks[0], found.iou_scores[0]
