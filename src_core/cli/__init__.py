"""The command line, `napari-sam`: a thin layer over the library, one file a command.

Nothing heavier than typer is imported before a command runs, so that `--help` answers at once.
"""

from src_core.cli.app import app

__all__ = ["app"]
