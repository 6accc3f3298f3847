"""What seeing a large plane through tiles brings, and costs: against the plane as a whole, and blended tiles.

Run `python -m tests.benchmarks.bench_tiling`; `--help` lists the options. Every answer starts from a plane of
which nothing is encoded; processor time of one thread, of encoding and decoding together, all ways in turns on
the same objects. nano has the weights that ship; the others need `--weights`, as drawn ones see nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi

from src_core import frames
from src_core.embedding import Embedding
from src_core.evaluation.metrics import iou
from src_core.masks import Mask, bounds, innermost
from src_core.predictor import Predictor
from src_core.prompts import Prompts
from src_core.tiling import OVERLAP, Tile

Way = Callable[[Embedding, Prompts], Mask]


def main() -> None:
    """Print one line per size of object: IoU, ms and encoded tiles for every way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="nano", help="a model of the zoo, or a checkpoint")
    parser.add_argument("--side", type=int, default=4096, help="of the image, in pixels")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256, 512, 1000, 1500])
    parser.add_argument("--objects", type=int, default=5, help="of each size")
    parser.add_argument("--prompt", choices=("click", "box"), default="click")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tiled = Predictor.load(options.weights, "cpu")
    shrunk = Predictor(tiled.model, tiled.name, whole=True)
    ways: dict[str, tuple[Predictor, Way]] = {
        "whole": (shrunk, lambda e, p: shrunk.predict(e, p).masks[0]),
        "tiles": (tiled, lambda e, p: tiled.predict(e, p).masks[0]),
        "blended": (tiled, lambda e, p: blended(tiled, e, p)),
    }
    print(f"{options.weights}, {options.prompt}, {options.side} px: IoU, processor ms, tiles encoded")
    print(f"{'size px':>8}" + "".join(f"{name:>26}" for name in ways))
    for size in options.sizes:
        results = {name: np.zeros((options.objects, 3)) for name in ways}
        for n in range(options.objects):
            image, truth = drawn(options.side, size, seed=100 * size + n)
            prompt = (
                Prompts(box_yxyx=bounds(truth)) if options.prompt == "box" else Prompts([innermost(truth)])
            )
            for name, (predictor, way) in ways.items():
                embedding = predictor.embed(image, lazily=True)
                start = time.process_time()
                mask = way(embedding, prompt)
                spent = 1e3 * (time.process_time() - start)
                results[name][n] = (iou(mask, truth), spent, len(embedding._features))
        means = (results[name].mean(0) for name in ways)
        print(f"{size:8}" + "".join(f"{a:12.3f}{b:9.0f}{c:5.1f}" for a, b, c in means), flush=True)


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
            (found,) = predictor._ask(embedding, index, [dense], False)
            logits = frames.upscale(predictor.model, torch.from_numpy(found.logits)[None], tile)[0, 0].numpy()
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
