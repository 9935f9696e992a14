"""Preprocessing: pictures → what a network is given. Pillow and NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

BICUBIC = 3
"""Pillow's number, which preprocessors' files use too."""


@dataclass(frozen=True)
class Crop:
    """The usual preprocessing: the shorter side to `shorter_px`, then the central `height` × `width` pixels.

    `mean` and `scale` are those of a channel, of pixels from 0 to 255; the runtime applies them.
    """

    shorter_px: int
    height: int
    width: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    resample: int = BICUBIC

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """(height, width, 3) uint8."""
        image = limit_elongation(image)
        width, height = image.size
        shorter = min(width, height)
        # Truncated, as transformers' processors do, so that both see the same pixels.
        size = (int(self.shorter_px * width / shorter), int(self.shorter_px * height / shorter))
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        # Only what stays after the crop is resampled: the same pixels for two thirds of the work.
        across, down = width / size[0], height / size[1]
        box = (left * across, top * down, (left + self.width) * across, (top + self.height) * down)
        return np.asarray(image.resize((self.width, self.height), self.resample, box), dtype=np.uint8)


def limit_elongation(image: Image.Image, most: int = 8) -> Image.Image:
    """The picture, or its middle where one side is over `most` times the other.

    Bringing the shorter side of a picture of 10,000 × 1 pixels to 256 would take gigabytes.
    """
    width, height = image.size
    new_width, new_height = min(width, most * height), min(height, most * width)
    if (new_width, new_height) == (width, height):
        return image
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return image.crop((left, top, left + new_width, top + new_height))
