"""Networks by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch.overrides import TorchFunctionMode

from src_core.errors import CheckpointError
from src_core.model.image_encoder import PATCH, ImageEncoderViT, vit_configs
from src_core.model.mask_decoder import MaskDecoder
from src_core.model.prompt_encoder import PromptEncoder
from src_core.model.sam import Sam
from src_core.model.tiny_vit import TinyViT
from src_core.model.transformer import TwoWayTransformer

_DIM = 256


def network_names() -> tuple[str, ...]:
    """Return the names that `build_sam` knows."""
    return (*vit_configs(), "vit_t", "nano")


def build_sam(name: str) -> Sam:
    """Build a network, in eval mode, ready for a state dict.

    Parameters
    ----------
    name
        "vit_b", "vit_l" or "vit_h" (Segment Anything), "vit_t" (MobileSAM), "med2d_b" (SAM-Med2D) or "nano".

    Returns
    -------
    Sam
        Parameter names are those of the official checkpoints. The weights of all but "nano" are whatever
        lay in memory: drawing 600 million random numbers to overwrite them would take longer than loading.

    Raises
    ------
    CheckpointError
        No network has this name.
    """
    if name == "nano":
        from src_core.model.nano import build_nano

        return build_nano().eval()
    if name not in network_names():
        raise CheckpointError(f"unknown network {name!r}: expected one of {', '.join(network_names())}")
    with _NoInit():
        encoder = TinyViT() if name == "vit_t" else ImageEncoderViT(vit_configs()[name])
        return _with_decoder(encoder).eval()


def _with_decoder(encoder: TinyViT | ImageEncoderViT) -> Sam:
    size = encoder.image_size
    grid = size // PATCH
    return Sam(
        encoder,
        PromptEncoder(_DIM, image_embedding_size=(grid, grid), input_image_size=(size, size)),
        MaskDecoder(_DIM, TwoWayTransformer(depth=2, embedding_dim=_DIM, num_heads=8, mlp_dim=2048)),
    )


class _NoInit(TorchFunctionMode):
    """Leaves what `torch.nn.init` would fill as it is."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
