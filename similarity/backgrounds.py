"""Where a picture shows its product, and where only the ground that it was photographed on. Pure NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WHITE_LIGHTNESS = 90.0
WHITE_CHROMA = 8.0
GROUND_LIGHTNESS, GROUND_CHROMA = 50.0, 20.0
"""Studio grounds are white, off-white, grey or pale; what is darker or more colourful is the product's."""
GROUND_REACH = 20.0
"""Pale pixels of the border that are farther (ΔE) than this from their median colour are no ground."""
GROUND_NOISE = (3.0, 6.0)
"""How far (ΔE) the ground's own pixels may lie from its surface: least and most."""
LEAST_GROUND = 0.3
"""The share of the border that must be ground, where there is one."""

# sRGB (D65) to XYZ, and the white point: IEC 61966-2-1; CIELAB: CIE 15.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=np.float32,
)
_WHITE = np.array([0.95047, 1.0, 1.08883], dtype=np.float32)


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
    pale = border & (lab[..., 0] > GROUND_LIGHTNESS) & (np.hypot(lab[..., 1], lab[..., 2]) < GROUND_CHROMA)
    if not pale.any():
        return None
    fitted = pale & (np.linalg.norm(lab - np.median(lab[pale], axis=0), axis=-1) < GROUND_REACH)
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
