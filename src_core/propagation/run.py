"""The walk through the stack as a stream of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from src_core.embedding import Embedding
from src_core.errors import PromptError
from src_core.predictor import Predictor
from src_core.propagation.across import SecondLook
from src_core.propagation.anchors import Anchors, checked_anchors
from src_core.propagation.settings import PropagationSettings, Step
from src_core.propagation.tracks import PropagationState
from src_core.propagation.walk import Walk
from src_core.volumes import Volume


def propagate(
    predictor: Predictor,
    volume: Volume,
    anchors: Anchors,
    *,
    axis: str = "z",
    start: int | None = None,
    stop: int | None = None,
    t: int = 0,
    c: int | None = None,
    settings: PropagationSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
    checkpoint: Callable[[PropagationState], None] | None = None,
    resume: PropagationState | None = None,
    overlapping: bool = False,
) -> Iterator[Step]:
    """Carry masks from their anchors through the stack, plane by plane.

    Parameters
    ----------
    predictor, volume
        The network and the image.
    anchors
        Plane index -> object id -> (H, W) bool mask. They are yielded as they are and never changed. Objects
        end before a plane with an empty one; each needs one that is not empty.
    axis
        The spatial axis to travel along.
    start, stop
        Half-open range of planes to fill; the whole stack by default.
    t, c
        Time point and channel.
    settings
        See `PropagationSettings`.
    embed
        Called with a plane's index instead of `Predictor.embed`, by callers that keep embeddings.
    checkpoint
        Called with the state after every plane, once the caller has come back for more: what it does with a
        step is then done. Planes between anchors, which yield nothing on the way up, count as well.
    resume
        A state that `checkpoint` got from a call with the same arguments: go on after its plane, with the
        same results as if there had been no interruption. The anchors are not yielded again.
    overlapping
        Leave every object all of its mask; by default a pixel that several claim goes to the surest.

    Yields
    ------
    Step
        As soon as a plane is done, also where it has no masks to show. The caller may save, show, or stop at
        any point.

    Raises
    ------
    PromptError
        An anchor or the range lies outside the stack; an anchor is no mask, does not fit the plane, or all of an
        object are empty; the second look is to go along axes that are not those of the planes.
    """
    walk = Walk(
        predictor,
        volume,
        checked_anchors(volume, anchors, axis),
        axis,
        t,
        c,
        settings or PropagationSettings(),
    )
    walk.embed, walk.checkpoint, walk.overlapping = embed or walk.embed, checkpoint, overlapping
    planes = volume.planes(axis, start, stop)
    check_axes(volume, axis, walk.across)
    # Not a generator itself: bad arguments are refused at once.
    return _steps(walk, planes[0], planes[-1], resume)


def _steps(walk: Walk, first: int, last: int, resume: PropagationState | None) -> Iterator[Step]:
    looks = 0
    if resume is not None and resume.direction == 0:
        walk.found, walk.revised, looks = resume.found, resume.revised, resume.index
    else:
        yield from walk.steps(first, last, resume)
    if walk.across:
        yield from SecondLook(walk, first, last).steps(looks)


def check_axes(volume: Volume, axis: str, across: tuple[str, ...]) -> None:
    """Raise `PromptError` unless an axis and those across it, if any, are different spatial axes of a volume."""
    axes = (axis, *across)
    if across and (len(set(axes)) < len(axes) or set(axes) - set(volume.spatial_axes)):
        raise PromptError(
            f"axes to fuse are different ones of {''.join(volume.spatial_axes)}, got {''.join(axes)!r}"
        )
