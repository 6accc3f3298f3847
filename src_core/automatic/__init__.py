"""Automatic masks of everything on a plane, without a prompt (paper, section 4 and appendix B)."""

from src_core.automatic.coco import read_coco, write_coco
from src_core.automatic.plane import automatic_masks
from src_core.automatic.records import MaskRecord, label_image
from src_core.automatic.search import Search, look
from src_core.automatic.selecting import common_contrast, select, usual_contrast
from src_core.automatic.settings import SearchSettings, Thresholds

__all__ = [
    "MaskRecord",
    "Search",
    "SearchSettings",
    "Thresholds",
    "automatic_masks",
    "common_contrast",
    "label_image",
    "look",
    "read_coco",
    "select",
    "usual_contrast",
    "write_coco",
]
