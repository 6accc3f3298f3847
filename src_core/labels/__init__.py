"""Label volumes on disk: OME-Zarr label images, written plane by plane and chunk by chunk atomically."""

from src_core.labels.label_volume import Change, LabelVolume

__all__ = ["Change", "LabelVolume"]
