"""Draw the figures of docs/nano.md and the montages of the main job.

    python docs/images/figures.py ../shared/data

The folder holds the sets that `napari-sam evaluate` measures; what is shown of them is CC0 (dsb2018) and MIT
(plant_nuclei and ovule_cells, from PlantSeg's test data).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries
from skimage.transform import resize

import src_core
from src_core.automatic import label_image
from src_core.evaluation import iou, test_files
from src_core.evaluation.datasets import objects_3d, subset_2d
from src_core.evaluation.propagation import middle_slice
from src_core.evaluation.suite import slices_2d
from src_core.masks import bounds, innermost
from src_core.model import affinity
from src_core.model.nano_encoder import FINE
from src_core.montage import object_montage
from src_core.propagation import propagate_to_labels
from src_core.synthetic import make_stack
from src_core.training.config import TrainConfig, training_files
from src_core.training.data import ImageSource, stretch
from src_core.training.pasting import with_neighbours

IMAGES = Path(__file__).parent
GALLERY_SEED = 5_000_000
TILE_PX = 150
TRUTH, ANSWER = (255, 225, 25), (0, 200, 255)

Picture = NDArray[np.uint8]


def main() -> None:
    """Write every figure into docs/images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    torch.set_grad_enabled(False)
    _save("nano_training_images", _gallery())
    _save("nano_pasted", _pasted(data))
    predictor = src_core.Predictor.load("nano")
    _save("nano_clicks", _answers(predictor, data))
    _save("nano_affinity", _affinities(predictor, data))
    _save("automatic", _automatic(predictor, data))
    for name in ("plant_nuclei_1135", "ovule_cells"):
        _save(name, _main_job(predictor, data, name))


def _gallery() -> Picture:
    """Planes of drawn stacks, each beside its outlines."""
    tiles = []
    for k in range(28):
        stack = make_stack(GALLERY_SEED + k, (6, 256, 256), None if k < 24 else "scenes")
        image = _rgb(stack.image[3])
        tiles.append(np.concatenate([image, _outlined(image, stack.labels[3], TRUTH)], 1)[::2, ::2])
    return _grid(tiles, 4)


