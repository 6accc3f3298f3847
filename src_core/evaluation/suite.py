"""The project's own benchmark: every data set in a folder, in 2D and in 3D, by fixed rules.

A set is a folder of `.npz` images, or volumes `<set>*.ome.zarr`. Volumes count in 3D, and where one has at
least 50 slices in 2D as well: every tenth z slice of each, from slice 5 on, as an image with its labels.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src_core.errors import VolumeError
from src_core.evaluation.clicks import ObjectResult, evaluate_2d
from src_core.evaluation.datasets import N_IMAGES, Sample2D, objects_3d, read_truth, subset_2d
from src_core.evaluation.propagation import VolumeResult, evaluate_3d
from src_core.evaluation.segmenters import PredictorLike

SETS = ("dsb2018", "isbi2012", "plant_nuclei", "ovule_cells", "stardist3d")
SLICE_STEP = 10
FIRST_SLICE = 5
MIN_SLICES_FOR_2D = 50
N_OBJECTS_2D = 120
N_OBJECTS_3D = 40


@dataclass
class SuiteResult:
    """Results by set: 2D clicks; 3D from the true middle slice, and from the answer to one click on it."""

    clicks: dict[str, tuple[ObjectResult, ...]] = field(default_factory=dict)
    volumes: dict[str, tuple[VolumeResult, ...]] = field(default_factory=dict)
    summary_2d: dict[str, dict[str, float]] = field(default_factory=dict)
    summary_3d: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return summaries and every object's result."""
        content: dict[str, Any] = {"2D": self.summary_2d, "3D": self.summary_3d}
        content["objects 2D"] = {k: [asdict(r) for r in results] for k, results in self.clicks.items()}
        content["objects 3D"] = {k: [asdict(r) for r in results] for k, results in self.volumes.items()}
        return json.dumps(content, indent=1, default=float) + "\n"


def run_suite(
    predictor: PredictorLike,
    data: str | Path,
    sets: Sequence[str] = SETS,
    n_objects: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> SuiteResult:
    """Measure a predictor on every set.

    Parameters
    ----------
    predictor
        What is measured.
    data
        Folder of the sets.
    sets
        Their names.
    n_objects
        Objects per set and kind; 120 in 2D and 40 in 3D by default.
    progress
        Called as progress(done, total, what is measured now).

    Raises
    ------
    VolumeError
        There is no such set, or it cannot be read.
    """
    data = Path(data)
    parts = [part for name in sets for part in _parts(data, name)]
    result = SuiteResult()
    for done, (name, kind) in enumerate(parts):
        row = f"{name} slices" if kind == "slices" else name
        if progress is not None:
            progress(done, len(parts), f"{row}, {kind}" if kind != "slices" else row)
        if kind in ("2D", "slices"):
            draw = subset_2d if kind == "2D" else slices_2d
            source = data / name
            wanted = n_objects or N_OBJECTS_2D
            found = evaluate_2d(predictor, draw(source, min(wanted, N_IMAGES), wanted))
            result.clicks[row], result.summary_2d[row] = found.objects, found.summary()
        else:
            start = predictor if kind == "3D from one click" else None
            samples = objects_3d(data, name, max_objects=n_objects or N_OBJECTS_3D)
            volumes = evaluate_3d(predictor, samples, start)
            row = f"{name}, {'one click' if start is not None else 'true slice'}"
            result.volumes[row], result.summary_3d[row] = volumes.objects, volumes.summary()
    if progress is not None:
        progress(len(parts), len(parts), "")
    return result


def slices_2d(
    prefix: str | Path, n_images: int = N_IMAGES, n_objects: int = N_OBJECTS_2D
) -> Iterator[Sample2D]:
    """Draw from every tenth z slice of the volumes `<prefix>*.ome.zarr`, by the rule of `subset_2d`."""
    prefix = Path(prefix)
    with tempfile.TemporaryDirectory() as folder:
        for path in _volumes(prefix.parent, prefix.name):
            image, labels = read_truth(path)
            for z in range(FIRST_SLICE, image.shape[0], SLICE_STEP):
                name = f"{path.name.removesuffix('.ome.zarr')}_z{z:04d}.npz"
                np.savez(Path(folder) / name, image=np.asarray(image[z]), labels=np.asarray(labels[z]))
        yield from subset_2d(folder, n_images, n_objects)


def _parts(data: Path, name: str) -> list[tuple[str, str]]:
    if (data / name).is_dir():
        return [(name, "2D")]
    volumes = _volumes(data, name)
    if not volumes:
        raise VolumeError(
            f"no set {name!r} in {data}: expected the folder {name} of .npz, or {name}*.ome.zarr"
        )
    parts = [(name, "3D"), (name, "3D from one click")]
    longest = max(read_truth(path)[0].shape[0] for path in volumes)
    return [(name, "slices"), *parts] if longest >= MIN_SLICES_FOR_2D else parts


def _volumes(data: Path, prefix: str) -> list[Path]:
    return sorted(data.glob(f"{prefix}*.ome.zarr"), key=lambda path: path.name)
