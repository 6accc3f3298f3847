"""SAM: image encoder, prompt encoder and mask decoder in one module."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from src_core.model.mask_decoder import MaskDecoder
from src_core.model.prompt_encoder import PromptEncoder

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

Features = tuple[Tensor, ...]
"""What the image encoder makes of an image: the embedding (B, C, H, W), then any high-resolution features."""


class Decoded(NamedTuple):
    """The decoder's answer for B prompts.

    `logits` (B, M, h, w) at low resolution; `iou` (B, M) predicted; `presence` (B,) logit that the object is
    on the plane at all, None where the network has no such output.
    """

    logits: Tensor
    iou: Tensor
    presence: Tensor | None


class Sam(nn.Module):
    """A promptable segmentation network.

    Attributes
    ----------
    image_size
        Side of the square network input in pixels; the frame of prompt coordinates.
    mask_threshold
        Logits above it are foreground.
    """

    mask_threshold = 0.0
    native_tiles = False
    """False: a plane is resized so that its longest side fills the input. True: planes are cut into tiles."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, image_encoder: nn.Module, prompt_encoder: PromptEncoder, mask_decoder: MaskDecoder
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).reshape(3, 1, 1), persistent=False)

    @property
    def image_size(self) -> int:
        """Side of the network input in pixels."""
        return self.prompt_encoder.input_image_size[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.pixel_mean.device

    def normalise(self, image: Tensor) -> Tensor:
        """Map pixel values 0 to 255, (..., 3, H, W), to the range the encoder was trained on."""
        return (image - self.pixel_mean) / self.pixel_std

    def encode(self, image: Tensor) -> Features:
        """Run the image encoder on a normalised (B, 3, S, S) image."""
        return (self.image_encoder(image),)

    def seeds(self, features: Features) -> Tensor | None:
        """Return (N, 2) points (x, y) in network pixels, one in each object that features show, surest first.

        None where the network cannot tell without being asked.
        """
        return None

    def decode(
        self,
        features: Features,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        multimask_output: bool = True,
    ) -> Decoded:
        """Answer B prompts about one image; see `PromptEncoder` for shapes and coordinates."""
        sparse, dense = self.prompt_encoder(points=points, boxes=boxes, masks=masks)
        logits, iou = self.mask_decoder(
            image_embeddings=features[0],
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
        )
        return Decoded(logits, iou, None)
