"""Tiny images on disk for the tests of volumes and labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr


def write_ome_zarr(
    path: Path,
    levels: Sequence[np.ndarray],
    *,
    version: str = "0.5",
    axes: str = "zyx",
    scale: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write a multiscales group; level n has n times the scale doubled along y and x."""
    kinds = {"t": "time", "c": "channel"}
    entries = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": "micrometer"} if a in "zyx" else {})
        for a in axes
    ]
    datasets = []
    for n in range(len(levels)):
        sizes = [
            s * (2**n if a in "yx" else 1) for a, s in zip(axes, scale or [1.0] * len(axes), strict=True)
        ]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": sizes}]
        if translation is not None:
            transforms.append({"type": "translation", "translation": list(translation)})
        datasets.append({"path": str(n), "coordinateTransformations": transforms})
    multiscales = [{"name": "test", "axes": entries, "datasets": datasets}]
    zarr_format = 3 if version == "0.5" else 2
    if zarr_format == 2:
        multiscales[0]["version"] = version
    ome = {"multiscales": multiscales} | (extra or {})
    attributes = {"ome": {"version": version} | ome} if zarr_format == 3 else ome
    group = zarr.create_group(path, zarr_format=zarr_format, attributes=attributes)
    for n, data in enumerate(levels):
        array = group.create_array(
            str(n), shape=data.shape, chunks=(1,) * (data.ndim - 2) + data.shape[-2:], dtype=data.dtype
        )
        array[...] = data
    return path


def write_ome_tiff_set(folder: Path, pixels: np.ndarray) -> Path:
    """Write a uint16 (z, y, x) stack as OME-TIFFs 0.ome.tif, ... of two slices each; return the first."""
    count = len(pixels) // 2
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in range(count)]
    planes = "".join(
        f'<TiffData FirstZ="{z}" FirstC="0" FirstT="0" IFD="{z % 2}" PlaneCount="1">'
        f'<UUID FileName="{z // 2}.ome.tif">{uuids[z // 2]}</UUID></TiffData>'
        for z in range(2 * count)
    )
    z, y, x = pixels.shape
    for i in range(count):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[i]}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="{x}" SizeY="{y}" SizeZ="{z}" '
            f'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        part = pixels[2 * i : 2 * i + 2]
        tifffile.imwrite(
            folder / f"{i}.ome.tif", part, description=xml, metadata=None, photometric="minisblack"
        )
    return folder / "0.ome.tif"


def chunk_files(path: Path) -> list[Path]:
    """Return the files under `path` that hold pixels."""
    return sorted(
        f
        for f in path.rglob("*")
        if f.is_file() and f.name not in ("zarr.json", ".zarray", ".zgroup", ".zattrs", "limit")
    )
