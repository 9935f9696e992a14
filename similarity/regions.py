"""Regions: which places of two pictures look alike to a network. Pure NumPy.

Two pictures are compared patch against patch: the patches of a transformer's last layer (Amir et al., "Deep ViT
features as dense visual descriptors", 2021), or the places of a convolutional network's last feature map, whose inner
products add up to the likeness of the pooled vectors (Stylianou et al., "Visualizing deep similarity networks", 2019).
What was tried besides is told in docs/architecture.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from similarity.backgrounds import find_foreground, srgb_to_lab
from similarity.preprocessing import Box

if TYPE_CHECKING:
    from PIL import Image

_SIDE_PX = 128
"""Longest side at which background is looked for."""
_TRACE = 1e-3


@dataclass(frozen=True, eq=False)
class Regions:
    """What a network sees in each region of a picture: `vectors` (h, w, dim) float32, line by line from the top.

    They divide evenly what lies within `box`, in fractions of the picture's sides.
    """

    vectors: NDArray[np.float32]
    box: Box


def emptiness(image: Image.Image, regions: Regions) -> NDArray[np.float32]:
    """The share of each region of the RGB picture in which only its background is seen: (h, w), from 0 to 1."""
    from PIL import Image as pillow

    height, width = regions.vectors.shape[:2]
    small = image.copy()
    small.thumbnail((_SIDE_PX, _SIDE_PX), pillow.Resampling.BOX)
    empty = pillow.fromarray((~find_foreground(srgb_to_lab(np.asarray(small)))).astype(np.float32))
    left, top, right, bottom = regions.box
    # Rounding may carry a box past the picture's edge.
    pixels = (
        left * empty.width,
        top * empty.height,
        min(right * empty.width, empty.width),
        min(bottom * empty.height, empty.height),
    )
    return np.asarray(empty.resize((width, height), pillow.Resampling.BOX, pixels), dtype=np.float32)


def heat_maps(
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    one_empty: NDArray[np.float32],
    other_empty: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How well each region of a picture is met by some region of the other: (h, w) for each, from 0 to 1.

    `one` and `other` are region vectors (h, w, dim), of which the forms may differ but for `dim`; `one_empty` and
    `other_empty` (h, w) are the shares of empty background in the regions.

    The background's mean vector is taken from all: what remains is what a region adds to an empty one. The inner
    product of two regions is then large where both show much of the same. A region's heat is that with its best
    partner beside the most that the two pictures could reach, as a root, so that it is the geometric mean of what
    either side shows; less where the region is partly empty. Regions of the same picture twice have the heat of their
    own length, the longest 1.
    """
    lines = [regions.reshape(-1, regions.shape[2]) for regions in (one, other)]
    # Without any background, the trace makes it the mean of all.
    weights = np.concatenate([one_empty.ravel(), other_empty.ravel()]) + np.float32(_TRACE)
    background = weights @ np.concatenate(lines) / weights.sum()
    centred = [vectors - background for vectors in lines]
    most = np.prod([np.linalg.norm(vectors, axis=1).max() for vectors in centred])
    products = np.maximum(centred[0] @ centred[1].T, 0) / (most or 1)
    return _heat(products.max(axis=1), one_empty), _heat(products.max(axis=0), other_empty)


def _heat(best: NDArray[np.float32], empty: NDArray[np.float32]) -> NDArray[np.float32]:
    heat: NDArray[np.float32] = np.sqrt(np.minimum(best, 1)).reshape(empty.shape) * (1 - empty)
    return heat.astype(np.float32)
