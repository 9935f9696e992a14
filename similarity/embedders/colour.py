"""The colours of the product: a soft histogram in CIELAB over the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from similarity import backgrounds
from similarity.backgrounds import find_foreground, srgb_to_lab
from similarity.embedders.base import Embedder, Identity, file_sha256

if TYPE_CHECKING:
    from PIL import Image

SIDE_PX = 64
"""Longest side at which colours are counted: enough for stripes, quick to walk through."""
GRID = (5, 5, 5)
"""Bins along L*, a*, b*."""
REACH = (100.0, 60.0, 60.0)
"""L* runs from 0 to 100; a* and b* are cut off at ±60, beyond which garments are rare."""
LEAST_FOREGROUND = 0.01
"""A smaller share of the picture than this is noise of the background, not a product."""


class ColourEmbedder(Embedder):
    """A picture → the square roots of a colour histogram's shares, of unit length: (125,).

    Inner products of such vectors are Bhattacharyya's coefficient of two histograms (Arandjelović and
    Zisserman, "Three things everyone should know", 2012, do the same to SIFT). The background is
    not counted (`similarity.backgrounds`). A picture that is nothing but background gives zeros.
    """

    @property
    def shorter_px(self) -> int:
        return SIDE_PX

    def __init__(self, name: str = "colour") -> None:
        super().__init__(name)

    def identity(self) -> Identity:
        # The code is the model here: a changed line makes another space.
        code = file_sha256(Path(__file__), Path(backgrounds.__file__))
        return Identity(name=self.name, revision="1", weights_sha256=code, preprocessing=f"longest side {SIDE_PX}")

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        from PIL import Image as pillow

        small = image.copy()
        small.thumbnail((SIDE_PX, SIDE_PX), pillow.Resampling.BOX)
        lab = srgb_to_lab(np.asarray(small, dtype=np.uint8))
        foreground = find_foreground(lab)
        if foreground.mean() < LEAST_FOREGROUND:
            return np.zeros(int(np.prod(GRID)), dtype=np.float32)
        return soft_histogram(lab[foreground])

    def infer(self, prepared: NDArray[np.generic]) -> NDArray[np.floating]:
        return np.sqrt(prepared.astype(np.float32))


def soft_histogram(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares (125,) of the colours (n, 3), each spread over the eight bins around it (trilinear), summing to 1.

    A colour on the border of two bins counts half in each, so that a shade's difference stays a small one.
    """
    low = np.array([0, -REACH[1], -REACH[2]], dtype=np.float32)
    high = np.array(REACH, dtype=np.float32)
    last = np.array(GRID) - 1
    at = (np.clip(lab, low, high) - low) / (high - low) * last
    corner = np.minimum(at.astype(np.int64), last - 1)
    beyond = at - corner
    histogram = np.zeros(int(np.prod(GRID)), dtype=np.float64)
    for offset in np.ndindex(2, 2, 2):
        weights = np.where(offset, beyond, 1 - beyond).prod(axis=1)
        bins = np.ravel_multi_index(tuple((corner + offset).T), GRID)
        histogram += np.bincount(bins, weights, minlength=len(histogram))
    return (histogram / len(lab)).astype(np.float32)
