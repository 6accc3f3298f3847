"""An unfinished propagation on disk: request, anchors and last state, each file replaced as a whole."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src_core.continuity import Memory
from src_core.errors import SessionError
from src_core.labels.files import disk_errors
from src_core.masks import Mask, PackedMask
from src_core.propagation.anchors import Anchors
from src_core.propagation.tracks import Crop, PropagationState, Slabs, Track, Waiting

FOLDER = ".napari-sam-run"
"""Inside the label group, so that whoever replaces the labels removes the state that belongs to them."""

Arrays = dict[str, NDArray[Any]]


class RunStore:
    """The state of one unfinished run.

    A crop that waits is written once, with the plane it was made on, and so is what a second look will need of a plane;
    the state proper holds the tracks only, so that a checkpoint costs the same at the end of a long stretch as at its
    beginning.

    Parameters
    ----------
    labels
        The folder of the label image that the run writes.
    """

    def __init__(self, labels: Path) -> None:
        self.folder = labels / FOLDER

    @classmethod
    def begin(cls, labels: Path, request: Mapping[str, Any], anchors: Anchors) -> None:
        """Note in the folder of new labels what is asked, before the first plane is written."""
        store = cls(labels)
        arrays: Arrays = {}
        for index, masks in anchors.items():
            for identity, mask in masks.items():
                arrays |= mask_arrays(f"{index}/{identity}", PackedMask.of(mask))
        with disk_errors(f"store the run's state in {store.folder}"):
            store.folder.mkdir()
            store.replace("anchors.npz", packed(arrays))
            store.replace("request.json", json.dumps(request, indent=1).encode())

    def request(self) -> dict[str, Any] | None:
        """Return the request of the unfinished run, or None if there is none."""
        try:
            found = json.loads((self.folder / "request.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def anchors(self) -> dict[int, dict[int, Mask]]:
        """Return the anchors that `begin` was given, in the same order."""
        arrays = self.read("anchors.npz")
        anchors: dict[int, dict[int, Mask]] = {}
        for key in keys(arrays):
            index, identity = (int(n) for n in key.split("/"))
            anchors.setdefault(index, {})[identity] = mask_from(arrays, key).unpack()
        return anchors

    def save(self, state: PropagationState, notes: Mapping[str, Any]) -> None:
        """Replace the stored state by this one; `notes` (JSON) come back with `load`."""
        new = {k: crop for (k, index), crop in state.waiting.items() if index == state.index}
        arrays: Arrays = {"at": np.array([state.direction, state.index], np.int64)}
        for k, track in state.tracks.items():
            arrays |= mask_arrays(str(k), track.packed)
            if track.dense is not None and track.window is not None:
                arrays |= {f"{k}.dense": track.dense, f"{k}.window": np.array(track.window)}
            if track.memory is not None:
                arrays[f"{k}.memory"] = track.memory.numbers()
        arrays["notes"] = np.frombuffer(json.dumps(notes).encode(), np.uint8)
        with disk_errors(f"store the run's state in {self.folder}"):
            if new and state.direction > 0:
                crops: Arrays = {}
                for k, crop in new.items():
                    crops |= _crop_arrays(str(k), crop)
                self.replace(f"waiting-{state.index}.npz", packed(crops))
            at = state.index
            here = {k: {at: slabs[at]} for k, slabs in state.found.items() if at in slabs}
            if state.direction and here:
                self.replace(f"found-{at}.npz", packed(_slab_arrays(here)))
            if state.revised:
                self.replace("revised.npz", packed(_slab_arrays(state.revised)))
            self.replace("state.npz", packed(arrays))

    def load(self) -> tuple[PropagationState, dict[str, Any]] | None:
        """Return the last state and its notes, or None if the run was killed before its first."""
        if not (self.folder / "state.npz").exists():
            return None
        arrays = self.read("state.npz")
        direction, index = (int(n) for n in arrays.pop("at"))
        notes = json.loads(arrays.pop("notes").tobytes())
        tracks = {}
        for key in keys(arrays):
            dense, window, memory = (arrays.get(f"{key}.{part}") for part in ("dense", "window", "memory"))
            try:
                known = None if memory is None else Memory.from_numbers(memory)
            except ValueError as error:  # another version's
                raise _damaged(self.folder / "state.npz", error) from error
            tracks[int(key)] = Track(
                mask_from(arrays, key), dense, None if window is None else _extent(window), known
            )
        waiting: Waiting = {}
        for path in sorted(self.folder.glob("waiting-*.npz"), key=lambda p: int(p.stem.split("-")[1])):
            plane = int(path.stem.split("-")[1])
            if plane <= index if direction > 0 else plane < index:
                crops = self.read(path.name)
                waiting |= {(int(key), plane): _crop_from(crops, key) for key in keys(crops)}
        # On planes after the state's, the same will be found again.
        found = self._slabs(sorted(self.folder.glob("found-*.npz")))
        revised = {} if direction else self._slabs(sorted(self.folder.glob("revised.npz")))
        return PropagationState(direction, index, tracks, waiting, found, revised), notes

    def _slabs(self, paths: Iterable[Path]) -> dict[int, Slabs]:
        """Return object id -> what files hold of it."""
        found: dict[int, Slabs] = {}
        for path in paths:
            arrays = self.read(path.name)
            for key in keys(arrays):
                identity, plane = (int(n) for n in key.split("/"))
                slab = mask_from(arrays, key), float(arrays[f"{key}.score"])
                found.setdefault(identity, {})[plane] = slab
        return found

    def finish(self) -> None:
        """Remove the state: the labels are complete."""
        with disk_errors(f"remove the run's state in {self.folder}"):
            # First the file that makes it a run: half a removal must not look like an unfinished one.
            (self.folder / "request.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder)

    def replace(self, name: str, content: bytes) -> None:
        """Write a file of the state: the old one or the new, never half of it."""
        part = self.folder / f"{name}.part"
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or after a power cut the new name may hold nothing
        os.replace(part, self.folder / name)

    def read(self, name: str) -> Arrays:
        """Return the arrays of a file of the state; raise `SessionError` if it is damaged."""
        path = self.folder / name
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except Exception as error:  # damaged zip files raise whatever their reader trips over
            raise _damaged(path, error) from error

    def read_json(self, name: str) -> Any:
        """Return the JSON value in a file of the state, None if there is none; raise `SessionError` if damaged."""
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        except ValueError as error:
            raise _damaged(path, error) from error

    def is_sound(self) -> bool:
        """Say whether every file of the state can be read."""
        try:
            for path in self.folder.rglob("*.npz"):
                self.read(str(path.relative_to(self.folder)))
            for path in self.folder.glob("*.json"):
                self.read_json(path.name)
        except SessionError:
            return False
        return True


def _damaged(path: Path, error: Exception) -> SessionError:
    return SessionError(
        f"the state of the unfinished run in {path} cannot be read ({error}); "
        "start again and overwrite the labels"
    )


def packed(arrays: Arrays) -> bytes:
    """Return arrays as the content of an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def keys(arrays: Arrays) -> list[str]:
    """Return the keys of all masks in arrays, in order."""
    return [name.removesuffix(".bits") for name in arrays if name.endswith(".bits")]


