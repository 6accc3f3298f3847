"""What it costs to read an embedding back, against computing it again.

Run `python -m tests.benchmarks.bench_store`; `--help` lists the options. Processor time of one thread, best of
several, both in turns. nano has the weights that ship, the others drawn ones.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src_core.embeddings import EmbeddingStore
from src_core.predictor import Predictor
from src_core.types import PlaneRef
from src_core.volumes import open_volume
from tests.benchmarks.bench_network import best_ms, load
from tests.src_core.image_files import chunk_files, write_ome_zarr
from tests.src_core.model.golden import picture

SHAPE = (4, 512, 512)
PLANE = PlaneRef("z", 2)


def main() -> None:
    """Print one line per network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=["nano", "vit_b"], metavar="network")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"a plane of {SHAPE[1]} x {SHAPE[2]} pixels, processor ms; a GB on disk saves that many s of encoding"
    )
    print(
        f"{'network':10}{'encode':>10}{'store':>8}{'read':>8}{'+ pixels':>10}{'MB':>7}{'encode/read':>13}{'s/GB':>8}"
    )
    for network in options.networks:
        predictor = Predictor.load("nano", "cpu") if network == "nano" else Predictor(load(network))
        with tempfile.TemporaryDirectory() as folder:
            print(f"{network:10}{_line(predictor, Path(folder), options.repeats)}", flush=True)


def _line(predictor: Predictor, folder: Path, repeats: int) -> str:
    image = write_ome_zarr(folder / "cells.ome.zarr", [_pixels()])
    for path in image.rglob("*"):  # a folder whose times can be trusted, and one whose pixels must be read
        os.utime(path, (time.time() - 1000,) * 2)
    volume = open_volume(image, contrast_limits=(0, 255))
    store = EmbeddingStore(predictor, volume)
    embedding = store.get(PLANE)
    kept = embedding.features(0)
    time.sleep(2.5)  # until then the change of times itself is too young to trust
    store.get(PLANE).features(0)
    plane = volume.plane(z=PLANE.index)
    shelf = store._shelf(PLANE.axis, PLANE.t)
    encode, read = best_ms(
        lambda: predictor.embed(plane).features(0),
        lambda: _read(store),
        repeats=repeats,
        timer=time.process_time,
    )
    pixels, put = best_ms(
        lambda: volume.plane(z=PLANE.index).rgb8(),
        lambda: shelf.put(3, 0, bytes(32), kept),
        repeats=repeats,
        timer=time.process_time,
    )
    size = chunk_files(store.folder)[0].stat().st_size
    return (
        f"{encode:10.1f}{put:8.1f}{read:8.1f}{pixels:10.1f}{size / 1e6:7.2f}{encode / read:13.0f}"
        f"{encode / 1e3 / (size / 1e9):8.0f}"
    )


def _pixels() -> NDArray[np.uint8]:
    """Blobs on noise: the embedding of noise alone, or of nothing, might compress better or worse."""
    return np.stack([picture(*SHAPE[1:], seed)[..., 0] for seed in range(SHAPE[0])])


def _read(store: EmbeddingStore) -> None:
    embedding = store.get(PLANE)
    embedding.features(0)
    if embedding.made or embedding.nbytes > sum(f.nbytes for f in embedding.features(0)):
        raise RuntimeError("the embedding was not read back by its stamp alone")


if __name__ == "__main__":
    main()