def _pasted(data: Path) -> Picture:
    """Crops of images for training on which objects were pasted beside others, with their outlines in blue."""
    rng, images = np.random.default_rng(3), data / "dsb2018"
    source = ImageSource(training_files(TrainConfig(Path(), images, tuple(test_files(images)))))
    tiles = []
    for k in rng.permutation(len(source.pairs)):
        image, labels = source.get(int(k))
        y, x = (n // 2 - min(60, n // 2) for n in labels.shape)
        part = (slice(y, y + 120), slice(x, x + 120))
        shown, known = with_neighbours(rng, image, labels, 5, part)
        new = np.where(known > labels.max(), known, 0)[part]
        if len(np.unique(new)) < 4 or new.shape != (120, 120):
            continue
        plain = _rgb(shown)[part]
        tiles += [_square(p, TILE_PX) for p in (plain, _outlined(plain, new, ANSWER))]
        if len(tiles) == 16:
            break
    return _grid(tiles, 8)


def _answers(predictor: src_core.Predictor, data: Path) -> Picture:
    """Best, middling and worst answers to one click: truth in yellow, answer in blue."""
    rows = []
    for samples in (subset_2d(data / "dsb2018"), slices_2d(data / "plant_nuclei")):
        found: list[tuple[float, Picture]] = []
        for sample in samples:
            embedding = predictor.embed(sample.image)
            for k in sample.ids:
                truth = sample.truth(k)
                answer = predictor.predict(embedding, src_core.Prompts([innermost(truth)])).masks[0]
                found.append((iou(answer, truth), _closeup(sample.image, truth, answer)))
        found.sort(key=lambda pair: -pair[0])
        middle = len(found) // 2
        rows += [found[:8], found[middle - 4 : middle + 4], found[-8:]]
    return _grid([picture for row in rows for _, picture in row], 8)


def _automatic(predictor: src_core.Predictor, data: Path) -> Picture:
    """Images of nuclei that training never saw, beside the true outlines and those found without a prompt."""
    tiles = []
    for sample in itertools.islice(subset_2d(data / "dsb2018"), 3, None, 12):
        image = _rgb(stretch(sample.image))[:320, :320]
        labels = label_image(src_core.automatic_masks(predictor, image), (image.shape[0], image.shape[1]))
        pair = [_outlined(image, sample.labels[:320, :320], TRUTH), _outlined(image, labels, ANSWER)]
        tiles += [_square(picture) for picture in pair]
    return _grid(tiles[:8], 4)


def _affinities(predictor: src_core.Predictor, data: Path) -> Picture:
    """Pictures with a seed in each object, where their pixels point to, and what belongs to one of them."""
    planes = [sample.image for sample in itertools.islice(subset_2d(data / "dsb2018"), 2, None, 15)]
    planes += [sample.image for sample in itertools.islice(slices_2d(data / "plant_nuclei"), 1)]
    planes += [
        make_stack(GALLERY_SEED + 100, (6, 256, 256), kind).image[3]
        for kind in ("electron", "membranes", "phase")
    ]
    rows = [_affinity(predictor, _rgb(stretch(np.asarray(plane)))[:256, :256]) for plane in planes]
    return _grid([picture for row in rows for picture in row], 6)


def _affinity(predictor: src_core.Predictor, image: Picture) -> list[Picture]:
    embedding = predictor.embed(image)
    tile = embedding.tiles.native[0]
    seeds = embedding.seeds(tile)
    maps = embedding.features(tile)[1][:, FINE:]
    where = affinity.places(maps)
    first = (
        torch.from_numpy(seeds[:1, ::-1].copy() + 0.5) * embedding.tiles[tile].zoom_yx[0] / affinity.CELL_PX
    )
    like = affinity.likeness(where, affinity.at_points(where, first[None]))[0, 0].sigmoid()
    likely = maps[0, -1:].sigmoid()
    colours = (0.5 + 0.5 * torch.sin(where[0, :3] * torch.tensor([2.1, 3.3, 2.7])[:, None, None])) * likely
    height, width = embedding.tiles[tile].input_hw
    used = np.s_[: height // affinity.CELL_PX, : width // affinity.CELL_PX]
    pictures = [_square(image)]
    for rgb in (colours.permute(1, 2, 0), like[..., None].expand(-1, -1, 3)):
        pictures.append(_square(np.rint(255 * rgb.numpy()[used]).astype(np.uint8)))
    for (y, x), n in zip((seeds + 0.5) * 256 / np.array(image.shape[:2]), range(len(seeds)), strict=True):
        for picture, shown in zip(pictures, (True, False, n == 0), strict=True):
            if shown:
                picture[max(0, int(y) - 2) : int(y) + 3, max(0, int(x) - 2) : int(x) + 3] = TRUTH
    return pictures


def _square(picture: Picture, side: int = 256) -> Picture:
    return np.array(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))


def _main_job(predictor: src_core.Predictor, data: Path, name: str) -> Picture:
    """Click once on the middle slice of a few objects and propagate all of them together."""
    volume = src_core.open_volume(data / f"{name}.ome.zarr")
    prompts: dict[int, dict[int, src_core.Prompts]] = {}
    for number, sample in enumerate(objects_3d(data, name, max_objects=6), start=1):
        z = middle_slice(sample.truth)
        prompts.setdefault(z, {})[number] = src_core.Prompts([innermost(sample.truth[z])])
    with tempfile.TemporaryDirectory() as folder:
        report = propagate_to_labels(predictor, volume, prompts, Path(folder) / "labels.ome.zarr")
        extents = {k: (o.first, o.last) for k, o in report.objects.items()}
        return object_montage(volume, report.labels, extents, columns=8)


def _closeup(image: NDArray[np.generic], truth: NDArray[np.bool_], answer: NDArray[np.bool_]) -> Picture:
    y0, x0, y1, x1 = bounds(truth | answer)
    half = int(max(y1 - y0, x1 - x0) * 0.75) + 6
    y, x = (y0 + y1) // 2, (x0 + x1) // 2
    part = np.s_[max(0, y - half) : y + half, max(0, x - half) : x + half]
    size = (TILE_PX, TILE_PX)
    large = resize(_rgb(stretch(np.asarray(image)))[part], size, order=1, preserve_range=True).astype(
        np.uint8
    )
    for mask, colour in ((truth, TRUTH), (answer, ANSWER)):
        large = _outlined(large, resize(mask[part], size, order=0).astype(np.uint8), colour)
    return large


def _outlined(image: Picture, labels: NDArray[np.generic], colour: tuple[int, int, int]) -> Picture:
    drawn = image.copy()
    drawn[find_boundaries(labels, mode="inner")] = colour
    return drawn


def _rgb(image: NDArray[np.uint8]) -> Picture:
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)


def _grid(tiles: Sequence[Picture], columns: int) -> Picture:
    rows = [np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _save(name: str, picture: Picture) -> None:
    path = IMAGES / f"{name}.png"
    Image.fromarray(picture).quantize(256, Image.Quantize.FASTOCTREE).save(path, optimize=True)
    print(path)


if __name__ == "__main__":
    main()
