"""What seeing a large plane through tiles brings, and costs: against the plane as a whole, native and blended tiles.

Run `python -m tests.benchmarks.bench_tiling`; `--help` lists the options. Every answer starts from a plane of
which nothing is encoded; processor time of one thread, of encoding and decoding together, all ways in turns on
the same objects. Planes are drawn with one object each, or, with `--planes stacks`, full of objects, from seeds
that training never uses. nano has the weights that ship; others need `--weights`, as drawn ones see nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core import painting
from src_core.asking import ask
from src_core.embedding import Embedding
from src_core.masks import Mask, bounds, innermost, iou
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.synthetic import make_stack
from src_core.tiles import Tile
from src_core.tiling import OVERLAP

Way = Callable[[Embedding, Prompts], Mask]
FIRST_SEED = 8_400_000
FAMILIES = ("nuclei", "membranes", "electron")


def main() -> None:
    """Print one line per size of object: IoU, ms and encoded tiles for every way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="nano", help="a model of the zoo, or a checkpoint")
    parser.add_argument("--planes", choices=("drawn", "stacks"), default="drawn")
    parser.add_argument("--side", type=int, default=4096, help="of the image, in pixels")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512, 1000, 1500])
    parser.add_argument("--objects", type=int, default=5, help="of each size; of stacks, per family")
    parser.add_argument("--prompts", nargs="+", choices=("click", "box", "mask"), default=["click", "box"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    tiled = Predictor.load(options.weights, "cpu")
    shrunk = Predictor(tiled.model, tiled.name, whole=True)
    ways: dict[str, tuple[Predictor, Way]] = {
        "whole": (shrunk, lambda e, p: shrunk.predict(e, p).masks[0]),
        "native": (tiled, lambda e, p: native(tiled, e, p)),
        "blended": (tiled, lambda e, p: blended(tiled, e, p)),
        "chosen": (tiled, lambda e, p: tiled.predict(e, p).masks[0]),
    }
    print(f"{options.weights}, {options.planes}, {options.side} px: IoU, processor ms, tiles encoded")
    print(f"{'size px':>8}{'':>7}" + "".join(f"{name:>26}" for name in ways))
    source = crowded if options.planes == "stacks" else lonely
    for size in options.sizes:
        results: dict[tuple[str, str], list[tuple[float, float, int]]] = {}
        for image, truths in source(options.side, size, options.objects):
            for truth in truths:
                for kind in options.prompts:
                    for name, (predictor, way) in ways.items():
                        embedding = predictor.embed(image, lazily=True)
                        start = time.process_time()
                        mask = way(embedding, prompt(kind, truth))
                        spent = 1e3 * (time.process_time() - start)
                        measured = (iou(mask, truth), spent, len(embedding._features))
                        results.setdefault((kind, name), []).append(measured)
        for kind in options.prompts:
            means = [np.mean(results[kind, name], 0) for name in ways if (kind, name) in results]
            print(
                f"{size:8}{kind:>7}" + "".join(f"{a:12.3f}{b:9.0f}{c:5.1f}" for a, b, c in means), flush=True
            )


def prompt(kind: str, truth: Mask) -> Prompts:
    """Return a click on the middle, the box, or the mask as it would be on a neighbouring slice."""
    if kind == "click":
        return Prompts([innermost(truth)])
    y0, x0, y1, x1 = bounds(truth)
    if kind == "box":
        return Prompts(box_yxyx=(y0, x0, y1, x1))
    step = max(1, (y1 - y0) // 16)
    return Prompts(mask=np.roll(truth, (step, -step), (0, 1)))


def lonely(side: int, size: int, count: int) -> Iterator[tuple[NDArray[np.uint8], list[Mask]]]:
    """Yield planes with one object each."""
    for n in range(count):
        image, truth = drawn(side, size, seed=100 * size + n)
        yield image, [truth]


def crowded(side: int, size: int, count: int) -> Iterator[tuple[NDArray[np.uint8], list[Mask]]]:
    """Yield planes full of objects of about `size` pixels, and `count` of them that are whole."""
    for n, family in enumerate(FAMILIES):
        stack = make_stack(FIRST_SEED + 10 * size + n, (1, side, side), family, size / 2)
        labels = stack.labels[0]
        areas = np.bincount(labels.ravel())
        areas[0] = 0
        whole = []
        for identity in np.random.default_rng(n).permutation(np.nonzero(areas > size**2 / 4)[0])[:40]:
            truth = labels == identity
            y0, x0, y1, x1 = bounds(truth)
            one = ndi.label(truth[y0:y1, x0:x1])[1] == 1
            if one and min(y0, x0) > 0 and max(y1, x1) < side and len(whole) < count:
                whole.append(truth)
        yield stack.image[0], whole


def drawn(side: int, size: int, seed: int) -> tuple[NDArray[np.uint8], Mask]:
    """Draw one lobed, textured object about `size` pixels across somewhere on a noisy square."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 12, (side, side)).astype(np.float32)
    pixels = 70 + ndi.gaussian_filter(noise, 1.0) * 3
    half = size // 2 + 2
    y, x = (int(v) for v in rng.integers(half, side - half, 2))
    rows, columns = np.ogrid[-half : half + 1, -half : half + 1]
    angle = np.arctan2(rows, columns)
    a, b = rng.uniform(0, 2 * np.pi, 2)
    radius = size / 2 * (0.85 + 0.1 * np.sin(3 * angle + a) + 0.05 * np.sin(5 * angle + b))
    inside = np.hypot(rows, columns) <= radius
    truth = np.zeros((side, side), np.bool_)
    truth[y - half : y + half + 1, x - half : x + half + 1] = inside[: side - y + half, : side - x + half]
    pixels[truth] += 70
    return np.clip(ndi.gaussian_filter(pixels, 0.7), 0, 255).astype(np.uint8), truth


def native(predictor: Predictor, embedding: Embedding, prompt: Prompts) -> Mask:
    """Ask the native tile that shows the prompt best, whatever the size of the object."""
    grid = next((g for g in embedding.tiles.grids if g.zoom == 1), None)
    if prompt.box_yxyx is not None:
        extent = prompt.box_yxyx
    elif prompt.mask is not None:
        extent = bounds(prompt.mask)
    else:
        (y, x) = prompt.points_yx[0]
        extent = (y, x, y + 1, x + 1)
    index = 0 if grid is None else grid.best(extent)[0]
    (found,) = ask(
        predictor.model, embedding, index, [prompt], prompt.mask is None and prompt.box_yxyx is None
    )
    return found.masks[0]


def blended(predictor: Predictor, embedding: Embedding, prompt: Prompts) -> Mask:
    """Refine an answer at native resolution: every tile it touches answers with it as dense prompt, blended."""
    first = predictor.predict(embedding, prompt)
    if not first.masks[0].any():
        return first.masks[0]
    y0, x0, y1, x1 = bounds(first.masks[0])
    dense = Prompts(mask=first.logits[0], mask_window=first.window)
    total = np.zeros(embedding.shape, np.float32)
    weight = np.zeros(embedding.shape, np.float32)
    grid = next((g for g in embedding.tiles.grids if g.zoom == 1), None)
    for index in range(grid.first, grid.first + len(grid)) if grid is not None else ():
        tile = embedding.tiles[index]
        if tile.y0 < y1 and tile.y1 > y0 and tile.x0 < x1 and tile.x1 > x0:
            (found,) = ask(predictor.model, embedding, index, [dense], False)
            logits = painting.upscale(predictor.model, torch.from_numpy(found.logits)[None], tile)[
                0, 0
            ].numpy()
            ramp = _ramp(tile)
            total[tile.y0 : tile.y1, tile.x0 : tile.x1] += ramp * logits
            weight[tile.y0 : tile.y1, tile.x0 : tile.x1] += ramp
    return np.where(weight > 0, total > 0, first.masks[0])


def _ramp(tile: Tile) -> NDArray[np.float32]:
    """Weights that fall towards the borders, over the width of the overlap."""
    sides = []
    for n in tile.shape:
        free = np.minimum(np.arange(n), np.arange(n)[::-1]) + 1
        sides.append(np.minimum(free / max(1.0, OVERLAP * n), 1))
    return np.asarray(np.outer(*sides), np.float32)


if __name__ == "__main__":
    main()
