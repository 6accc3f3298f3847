"""Points and boxes on the command line, read in the order in which they were typed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from src_core.errors import PromptError

if TYPE_CHECKING:
    from src_core.prompts import Prompts

_KINDS = ("point", "negative", "box", "object_id")
_TYPED = "src_core.prompts_as_typed"


class PromptCommand(TyperCommand):
    """A command that remembers the order of its prompt options: `--object` says whose the next ones are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse once for the order of the options, then as usual."""
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        # The parser names an option once for every time it was typed, and lists its values in that order.
        unread: dict[str, Iterator[str]] = {k: iter(values.get(k) or ()) for k in _KINDS}
        ctx.meta[_TYPED] = [(p.name, next(unread[p.name])) for p in order if p.name in unread]
        return super().parse_args(ctx, args)


@dataclass
class Marks:
    """What was typed about one object on one plane."""

    points_yx: list[tuple[float, ...]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    box_yxyx: tuple[float, ...] | None = None

    def prompts(self) -> Prompts:
        """Return it as validated prompts."""
        from src_core.prompts import Prompts

        return Prompts(self.points_yx, self.labels, self.box_yxyx)


def typed_prompts(ctx: Any, axis: str, *, sliced: bool) -> dict[int, dict[int, Prompts]]:
    """Return plane -> object id -> prompts, as typed.

    Parameters
    ----------
    ctx
        The context of a `PromptCommand`.
    axis
        The name of the axis that the planes lie along.
    sliced
        Whether coordinates begin with the plane; False for 2-D images, whose only plane is 0.

    Raises
    ------
    PromptError
        Not numbers, too few or too many of them, an object id given twice, two boxes for one object on one
        plane, or no point or box at all.
    """
    marks: dict[int, dict[int, Marks]] = {}
    identity = 1
    given: list[int] = []
    for kind, text in ctx.meta[_TYPED]:
        if kind == "object_id":
            identity = _object_id(text)
            if identity in given:
                raise PromptError(
                    f"--object {identity} is given twice; list all prompts of an object together"
                )
            given.append(identity)
            continue
        if identity not in given:
            given.append(identity)
        plane, numbers = _coordinates(kind, text, axis, sliced)
        own = marks.setdefault(plane, {}).setdefault(identity, Marks())
        if kind == "box":
            if own.box_yxyx is not None:
                raise PromptError(f"object {identity} has two boxes on one plane; give one")
            own.box_yxyx = numbers
        else:
            own.points_yx.append(numbers)
            own.labels.append(int(kind == "point"))
    prompts = {plane: {k: m.prompts() for k, m in by_object.items()} for plane, by_object in marks.items()}
    if not prompts:
        example = f"{axis},y,x" if sliced else "y,x"
        raise PromptError(f"no prompt: give at least one --point {example} or --box")
    for plane, by_object in marks.items():
        for k, m in by_object.items():
            if m.box_yxyx is None and 1 not in m.labels:
                on = f" on {axis}={plane}" if sliced else ""
                raise PromptError(
                    f"object {k} has only negative points{on}; give a --point or --box there, too"
                )
    if unused := [k for k in given if not any(k in by_object for by_object in marks.values())]:
        raise PromptError(f"--object {unused[0]} is not followed by any --point or --box")
    return prompts


def _coordinates(kind: str, text: str, axis: str, sliced: bool) -> tuple[int, tuple[float, ...]]:
    names: tuple[str, ...] = ("y0", "x0", "y1", "x1") if kind == "box" else ("y", "x")
    rest = [a for a in "zyx" if a != axis]
    if axis != "z":  # rows and columns follow the order z, y, x
        names = tuple(rest["yx".index(n[0])] + n[1:] for n in names)
    names = (axis, *names) if sliced else names
    expected = f"--{kind} takes {','.join(names)} in pixels"
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise PromptError(f"{expected}, got {text!r}") from None
    if len(numbers) != len(names):
        raise PromptError(f"{expected}: {len(names)} numbers, got {len(numbers)} in {text!r}")
    if not all(math.isfinite(n) for n in numbers):
        raise PromptError(f"{expected}: finite numbers, got {text!r}")
    if not sliced:
        return 0, numbers
    if numbers[0] != int(numbers[0]):
        raise PromptError(f"{expected}; {axis} counts slices from 0, got {numbers[0]:g}")
    return int(numbers[0]), numbers[1:]


def _object_id(text: str) -> int:
    try:
        identity = int(text)
    except ValueError:
        identity = 0
    if identity < 1:
        raise PromptError(f"--object takes a whole number from 1, got {text!r}")
    return identity
