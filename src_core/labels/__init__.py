"""Label volumes on disk: OME-Zarr label images, written plane by plane and chunk by chunk atomically."""

from src_core.labels.label_volume import Change, LabelVolume
from src_core.labels.target import check_apart, check_target, create_labels, create_own_labels

__all__ = ["Change", "LabelVolume", "check_apart", "check_target", "create_labels", "create_own_labels"]
