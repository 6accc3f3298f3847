"""Propagation along several axes straight into a label volume."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from src_core.embedding import Embedding
from src_core.labels import check_target, create_own_labels
from src_core.labels.files import check_new
from src_core.locks import sole_writer
from src_core.predictor import Predictor
from src_core.propagation.anchors import PromptsByPlane, anchor_masks, unanswered
from src_core.propagation.fusing import check_axes, propagate_axes
from src_core.propagation.request import checked_prompts, plain_prompts
from src_core.propagation.saving import ObjectReport, Report, note_step
from src_core.propagation.settings import PropagationSettings, Step
from src_core.types import Progress
from src_core.volumes import Volume


def propagate_axes_to_labels(
    predictor: Predictor,
    volume: Volume,
    prompts: PromptsByPlane,
    out: str | Path,
    axes: str,
    *,
    t: int = 0,
    c: int | None = None,
    settings: PropagationSettings | None = None,
    embed: Callable[[int], Embedding] | None = None,
    overwrite: bool = False,
    pyramid: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Answer the prompts, propagate along several axes, fuse, and write an OME-Zarr label image.

    The labels are written when all axes are through; a run that is killed before begins anew.

    Parameters
    ----------
    predictor, volume, axes, t, c, settings, embed, progress
        As in `propagate_axes`.
    prompts, out, overwrite, pyramid
        As in `propagate_to_labels`; the prompts are on planes of the first axis.

    Raises
    ------
    PromptError
        A prompt lies outside its plane, the answers to all are empty, or the axes are not of the volume.
    SessionError
        `out` is there already, or cannot be written.
    VolumeError
        The image cannot be read, or has no contrast.
    """
    out = Path(out)
    check_axes(volume, axes)
    check_target(volume, out)
    with sole_writer(out):
        check_new(out, overwrite=overwrite)
        first = axes[0]
        prompts = plain_prompts(prompts)
        checked_prompts(volume, prompts, first, None, None)
        anchors = anchor_masks(predictor, volume, prompts, axis=first, t=t, c=c, embed=embed)
        steps = [Step(i, masks, dict.fromkeys(masks, 1.0), anchor=True) for i, masks in anchors.items()]
        found = propagate_axes(
            predictor, volume, anchors, axes, t=t, c=c, settings=settings, embed=embed, progress=progress
        )
        ahead = list(itertools.islice(found, 1))  # nothing is replaced before all axes are through
        labels = create_own_labels(volume, out, overwrite=overwrite, pyramid=pyramid)
        objects: dict[int, ObjectReport] = {}
        for step in itertools.chain(steps, ahead, found):
            if step.masks:
                labels.write_plane(first, step.index, step.masks, t=t)
            note_step(objects, step)
    return Report(labels, dict(sorted(objects.items())), False, True, unanswered(prompts, anchors))
