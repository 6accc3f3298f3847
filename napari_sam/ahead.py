"""The network, and the embeddings of the slices the user is about to click on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from napari_sam.layers import OnScreen
from src_core import zoo
from src_core.embeddings import EmbeddingCache, EmbeddingStore, pays
from src_core.embeddings.location import embeddings_beside
from src_core.errors import CheckpointError
from src_core.predictor import Predictor
from src_core.session import Session
from src_core.tiles import View
from src_core.types import PlaneRef
from src_core.worker import Job, Priority

if TYPE_CHECKING:
    from napari_sam.interaction import Interaction

NEIGHBOURS = 4
"""Slices embedded ahead on either side of the one on screen."""
TILES_HERE, TILES_BESIDE = 8, 3
"""Tiles embedded ahead of large slices: of the one on screen, and of each neighbour."""


class Ahead:
    """Embeds what is on screen, then its neighbours, in the background.

    Of slices so large that they are seen through tiles, these are the tiles in view, from the mouse or the
    middle of the canvas outwards, and the overview.

    Attributes
    ----------
    model_name, predictor
        The network in use; it is loaded by the worker when it is first needed.
    cache
        Embeddings of the image with its present channel and contrast, None without an image.
    """

    def __init__(self, interaction: Interaction) -> None:
        self.interaction = interaction
        self.model_name = "nano"
        self.predictor: Predictor | None = None
        self.cache: EmbeddingCache | None = None
        self._jobs: list[Job] = []
        self._told = ""

    def renew(self, session: Session | None, on_screen: OnScreen | None) -> None:
        """Forget embeddings: the network, the channel or the contrast is another one."""
        self.stop()
        self._told = ""
        self.cache = None
        if session is not None:
            channel = on_screen.channel if on_screen is not None else None
            folder = embeddings_beside(session.labels.path)

            def store(predictor: Predictor) -> EmbeddingStore | None:
                if folder is None or not pays(predictor):
                    return None
                return EmbeddingStore(predictor, session.volume, folder, channel=channel)

            self.cache = EmbeddingCache(self._load, session.volume, channel, store=store)

    def look(self, on_screen: OnScreen | None, view: View | None) -> None:
        """Embed the slice on screen, then its neighbours; what else was waiting is dropped.

        Parameters
        ----------
        on_screen
            Which slice that is.
        view
            What of it the canvas shows.
        """
        self.stop()
        cache, worker = self.cache, self.interaction.worker
        if on_screen is None or cache is None:
            return
        here = on_screen.plane
        count = cache.volume.n_planes(here.axis) if here.axis else 1
        around = [here.index + s * k for k in range(1, NEIGHBOURS + 1) for s in (1, -1)]
        shares = cache.ready(here.axis, here.t, view)
        for index in (here.index, *(i for i in around if 0 <= i < count)):
            if shares.get(index) != 1:
                steps = _prepare(cache, PlaneRef(here.axis, index, here.t), here, view)
                priority = Priority.ON_SCREEN if index == here.index else Priority.NEIGHBOUR
                self._jobs.append(worker.submit_steps(steps, priority, self._ready, failed=self._failed))

    def stop(self) -> None:
        """Drop what has not begun."""
        for job in self._jobs:
            job.cancel()
        self._jobs.clear()

    def _load(self) -> Predictor:
        """Return the network, loading it if need be; on the worker."""
        if self.predictor is None or self.predictor.name != self.model_name:
            try:
                self.predictor = Predictor(zoo.load(self.model_name), self.model_name)
            except CheckpointError as error:
                raise instead(self.model_name, error) from error
        return self.predictor

    def _ready(self, _: Any) -> None:
        self.interaction.ready_changed.emit()

    def _failed(self, error: BaseException) -> None:
        self.stop()
        # One warning, not one for every slice: a missing file fails for all of them.
        if str(error) != self._told:
            self._told = str(error)
            self.interaction.failed(error)


def instead(name: str, error: BaseException) -> BaseException:
    """Return what to tell the user of a network that is not here and cannot be fetched; other errors as they are."""
    known = {info.name: info for info in zoo.models()}.get(name)
    # What comes from the network (the other one) says nothing to somebody without it.
    if known is None or known.downloaded is not None or not isinstance(error.__cause__, OSError):
        return error
    return CheckpointError(
        f"The model {name} is not on this computer, and it could not be downloaded. Choose the model nano, which "
        f"is always here, or put the file {known.file} in the folder {known.path.parent} (from {known.url})."
    )


def _prepare(cache: EmbeddingCache, plane: PlaneRef, here: PlaneRef, view: View | None) -> Iterator[None]:
    """Encode what the next click on a plane may need, one tile a step; what is on screen must not suffer."""
    cache.touch(here)
    embedding, tiles = cache.get(plane), cache.expected(plane, view)
    at_most = TILES_HERE if plane == here else TILES_BESIDE
    if embedding.tiles.overview_suffices:
        yield  # encoded already
        return
    for tile in tiles[:at_most]:
        if not embedding.has(tile):
            embedding.features(tile)
            yield