def _slab_arrays(objects: Mapping[int, Slabs]) -> Arrays:
    """Return masks with their confidence as arrays."""
    arrays: Arrays = {}
    for k, slabs in objects.items():
        for plane, (mask, score) in slabs.items():
            key = f"{k}/{plane}"
            arrays |= mask_arrays(key, mask) | {f"{key}.score": np.array(score, np.float64)}
    return arrays


def mask_arrays(key: str, mask: PackedMask) -> Arrays:
    """Return a mask as arrays whose names begin with `key`."""
    return {f"{key}.bits": mask.bits, f"{key}.place": np.array([*mask.box, *mask.shape], np.int64)}


def mask_from(arrays: Arrays, key: str) -> PackedMask:
    """Undo `mask_arrays`."""
    y0, x0, y1, x1, height, width = (int(n) for n in arrays[f"{key}.place"])
    return PackedMask(arrays[f"{key}.bits"], (y0, x0, y1, x1), (height, width))


def _crop_arrays(key: str, crop: Crop) -> Arrays:
    return mask_arrays(key, crop.mask) | {
        f"{key}.values": crop.values,
        f"{key}.low_res": np.array([*crop.corner, *crop.low_res], np.int64),
        f"{key}.window": np.array(crop.window, np.float64),
        f"{key}.score": np.array(crop.score, np.float64),
    }


def _crop_from(arrays: Arrays, key: str) -> Crop:
    y, x, height, width = (int(n) for n in arrays[f"{key}.low_res"])
    window, score = _extent(arrays[f"{key}.window"]), float(arrays[f"{key}.score"])
    return Crop(arrays[f"{key}.values"], (y, x), (height, width), window, mask_from(arrays, key), score)


def _extent(values: NDArray[Any]) -> tuple[float, float, float, float]:
    y0, x0, y1, x1 = (float(v) for v in values)
    return (y0, x0, y1, x1)
