"""The embeddings of one key on disk: one zarr chunk a plane-tile, whole or not there."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import ContainsArrayError, ContainsGroupError

from src_core import frames
from src_core.embeddings.key import StoreKey
from src_core.embeddings.stored import PROOF_BYTES
from src_core.errors import CacheError
from src_core.model.sam import Features, Sam
from src_core.tiling import Tiling

logger = logging.getLogger(__name__)

ATTRIBUTE = "napari-sam embeddings"
_HEAD = PROOF_BYTES // 2
_MISSING = np.full(_HEAD, np.nan, np.float16).tobytes()
LOOKS, LOOK_S = 5, 0.05
"""How often, and how many seconds apart, a folder is looked at that another process may just be making."""


class Shelf:
    """Features by (plane, tile), float16.

    Tiles whose network input has the same size share an array of shape (planes, tiles, values): 32 bytes of
    proof, then the maps of the tuple one after the other; their shapes are in its attributes. A chunk holds
    one plane-tile and is written aside and renamed, so that it is complete if it is there, and its being there
    is the mark that it is done.

    Parameters
    ----------
    folder
        Of this key; it is made when the first tile is put in.
    key
        What the embeddings are made from.
    model
        The network.
    tiles
        How it sees a plane.
    n_planes
        How many planes there are.

    Attributes
    ----------
    ahead
        How many tiles of a plane, from the first, are worth filling ahead.

    Raises
    ------
    CacheError
        Something else is in the folder, or embeddings of another version, image or network.
    """

    def __init__(self, folder: Path, key: StoreKey, model: Sam, tiles: Tiling, n_planes: int) -> None:
        self.ahead = tiles.ahead
        self.folder, self.key, self.device, self.n_planes = folder, key, model.device, n_planes
        names = ["x".join(str(n) for n in frames.frame_shape(model, tile)) for tile in tiles]
        self._counts: Counter[str] = Counter()
        self._places: list[tuple[str, int]] = []
        for name in names:
            self._places.append((name, self._counts[name]))
            self._counts[name] += 1
        self._arrays: dict[str, zarr.Array[Any]] = {}
        self._check()

    def get(self, plane: int, tile: int) -> tuple[bytes, Features] | None:
        """Return proof and features (float32, on the network's device); None if absent or damaged."""
        name, at = self._places[tile]
        try:
            array = self._open(name)
            if array is None:
                return None
            values = np.asarray(array[plane, at])
            shapes: list[list[int]] = array.attrs["shapes"]  # type: ignore[assignment]
            proof = values[:_HEAD].tobytes()
            return None if proof == _MISSING else (proof, self._maps(values[_HEAD:], shapes))
        except Exception as error:  # truncated chunks: codecs and stores raise whatever they trip over
            logger.warning("%s is damaged and made again (%s)", self.chunk(plane, tile), error)
            return None

    def put(self, plane: int, tile: int, proof: bytes, features: Features) -> int:
        """Store features and return the bytes this takes on disk.

        Raises
        ------
        CacheError
            The disk is full or read-only.
        """
        name, at = self._places[tile]
        head = np.frombuffer(proof, np.float16)
        values: NDArray[np.float16] = np.concatenate([head, *(_half(f) for f in features)])
        try:
            array = self._open(name) or self._create(name, [tuple(f.shape) for f in features], len(values))
            array[plane, at] = values
            return self.chunk(plane, tile).stat().st_size
        except CacheError:
            raise
        except OSError as error:
            raise CacheError(
                f"embeddings cannot be stored in {self.folder}: {error.strerror or error}. What is there is "
                "complete; free some space or check the permissions of the folder, and go on"
            ) from error

    def has(self, plane: int, tile: int) -> bool:
        """Whether a tile is there, without looking into it."""
        return self.chunk(plane, tile).exists()

    def chunk(self, plane: int, tile: int) -> Path:
        """Return the file of a tile."""
        name, at = self._places[tile]
        return self.folder / name / "c" / str(plane) / str(at) / "0"

    def _maps(self, values: NDArray[np.float16], shapes: list[list[int]]) -> Features:
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = np.split(values.astype(np.float32), ends[:-1])
        return tuple(
            torch.from_numpy(part.reshape(shape)).to(self.device)
            for part, shape in zip(parts, shapes, strict=True)
        )

    def _check(self) -> None:
        there = self._described()
        if there is None:
            return
        wanted = self.key.described()
        if there.get("version") != wanted["version"]:
            raise CacheError(
                f"{self.folder} holds embeddings of version {there.get('version')}, this is version "
                f"{wanted['version']}; delete it, or choose another folder"
            )
        differ = [f"{k} {there.get(k)}, expected {v}" for k, v in wanted.items() if there.get(k) != v]
        if differ:
            raise CacheError(
                f"{self.folder} holds embeddings of something else ({'; '.join(differ)}); delete it, or "
                "choose another folder"
            )

    def _described(self) -> dict[str, Any] | None:
        """Return what the folder says it holds, None if it holds nothing yet."""
        looks = 0
        while self.folder.exists():
            try:
                found = dict(zarr.open_group(self.folder, mode="r").attrs)[ATTRIBUTE]
                return dict(found)  # type: ignore[arg-type]
            except Exception as error:
                looks += 1
                if not any(self.folder.rglob("zarr.json")):
                    return None  # of a process that was killed at its very beginning
                if looks == LOOKS:
                    raise CacheError(
                        f"{self.folder} does not hold embeddings, or its metadata is damaged "
                        f"({type(error).__name__}: {error}); delete it, or choose another folder"
                    ) from error
                time.sleep(LOOK_S)
        return None

    def _open(self, name: str) -> zarr.Array[Any] | None:
        if name not in self._arrays:
            if not (self.folder / name / "zarr.json").exists():
                return None
            self._arrays[name] = self._reopened(name)
        return self._arrays[name]

    def _reopened(self, name: str) -> zarr.Array[Any]:
        try:
            return zarr.open_array(self.folder / name, mode="r+")
        except OSError:
            raise
        except Exception as error:  # zarr answers damaged metadata with whatever it trips over
            raise CacheError(
                f"the metadata of {self.folder / name} is damaged ({type(error).__name__}: {error}); "
                "delete that folder"
            ) from error

    def _create(self, name: str, shapes: list[tuple[int, ...]], length: int) -> zarr.Array[Any]:
        """Make the array of tiles of one size; another process may be doing the same."""
        with suppress(ContainsGroupError):
            # With its attributes at once: a group without them would be nobody's.
            zarr.create_group(self.folder, zarr_format=3, attributes={ATTRIBUTE: self.key.described()})
        group = zarr.open_group(self.folder, mode="r+")
        try:
            self._arrays[name] = group.create_array(
                name,
                shape=(self.n_planes, self._counts[name], length),
                chunks=(1, 1, length),
                dtype="float16",
                fill_value=float("nan"),
                # Features are nearly noise: a seventh is all that any codec saves, so a fast one. The
                # checksum finds what a crash of the machine or a bad disk leaves.
                compressors=[
                    BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=2),
                    Crc32cCodec(),
                ],
                attributes={"shapes": [list(s) for s in shapes]},
                dimension_names=("plane", "tile", "value"),
                config={"write_empty_chunks": True},
            )
        except (ContainsArrayError, FileExistsError):
            self._arrays[name] = self._reopened(name)
        return self._arrays[name]


def _half(tensor: torch.Tensor) -> NDArray[np.float16]:
    flat: NDArray[np.float16] = tensor.detach().to("cpu", torch.float16).contiguous().reshape(-1).numpy()
    return flat
