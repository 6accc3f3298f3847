"""Drawn prompts as the session remembers them, and back into the layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from napari_sam.prompt_layers import Drawn
from src_core.session import DrawnPrompts, Session


def prompts_of(drawn: Drawn) -> dict[int, DrawnPrompts]:
    """Return what is drawn by object; nothing of layers whose features do not say whose it is."""
    found: dict[int, list[Any]] = {}
    if {"object", "label"} <= set(drawn.point_features):
        rows = zip(drawn.points, drawn.point_features["object"], drawn.point_features["label"], strict=True)
        for position, identity, sign in rows:
            points, labels, _ = found.setdefault(int(identity), [[], [], []])
            points.append(_position(position))
            labels.append(int(str(sign) != "negative"))
    if "object" in drawn.shape_features:
        owners = drawn.shape_features["object"]
        for corners, kind, identity in zip(drawn.shapes, drawn.shape_types, owners, strict=True):
            shapes = found.setdefault(int(identity), [[], [], []])[2]
            shapes.append((kind, tuple(_position(v) for v in corners)))
    return {i: DrawnPrompts(*(tuple(part) for part in parts)) for i, parts in found.items()}


def changed(session: Session, drawn: Drawn) -> dict[int, DrawnPrompts]:
    """Return the prompts of known objects that the session does not have like this."""
    now = prompts_of(drawn)
    known = {i: state.prompts for i, state in list(session.objects.items())}
    return {i: now.get(i, DrawnPrompts()) for i, old in known.items() if now.get(i, DrawnPrompts()) != old}


def differs(session: Session, drawn: Drawn) -> bool:
    """Say whether the layers show other prompts than the session has: also those of objects that have gone."""
    known = {i: state.prompts for i, state in list(session.objects.items()) if state.prompts}
    return prompts_of(drawn) != known


def redrawn(session: Session, ndim: int) -> Drawn:
    """Return the session's prompts as what layers of `ndim` dimensions show."""
    prompts = {i: state.prompts for i, state in sorted(session.objects.items())}
    points = [(p, i, s) for i, own in prompts.items() for p, s in zip(own.points, own.labels, strict=True)]
    shapes = [(kind, corners, i) for i, own in prompts.items() for kind, corners in own.shapes]
    return Drawn(
        np.array([p for p, _, _ in points], float).reshape(-1, ndim),
        pd.DataFrame(
            {
                "object": pd.Series([i for _, i, _ in points], dtype=int),
                "label": pd.Series(["positive" if s else "negative" for *_, s in points], dtype=object),
            }
        ),
        [np.array(corners, float) for _, corners, _ in shapes],
        [kind for kind, _, _ in shapes],
        pd.DataFrame({"object": pd.Series([i for *_, i in shapes], dtype=int)}),
    )


def _position(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
