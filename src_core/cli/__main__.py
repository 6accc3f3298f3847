"""`python -m src_core.cli`."""

from src_core.cli import app

app(prog_name="napari-sam")
