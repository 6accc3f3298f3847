"""The masks of searched slices on disk, beside the labels they are for: a killed run goes on, and memory stays flat."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src_core.automatic.records import MaskRecord
from src_core.labels import LabelVolume, create_own_labels
from src_core.labels.files import disk_errors
from src_core.linking.report import FoundObject
from src_core.masks import PackedMask
from src_core.propagation.request import may_write
from src_core.propagation.store import Arrays, RunStore, keys, mask_arrays, mask_from, packed
from src_core.volumes import Volume


class RecordShelf(RunStore):
    """What an unfinished run knows: its request, the masks of the slices that are searched, and a note.

    Parameters
    ----------
    labels
        The folder of the label image that the run writes.
    """

    @classmethod
    def prepare(cls, labels: Path, request: Mapping[str, Any]) -> None:
        """Note in the folder of new labels what is asked, before the first slice is searched."""
        shelf = cls(labels)
        with disk_errors(f"store the run's state in {shelf.folder}"):
            shelf.folder.mkdir()
            shelf.replace("request.json", json.dumps(request, indent=1).encode())

    def __contains__(self, index: int) -> bool:
        return (self.folder / _name(index)).exists()

    def put(self, index: int, records: Sequence[MaskRecord]) -> None:
        """Keep the masks of one slice."""
        arrays = {
            "bits": np.concatenate([np.zeros(0, np.uint8), *(r.mask.bits for r in records)]),
            "sizes": np.array([len(r.mask.bits) for r in records], np.int64),
            "boxes": np.array([r.box for r in records], np.int64).reshape(-1, 4),
            "numbers": np.array(
                [(r.area, r.score, r.stability, *r.point_yx, r.contrast) for r in records], np.float64
            ).reshape(-1, 6),
            "shape": np.array(records[0].mask.shape if records else (0, 0), np.int64),
        }
        with disk_errors(f"store the run's state in {self.folder}"):
            self.replace(_name(index), packed(arrays))

    def get(self, index: int) -> list[MaskRecord]:
        """Return the masks of one slice, in the order in which they were put."""
        arrays = self.read(_name(index))
        height, width = (int(n) for n in arrays["shape"])
        ends = np.cumsum(arrays["sizes"])
        records = []
        for end, size, box, numbers in zip(
            ends, arrays["sizes"], arrays["boxes"], arrays["numbers"], strict=True
        ):
            y0, x0, y1, x1 = (int(n) for n in box)
            mask = PackedMask(arrays["bits"][end - size : end], (y0, x0, y1, x1), (height, width))
            area, score, stability, y, x, contrast = (float(n) for n in numbers)
            records.append(MaskRecord(mask, int(area), score, stability, (y, x), contrast))
        return records

    def put_walked(self, index: int, group: int, masks: Mapping[int, PackedMask]) -> None:
        """Keep the masks (id -> mask) that a group of candidates has on one slice; they may overlap.

        They count as soon as the group is noted: see `put_candidates`.
        """
        arrays: Arrays = {}
        for k, mask in masks.items():
            arrays |= mask_arrays(str(k), mask)
        with disk_errors(f"store the run's state in {self.folder}"):
            # A folder a slice: looking through all files for those of one slice would take longer with every slice.
            (self.folder / f"walked-{index}").mkdir(exist_ok=True)
            self.replace(f"walked-{index}/{group}.npz", packed(arrays))

    def walked(self, index: int, candidates: Mapping[int, FoundObject]) -> dict[int, PackedMask]:
        """Return the masks of candidates on one slice, by id; those that a killed run has left are none."""
        found: dict[int, PackedMask] = {}
        for path in self.folder.glob(f"walked-{index}/*.npz"):
            arrays = self.read(f"walked-{index}/{path.name}")
            here = (k for k in keys(arrays) if int(k) in candidates and index in candidates[int(k)].scores)
            found |= {int(key): mask_from(arrays, key) for key in here}
        return dict(sorted(found.items()))

    def put_candidates(self, group: int, candidates: Mapping[int, FoundObject]) -> None:
        """Keep what has become of a group of seeds, whose masks are on the shelf."""
        self.note(
            {k: (found.scores, found.volume_px, found.side) for k, found in candidates.items()},
            f"group-{group}",
        )

    def candidates(self, before: int) -> dict[int, FoundObject]:
        """Return the candidates of all groups that begin before an id, by id."""
        found: dict[int, FoundObject] = {}
        for path in self.folder.glob("group-*.json"):
            if int(path.stem.removeprefix("group-")) < before:
                for k, (scores, volume, side) in self.noted(path.stem).items():
                    found[int(k)] = FoundObject({int(z): s for z, s in scores.items()}, volume, side)
        return dict(sorted(found.items()))

    def forget_walks(self) -> None:
        """Remove what has come of seeds; what was found on searched slices stays."""
        with disk_errors(f"remove the run's state in {self.folder}"):
            # First what says which of the others count: half a removal must not look like walks.
            (self.folder / "note.json").unlink(missing_ok=True)
            for path in self.folder.glob("group-*.json"):
                path.unlink()
            for path in self.folder.glob("walked-*"):
                shutil.rmtree(path)

    def note(self, value: Any, name: str = "note") -> None:
        """Keep a JSON value, which replaces the last of this name."""
        with disk_errors(f"store the run's state in {self.folder}"):
            self.replace(f"{name}.json", json.dumps(value).encode())

    def noted(self, name: str = "note") -> Any:
        """Return the value last kept under a name, None if there is none; raise `SessionError` if it is damaged."""
        return self.read_json(f"{name}.json")


def labels_of_run(
    volume: Volume, out: Path, request: dict[str, Any], *, overwrite: bool
) -> tuple[LabelVolume, RecordShelf, bool]:
    """Open the labels that an unfinished run for the same left at `out`, or create new ones.

    Returns them with the run's shelf, and whether the run goes on.

    Raises
    ------
    SessionError
        Something else is at `out`, or it cannot be written.
    """
    shelf = RecordShelf(out)
    if may_write(out, shelf, request, overwrite):
        return LabelVolume.open(out), shelf, True
    labels = create_own_labels(
        volume, out, overwrite=overwrite, prepare=lambda folder: RecordShelf.prepare(folder, request)
    )
    return labels, shelf, False


def _name(index: int) -> str:
    return f"slice-{index}.npz"
