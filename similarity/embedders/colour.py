"""The colours of the product: a soft histogram in CIELAB over the foreground."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from similarity.embedders.base import Embedder, Identity

if TYPE_CHECKING:
    from PIL import Image

SIDE_PX = 64
"""Longest side at which colours are counted: enough for stripes, quick to walk through."""
GRID = (5, 5, 5)
"""Bins along L*, a*, b*."""
REACH = (100.0, 60.0, 60.0)
"""L* runs from 0 to 100; a* and b* are cut off at ±60, beyond which garments are rare."""
WHITE_LIGHTNESS = 90.0
WHITE_CHROMA = 8.0
GROUND_LIGHTNESS, GROUND_CHROMA = 50.0, 20.0
"""Studio grounds are white, off-white, grey or pale; a border that is darker or more colourful is the product's."""
GROUND_REACH = 20.0
"""Border pixels farther (ΔE) than this from the border's median colour are no ground."""
GROUND_NOISE = (4.0, 8.0)
"""How far (ΔE) the ground's own pixels may lie from its surface: least and most."""
LEAST_GROUND = 0.3
"""The share of the border that must be ground, where there is one."""
LEAST_FOREGROUND = 0.01
"""A smaller share of the picture than this is noise of the background, not a product."""

# sRGB (D65) to XYZ, and the white point: IEC 61966-2-1; CIELAB: CIE 15.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=np.float32,
)
_WHITE = np.array([0.95047, 1.0, 1.08883], dtype=np.float32)


class ColourEmbedder(Embedder):
    """A picture → the square roots of a colour histogram's shares, of unit length: (125,).

    Inner products of such vectors are Bhattacharyya's coefficient of two histograms (Arandjelović and
    Zisserman, "Three things everyone should know", 2012, do the same to SIFT). The background is
    not counted (`find_foreground`). A picture that is nothing but background gives zeros.
    """

    @property
    def shorter_px(self) -> int:
        return SIDE_PX

    def __init__(self, name: str = "colour") -> None:
        super().__init__(name)

    def identity(self) -> Identity:
        # The code is the model here: a changed line makes another space.
        code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
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


def srgb_to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(…, 3) sRGB of 0 to 255 → (…, 3) CIELAB under D65: L* of 0 to 100, a*, b*."""
    encoded = pixels.astype(np.float32) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def find_foreground(lab: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(h, w, 3) CIELAB → (h, w): True where the product is, False on the background that reaches the border.

    Studios light their grounds unevenly, so the ground is a surface of second degree for each of L*, a* and b*, fitted
    to the border's colours; what lies near it and is joined with the border is background. A white shirt differs
    enough from a white ground to stay. Where the border shows no such ground (a street, a room, a cloth that fills the
    picture), only near-white is background.
    """
    ground = _ground(lab)
    if ground is None:
        alike = (lab[..., 0] > WHITE_LIGHTNESS) & (np.hypot(lab[..., 1], lab[..., 2]) < WHITE_CHROMA)
    else:
        surface, reach = ground
        alike = np.linalg.norm(lab - surface, axis=-1) < reach
    return ~_joined_with_border(alike)


def _ground(lab: NDArray[np.float32]) -> tuple[NDArray[np.float32], float] | None:
    """The background's colour at every pixel (h, w, 3), and how far (ΔE) its pixels lie from it; None without one.

    Least squares over the outermost two lines, twice more without what lies far off: a product may touch the border.
    """
    height, width = lab.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    border = np.ones((height, width), dtype=bool)
    border[2:-2, 2:-2] = False
    middle = np.median(lab[border], axis=0)
    if middle[0] < GROUND_LIGHTNESS or np.hypot(middle[1], middle[2]) > GROUND_CHROMA:
        return None
    fitted = border & (np.linalg.norm(lab - middle, axis=-1) < GROUND_REACH)
    surface, reach = lab, 0.0
    for _ in range(3):
        if fitted.sum() < LEAST_GROUND * border.sum():
            return None
        surface = terms @ np.linalg.lstsq(terms[fitted], lab[fitted], rcond=None)[0]
        distances = np.linalg.norm(lab - surface, axis=-1)
        reach = float(np.clip(3 * np.median(distances[fitted]), *GROUND_NOISE))
        fitted = border & (distances < reach)
    return surface.astype(np.float32), reach


def _joined_with_border(alike: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels (h, w) from which a way over pixels that are `alike` leads to the border."""
    joined = np.zeros_like(alike)
    joined[[0, -1]], joined[:, [0, -1]] = alike[[0, -1]], alike[:, [0, -1]]
    while True:
        grown = joined.copy()
        grown[1:] |= joined[:-1]
        grown[:-1] |= joined[1:]
        grown[:, 1:] |= joined[:, :-1]
        grown[:, :-1] |= joined[:, 1:]
        grown &= alike
        if (grown == joined).all():
            return joined
        joined = grown


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
