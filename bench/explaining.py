#!/usr/bin/env python
"""How long an explanation takes, and whether its maps are faithful: what is lost when warm places are covered.

    VITRINE_DATA_DIR=var python bench/explaining.py [--pairs 100] [--cells 4]

Of random products and one of their ten nearest by `style`, the given number of regions of the one picture is painted
white, and the `style` cosine of the two is measured again (Petsiuk et al., "RISE", 2018, call this deletion). A
faithful map's warmest regions cost more than random regions of the product, and these more than its coldest. Covering
is done on prepared pictures, so the index's model must be one whose preprocessing is the usual one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PRODUCT = 0.3
"""A region belongs to the product where at least this share of it is not empty."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--cells", type=int, default=4)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    drops, seconds = measure(options.pairs, options.cells)
    print(f"{options.pairs} pairs, {options.cells} regions covered; mean loss of cosine and its standard error")
    for name, losses in drops.items():
        print(f"{name:8} {np.mean(losses):.3f} ± {np.std(losses) / len(losses) ** 0.5:.3f}")
    print(f"both heat maps from files: median {1000 * statistics.median(seconds):.1f} ms")


def measure(pairs: int, cells: int) -> tuple[dict[str, list[float]], list[float]]:
    """Losses by what was covered, and the seconds that each pair's two maps took."""
    from catalog.images import open_rgb
    from similarity import products
    from similarity.explaining import heat_maps_of
    from similarity.refining import Refinement
    from similarity.regions import emptiness
    from similarity.services import embedder_of, live_index, similar_to

    live = live_index()
    embedder = embedder_of(live, "style")
    style = next(part for part in live.build.layout.parts if part.name == "style")
    catalogue = list(products.visible_products())
    rng = np.random.default_rng(0)
    drops: dict[str, list[float]] = {"warmest": [], "random": [], "coldest": []}
    seconds: list[float] = []
    while len(seconds) < pairs:
        product = catalogue[rng.integers(len(catalogue))]
        near = [match.product for match in similar_to(product, 10, {"style": 1}, Refinement(collapse=True)).matches]
        other = near[rng.integers(len(near))]
        start = time.perf_counter()
        heat = heat_maps_of(product, other)[0].heat
        seconds.append(time.perf_counter() - start)
        images = [open_rgb(Path(one.image.path), embedder.shorter_px) for one in (product, other)]
        shown = emptiness(images[0], embedder.regions(images[0])) < 1 - PRODUCT
        orders: dict[str, NDArray[Any]] = {"warmest": -heat, "random": rng.random(heat.shape), "coldest": heat}
        pictures = [embedder.prepare(image) for image in images]
        for order in orders.values():
            ranked = np.argsort(np.where(shown, order, np.inf).ravel())
            pictures.append(covered(pictures[0], ranked[:cells], heat.shape))
        vectors = style.project(embedder.vectors(embedder.infer(np.stack(pictures))))
        cosines = vectors @ vectors[1]
        for name, cosine in zip(orders, cosines[2:], strict=True):
            drops[name].append(float(cosines[0] - cosine))
    return drops, seconds


def covered(pixels: NDArray[Any], regions: NDArray[np.int64], grid: tuple[int, ...]) -> NDArray[Any]:
    """A copy of the picture (height, width, 3) uint8 with these of its regions painted white."""
    pixels = pixels.copy()
    height, width = pixels.shape[0] // grid[0], pixels.shape[1] // grid[1]
    for row, column in zip(*np.unravel_index(regions, grid), strict=True):
        pixels[row * height : (row + 1) * height, column * width : (column + 1) * width] = 255
    return pixels


if __name__ == "__main__":
    main()
