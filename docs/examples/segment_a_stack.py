"""Segment two nuclei of the sample stack with layers and no window: points in, labels out.

    python docs/examples/segment_a_stack.py [FOLDER]

With a FOLDER, the labels are written there as a TIFF file. The same calls work in napari's console, with the
layers of the viewer that is open.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from napari.components import ViewerModel

import napari_sam
from napari_sam.sample_data import image_layer
from src_core.samples import open_sample, sample_clicks


def main(folder: Path | None = None) -> np.ndarray:
    """Return the labels, (z, y, x) uint32."""
    viewer = ViewerModel()
    data, arguments, _ = image_layer(open_sample("plant_nuclei"), "plant nuclei")
    image = viewer.add_image(data, **arguments)

    # One click a nucleus; the feature `object` says which nucleus it is for, `label` could say "negative".
    clicks = np.array(sample_clicks("plant_nuclei", 2), float)
    points = viewer.add_points(
        clicks, features={"object": [1, 2]}, scale=image.scale, translate=image.translate, units=image.units
    )

    on_slices = napari_sam.segment(image, points)
    through_the_stack = napari_sam.propagate(image, points)
    viewer.add_labels(through_the_stack, scale=image.scale, translate=image.translate, units=image.units)
    for k in (1, 2):
        slices = np.nonzero((through_the_stack == k).any((1, 2)))[0]
        print(
            f"nucleus {k}: {(on_slices == k).sum()} pixels where clicked, slices {slices[0]} to {slices[-1]}"
        )
    if folder is not None:
        tifffile.imwrite(folder / "nuclei.tif", through_the_stack, photometric="minisblack")
    return through_the_stack


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
