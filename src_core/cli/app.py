"""The commands together, and the one place where errors become a line on stderr."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from src_core import __version__
from src_core.cli import demo, embed, evaluate, info, measure, models, propagate, replay, segment, train
from src_core.errors import SamError

BAD_INPUT = 2
INTERRUPTED = 130
"""What a shell reports for a process that Ctrl-C ended."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `napari-sam models | head`
            raise
        except (SamError, OSError) as error:
            typer.echo(f"napari-sam: {_one_line(error)}", err=True)
            raise typer.Exit(BAD_INPUT) from None
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            typer.echo(
                f"napari-sam: out of memory ({_one_line(error) or 'MemoryError'}). Close other programs, take a "
                "smaller model, or pass --device cpu",
                err=True,
            )
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            typer.echo("napari-sam: interrupted; what is finished is kept", err=True)
            raise typer.Exit(INTERRUPTED) from None


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: CUDA has a class for it, which only PyTorch knows; MPS and the CPU only words."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and not isinstance(error, SamError):
        where = "" if error.filename is None else f"{error.filename}: "
        text = f"{where}{error.strerror or text}"
    return " ".join(text.split())


app = typer.Typer(
    name="napari-sam",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-sam {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Segment Anything on microscopy volumes: click on one slice, propagate through the stack."""


app.command()(info.info)
app.command()(models.models)
app.command(cls=segment.PromptCommand)(segment.segment)
app.command(cls=segment.PromptCommand)(propagate.propagate)
app.command()(embed.embed)
app.command()(replay.replay)
app.command()(measure.measure)
app.command()(demo.demo)
app.command()(evaluate.evaluate)
app.command()(train.train)
