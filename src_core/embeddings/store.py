"""Embeddings on disk beside the image: what was encoded once is read back by whoever looks at it next."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from src_core.embeddings.eviction import limit_of, remember_limit, touch, trim
from src_core.embeddings.key import StoreKey, tiling_fingerprint
from src_core.embeddings.location import embeddings_folder
from src_core.embeddings.shelf import Shelf
from src_core.embeddings.stamps import stamp
from src_core.embeddings.stored import StoredEmbedding
from src_core.errors import CacheError
from src_core.model.sam import Features
from src_core.predictor import Predictor
from src_core.types import Cancelled, PlaneRef, Progress
from src_core.volumes import Volume
from src_core.volumes.fingerprint import data_fingerprint
from src_core.zoo.checkpoint import fingerprint


@dataclass(frozen=True)
class Filled:
    """What `EmbeddingStore.fill` did: plane-tiles encoded, and those that were there already."""

    made: int
    found: int
    complete: bool


class EmbeddingStore:
    """The embeddings of an image's planes on disk, read if they are there, else computed and kept.

    Features are rounded to float16, also those just computed, so that answers do not depend on what is
    stored. Every tile carries a digest of the pixels it was made from: after an edit of the image, the planes
    it changed are computed again and no others. Several processes may use one folder; one that is killed
    leaves every tile complete or absent.

    If the folder cannot be written to, or the disk is full, everything goes on without keeping anything
    (`problem` says why); `fill`, whose only purpose is to keep, raises instead.

    Parameters
    ----------
    predictor, volume
        The network and the image.
    folder
        Where the embeddings of this image are, one folder a key; `<image>.sam.zarr/embeddings` by default.
    channel
        The channel to look at.
    max_bytes
        Size limit of the folder: the tiles used least recently are deleted, also those of other keys. By default
        the one that `fill` was last given here, or 50 GB.
    keep
        Whether what is missing is kept once it is computed, and room made for it; else the folder is only read.

    Raises
    ------
    CacheError
        No folder was given and the image is not a file; or the folder is none, or not on this computer.
    """

    def __init__(
        self,
        predictor: Predictor,
        volume: Volume,
        folder: str | Path | None = None,
        *,
        channel: int | None = None,
        max_bytes: int | None = None,
        keep: bool = True,
    ) -> None:
        self.predictor, self.volume, self.keep = predictor, volume, keep
        self.channel = volume.channel if channel is None else channel
        self.folder = embeddings_folder(volume) if folder is None else _checked(folder)
        self.max_bytes = limit_of(self.folder) if max_bytes is None else max_bytes
        self._limit_given = max_bytes is not None
        self.problem: CacheError | None = None
        self._room_is_known = True
        self._fingerprints: tuple[str, str] | None = None
        self._shelves: dict[tuple[str | None, int], Shelf] = {}
        self._lock = threading.Lock()
        self._bytes: int | None = None

    def key(self, axis: str | None = "z", t: int = 0) -> StoreKey:
        """Return what the embeddings of the planes along `axis` at time `t` are made from.

        Raises
        ------
        VolumeError
            There is no such axis, or the image cannot be read.
        """
        if self._fingerprints is None:
            self._fingerprints = (data_fingerprint(self.volume), fingerprint(self.predictor.model))
        data, weights = self._fingerprints
        tiles = self.predictor.tiles(self.volume.plane_shape(axis))
        return StoreKey(
            data,
            weights,
            axis if len(self.volume.spatial_axes) == 3 else None,
            t,
            self.channel,
            self.volume.contrast_limits_of(self.channel),
            tiling_fingerprint(self.predictor.model, tiles),
        )

    def exists(self, axis: str | None = "z", t: int = 0) -> bool:
        """Whether anything is stored for these planes and this network."""
        return self.folder.is_dir() and (self.folder / self.key(axis, t).name / "zarr.json").exists()

    def get(self, plane: PlaneRef) -> StoredEmbedding:
        """Return the embedding of a plane; its tiles are read or encoded when they are first needed.

        Raises
        ------
        VolumeError
            There is no such plane.
        CacheError
            The folder of its key holds something else.
        """
        seen = self.volume.plane_at(plane, self.channel)
        tiles = self.predictor.tiles(self.volume.plane_shape(plane.axis))
        shelf = self._shelf(plane.axis, plane.t)
        return StoredEmbedding(
            seen,
            tiles,
            self.predictor.model,
            stamp=lambda level: stamp(seen, self.volume.files, level),
            load=lambda tile: shelf.get(plane.index, tile),
            keep=lambda tile, proof, features: self._keep(shelf, plane.index, tile, proof, features),
            touch=lambda tile: touch(shelf.chunk(plane.index, tile)),
        )

    def along(self, axis: str | None = "z", t: int = 0) -> Callable[[int], StoredEmbedding]:
        """Return `get` as a function of the plane's index: what `propagate(embed=...)` asks for."""
        return lambda index: self.get(PlaneRef(axis, index, t))

    def stored(self, axis: str | None = "z", t: int = 0) -> set[int]:
        """Return the planes all of whose tiles, but for enlarged ones, are on disk."""
        shelf = self._shelf(axis, t)
        planes = range(self.volume.n_planes(axis))
        return {i for i in planes if all(shelf.has(i, tile) for tile in range(shelf.ahead))}

    def fill(
        self,
        axis: str | None = "z",
        start: int | None = None,
        stop: int | None = None,
        *,
        t: int = 0,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Filled:
        """Encode and keep whole planes ahead; what is there is not made again.

        Enlarged tiles are left for those who ask for small objects.

        Parameters
        ----------
        axis, start, stop, t
            Half-open range of planes along `axis` at time point `t`; the whole stack by default.
        progress
            Called as progress(done, total) in plane-tiles.
        cancelled
            Asked after every plane-tile.

        Raises
        ------
        CacheError
            The folder cannot be written to, or the rest of the range will not fit on the disk or below the
            limit, found out after the first tile.
        PromptError
            The range is not within the stack.
        VolumeError
            The image cannot be read.
        """
        planes = self.volume.planes(axis, start, stop)
        self._room_is_known = False  # until then nothing is deleted for what may be refused
        try:
            return self._fill(planes, axis, t, progress, cancelled)
        finally:
            self._room_is_known = True

    def _fill(
        self, planes: range, axis: str | None, t: int, progress: Progress | None, cancelled: Cancelled | None
    ) -> Filled:
        shelf = self._shelf(axis, t)
        total, made, done = len(planes) * shelf.ahead, 0, 0
        for index in planes:
            plane = PlaneRef(axis, index, t)
            embedding = self.get(plane)
            for tile in range(shelf.ahead):
                embedding.features(tile)
                embedding.shrink(0)
                if tile in embedding.made:
                    made += 1
                    if self.problem is not None:
                        raise self.problem
                    if made == 1 and shelf.has(index, tile):
                        self._check_room(shelf.chunk(index, tile), shelf, planes, axis)
                done += 1
                if progress is not None:
                    progress(done, total)
                if cancelled is not None and cancelled():
                    return Filled(made, done - made, done == total)
        return Filled(made, done - made, True)

    def _check_room(self, chunk: Path, shelf: Shelf, planes: range, axis: str | None) -> None:
        chunk_bytes = chunk.stat().st_size
        whole = chunk_bytes * shelf.ahead * len(planes)
        there = sum(shelf.has(i, tile) for i in planes for tile in range(shelf.ahead))
        free = shutil.disk_usage(self.folder).free + there * chunk_bytes
        for room, what in ((self.max_bytes, "the limit is"), (free, "the disk has")):
            if whole > room:
                chunk.unlink()  # what is refused changes nothing
                raise CacheError(
                    f"the planes {planes[0]} to {planes[-1]} along {axis} take about {whole / 1e9:.3g} GB, but {what} "
                    f"{room / 1e9:.3g} GB: take fewer planes (--range), or another folder (--embeddings) or "
                    "limit (--max-size)"
                )
        if self._limit_given:
            remember_limit(self.folder, self.max_bytes)
        self._room_is_known = True

    def _shelf(self, axis: str | None, t: int) -> Shelf:
        with self._lock:
            if (axis, t) not in self._shelves:
                key = self.key(axis, t)
                tiles = self.predictor.tiles(self.volume.plane_shape(axis))
                count = self.volume.n_planes(axis)
                shelf = Shelf(self.folder / key.name, key, self.predictor.model, tiles, count)
                self._shelves[axis, t] = shelf
            return self._shelves[axis, t]

    def _keep(self, shelf: Shelf, plane: int, tile: int, proof: bytes, features: Features) -> None:
        """Store a tile, unless that has failed before, and make room for it."""
        if self.problem is not None or not self.keep:
            return
        try:
            size = shelf.put(plane, tile, proof, features)
        except CacheError as error:
            self.problem = error
            return
        with self._lock:
            if not self._room_is_known:
                return
            if self._bytes is None or self._bytes + size > self.max_bytes:
                self._bytes = trim(self.folder, self.max_bytes, shelf.chunk(plane, tile))
            else:
                self._bytes += size


def pays(predictor: Predictor) -> bool:
    """Whether embeddings are worth their place on disk without being asked for.

    On one processor, a gigabyte saves about half a minute of encoding with nano, and two hours with ViT-B.
    """
    return not predictor.model.native_tiles


def _checked(folder: str | Path) -> Path:
    if isinstance(folder, str) and "://" in folder:
        raise CacheError(f"{folder} is an address; embeddings need a folder on this computer")
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        raise CacheError(f"{path} is a file; name a folder for the embeddings")
    if any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        raise CacheError(
            f"{path} is a zarr image or array of its own; name another folder for the embeddings"
        )
    return path
