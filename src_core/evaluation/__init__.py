"""Interactive segmentation measured: simulated clicks in 2D, propagation in 3D, fixed subsets, tables."""

from src_core.evaluation.clicks import (
    Click,
    Evaluation2D,
    ObjectResult,
    click_object,
    evaluate_2d,
    next_click,
)
from src_core.evaluation.datasets import (
    Sample2D,
    Sample3D,
    objects_3d,
    read_labelled,
    read_truth,
    subset_2d,
    test_files,
)
from src_core.evaluation.metrics import dice, number_of_clicks
from src_core.evaluation.propagation import (
    Evaluation3D,
    VolumeResult,
    evaluate_3d,
    propagate_object,
    propagation_of,
)
from src_core.evaluation.segmenters import Answer, Segmenter, View
from src_core.evaluation.tables import markdown_table, plot_clicks
from src_core.masks import iou

__all__ = [
    "Answer",
    "Click",
    "Evaluation2D",
    "Evaluation3D",
    "ObjectResult",
    "Sample2D",
    "Sample3D",
    "Segmenter",
    "View",
    "VolumeResult",
    "click_object",
    "dice",
    "evaluate_2d",
    "evaluate_3d",
    "iou",
    "markdown_table",
    "next_click",
    "number_of_clicks",
    "objects_3d",
    "plot_clicks",
    "propagate_object",
    "propagation_of",
    "read_labelled",
    "read_truth",
    "subset_2d",
    "test_files",
]
