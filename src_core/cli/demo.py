"""`napari-sam demo`: the main job on a stack that ships with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from src_core.cli.options import (
    DeviceOption,
    ModelOption,
    console,
    load_predictor,
    progress_bar,
    write_png,
    write_text,
)
from src_core.cli.propagate import describe, warn_unanswered
from src_core.errors import SamError, SessionError


def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Without a window: write files instead.")
    ] = False,
    out: Annotated[Path, typer.Option(help="With --headless: folder for labels and pictures.")] = Path(
        "napari-sam-demo"
    ),
    sample: Annotated[
        str, typer.Option(help="With --headless: plant_nuclei (real) or drawn_nuclei.")
    ] = "plant_nuclei",
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
) -> None:
    """Click on a few nuclei of a sample stack and propagate them; in napari, or headless."""
    if not headless:
        _open_window()
        return
    from src_core.montage import montage, object_montage
    from src_core.prompts import Prompts
    from src_core.propagation import propagate_to_labels
    from src_core.samples import open_sample, sample_clicks

    volume = open_sample(sample)
    labels_path = out / f"{sample}.labels.ome.zarr"
    picture_paths = [out / f"{sample}.{name}.png" for name in ("objects", "slices")]
    _claim(out, [labels_path, *picture_paths])
    prompts: dict[int, dict[int, Prompts]] = {}
    for k, (z, y, x) in enumerate(sample_clicks(sample), start=1):
        prompts.setdefault(z, {})[k] = Prompts([(y, x)])
    predictor = load_predictor(model, device)
    with progress_bar("propagating") as progress:
        report = propagate_to_labels(
            predictor, volume, prompts, labels_path, overwrite=True, progress=progress
        )
    extents = {k: (found.first, found.last) for k, found in report.objects.items()}
    low, high = min(first for first, _ in extents.values()), max(last for _, last in extents.values())
    planes = sorted({round(low + i * (high - low) / 8) for i in range(9)})
    pictures = (object_montage(volume, report.labels, extents), montage(volume, report.labels, planes))
    for path, picture in zip(picture_paths, pictures, strict=True):
        write_png(path, picture, overwrite=True)
    warn_unanswered(report, "z")
    screen = console()
    for line in [*describe(report, "z"), *(f"wrote {path}" for path in (labels_path, *picture_paths))]:
        screen.print(line)


def _claim(out: Path, targets: list[Path]) -> None:
    """Note that the demo makes `targets`; refuse to replace what it did not make."""
    note = out / ".napari-sam-demo"
    made = set(note.read_text(encoding="utf-8").splitlines()) if note.is_file() else set()
    for path in targets:
        if path.name not in made and path.exists():
            raise SessionError(f"{path} exists and is not the demo's; choose another folder with --out")
    names = sorted(made | {path.name for path in targets})
    write_text(note, "".join(f"{name}\n" for name in names), overwrite=True)


def _open_window() -> None:
    from importlib import import_module

    install = "pip install 'napari-sam-stacks[gui]'"
    try:
        import_module("napari")
        window = import_module("napari_sam.demo")
    except ImportError as error:
        raise SamError(
            f"the demo's window needs napari and the plugin ({error}): {install}. "
            "Without a window: napari-sam demo --headless"
        ) from error
    window.open_demo()
