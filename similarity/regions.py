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

from similarity.preprocessing import Box

if TYPE_CHECKING:
    from PIL import Image

NEAR = 6.0
"""How far a pixel's channels, of 0 to 255, may be from the background's to be empty. White garments are further from
pure white, and JPEG's noise is nearer."""
SAMPLES = 8
"""Pixels along each side of a region at which empty ones are counted."""
_SHADING = 30.0
"""How far from its middle colour light may take a background along the border."""
_FRAME_PX = 64
_BOX_FILTER = 4
"""Pillow's number for the mean over what a pixel covers."""
_TRACE = 1e-3


@dataclass(frozen=True, eq=False)
class Regions:
    """What a network sees in each region of a picture: `vectors` (h, w, dim) float32, line by line from the top.

    They divide evenly what lies within `box`, in fractions of the picture's sides.
    """

    vectors: NDArray[np.float32]
    box: Box


def emptiness(image: Image.Image, regions: Regions) -> NDArray[np.float32]:
    """The share of each region of the RGB picture in which only its background is seen: (h, w), from 0 to 1.

    The background is what runs evenly along the picture's border: plain, or shading off as light falls on it. It is
    fitted there and continued inwards. All zeros where less than half of the border is of that kind.
    """
    height, width = regions.vectors.shape[:2]
    frame = np.zeros((_FRAME_PX, _FRAME_PX), dtype=bool)
    frame[[0, 1, -2, -1]] = frame[:, [0, 1, -2, -1]] = True
    terms, colours = (
        values[frame.ravel()]
        for values in (_terms(_FRAME_PX, _FRAME_PX, (0, 0, 1, 1)), _colours(image, _FRAME_PX, _FRAME_PX, (0, 0, 1, 1)))
    )
    # The product may reach the border: what is far from most of it is left out, then what fits worst.
    misses = np.abs(colours - np.median(colours, axis=0)).max(axis=1) - _SHADING
    for _ in range(8):
        even = misses <= max(NEAR, float(np.median(misses)))
        shades = np.linalg.lstsq(terms[even], colours[even], rcond=None)[0]
        misses = np.abs(terms @ shades - colours).max(axis=1)
    if (misses <= NEAR).mean() < 0.5:
        return np.zeros((height, width), np.float32)
    rows, columns = height * SAMPLES, width * SAMPLES
    expected = _terms(rows, columns, regions.box) @ shades
    empty = np.abs(expected - _colours(image, rows, columns, regions.box)).max(axis=1) <= NEAR
    share: NDArray[np.float32] = empty.reshape(height, SAMPLES, width, SAMPLES).mean(axis=(1, 3), dtype=np.float32)
    return share


def _terms(rows: int, columns: int, box: Box) -> NDArray[np.float64]:
    """(rows · columns, 6): 1, x, y, x², xy, y² at points laid evenly over the box."""
    left, top, right, bottom = box
    down, across = (np.indices((rows, columns)) + 0.5).reshape(2, -1)
    x, y = left + (right - left) * across / columns, top + (bottom - top) * down / rows
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _colours(image: Image.Image, rows: int, columns: int, box: Box) -> NDArray[np.float64]:
    """(rows · columns, 3): the picture's colours at these points."""
    left, top, right, bottom = box
    pixels = (
        left * image.width,
        top * image.height,
        min(right * image.width, image.width),
        min(bottom * image.height, image.height),
    )
    small = image.resize((columns, rows), _BOX_FILTER, pixels)
    return np.asarray(small, dtype=np.float64).reshape(-1, 3)


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
