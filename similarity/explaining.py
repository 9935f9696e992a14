"""Where do two products look alike? In both pictures, what the index's network sees of the one in the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog.images import ImageError, open_rgb
from similarity.embedders import Embedder, EmbedderError
from similarity.preprocessing import Box
from similarity.products import Product
from similarity.regions import Regions, emptiness, heat_maps
from similarity.services import SimilarityUnavailable, embedder_of, live_index


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Where a product's picture is met by the other's: `heat` (h, w) float32 from 0 to 1, laid evenly over `box`, in
    fractions of the picture's sides.
    """

    product: Product
    heat: NDArray[np.float32]
    box: Box

    def to_json(self) -> dict[str, Any]:
        return {
            "heat": [[round(float(value), 3) for value in line] for line in self.heat],
            "box": [round(side, 4) for side in self.box],
            "thumbnail": self.product.thumbnail.url,
            "image": self.product.image.url,
        }


def heat_maps_of(product: Product, other: Product) -> tuple[HeatMap, HeatMap]:
    """The heat maps of two products that have pictures, by the network that the index was built with.

    Raises SimilarityUnavailable where that network cannot be had, or does not tell regions apart, or a file cannot be
    read.
    """
    embedder = embedder_of(live_index(), "style")
    (one, one_empty), (two, two_empty) = _look(embedder, product), _look(embedder, other)
    heats = heat_maps(one.vectors, two.vectors, one_empty, two_empty)
    return HeatMap(product, heats[0], one.box), HeatMap(other, heats[1], two.box)


def _look(embedder: Embedder, product: Product) -> tuple[Regions, NDArray[np.float32]]:
    """What the network sees in the regions of the product's picture, and how empty these are."""
    try:
        image = open_rgb(Path(product.image.path), embedder.shorter_px)
        regions = embedder.regions(image)
    except ImageError as error:
        raise SimilarityUnavailable(f"The picture of {product.product_id}: {error}") from error
    except EmbedderError as error:
        raise SimilarityUnavailable(str(error)) from error
    return regions, emptiness(image, regions)
