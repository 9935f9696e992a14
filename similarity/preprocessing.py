"""Preprocessing: pictures → what a network is given. Pillow and NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[float, float, float, float]
"""(left, top, right, bottom)."""
BICUBIC = 3
"""Pillow's number, which preprocessors' files use too."""
MOST_ELONGATED = 8


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
        # Only what stays after the crop is resampled: the same pixels for two thirds of the work.
        return np.asarray(
            image.resize((self.width, self.height), self.resample, self._kept(*image.size)), dtype=np.uint8
        )

    def box(self, width: int, height: int) -> Box:
        """Where in a picture of that size the pixels lie that it keeps, as fractions of its sides."""
        left, top, right, bottom = middle(width, height)
        kept = self._kept(right - left, bottom - top)
        return (
            (left + kept[0]) / width,
            (top + kept[1]) / height,
            (left + kept[2]) / width,
            (top + kept[3]) / height,
        )

    def _kept(self, width: int, height: int) -> Box:
        """The pixels kept of a picture of that size, which is no longer than `limit_elongation` allows."""
        shorter = min(width, height)
        # Truncated, as transformers' processors do, so that both see the same pixels.
        size = (int(self.shorter_px * width / shorter), int(self.shorter_px * height / shorter))
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        across, down = width / size[0], height / size[1]
        return (left * across, top * down, (left + self.width) * across, (top + self.height) * down)


def limit_elongation(image: Image.Image) -> Image.Image:
    """The picture, or its middle where one side is over `MOST_ELONGATED` times the other.

    Bringing the shorter side of a picture of 10,000 × 1 pixels to 256 would take gigabytes.
    """
    box = middle(*image.size)
    return image if box == (0, 0, *image.size) else image.crop(box)


def middle(width: int, height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of what `limit_elongation` leaves of a picture of that size."""
    new_width, new_height = min(width, MOST_ELONGATED * height), min(height, MOST_ELONGATED * width)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return (left, top, left + new_width, top + new_height)
