"""The part of a picture that is searched with: a box in fractions of its sides. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from django.utils.translation import gettext

if TYPE_CHECKING:
    from PIL import Image

LEAST_SHARE = 0.02
"""The least width and height of a box."""


class CropError(ValueError):
    """The box makes no sense; the message says why."""


@dataclass(frozen=True)
class CropBox:
    """`left` and `top` corner, `width` and `height`, in fractions of the picture's sides."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`"0.1,0,0.5,0.5"` → the box; "" → the whole picture.

        Raises CropError for anything that is no box within the picture, at least 2 % wide and high.
        """
        if not text.strip():
            return cls()
        try:
            sides = [float(side) for side in text.split(",")]
        except ValueError:
            sides = []
        if len(sides) != 4 or not all(map(math.isfinite, sides)):
            said = gettext("'%(box)s' is not left,top,width,height in fractions of the picture, as 0.1,0,0.5,0.5.")
            raise CropError(said % {"box": text})
        left, top, width, height = sides
        # Rounding may carry a box a little past an edge.
        if min(left, top) < -1e-3 or left + width > 1 + 1e-3 or top + height > 1 + 1e-3:
            said = gettext("The box %(box)s reaches beyond the picture, which goes from 0 to 1.")
            raise CropError(said % {"box": text})
        if min(width, height) < LEAST_SHARE:
            said = gettext("The box %(box)s is too small: at least %(least)s wide and high.")
            raise CropError(said % {"box": text, "least": f"{LEAST_SHARE:g}"})
        return cls(max(0.0, left), max(0.0, top), min(width, 1.0), min(height, 1.0))

    @property
    def is_whole(self) -> bool:
        return self == type(self)()

    def __str__(self) -> str:
        return ",".join(f"{side:.4g}" for side in (self.left, self.top, self.width, self.height))

    def of(self, image: Image.Image) -> Image.Image:
        """That part of the picture, at least a pixel wide and high."""
        if self.is_whole:
            return image
        left, top = (
            min(int(share * side), side - 1) for share, side in ((self.left, image.width), (self.top, image.height))
        )
        right = max(left + 1, min(round((self.left + self.width) * image.width), image.width))
        bottom = max(top + 1, min(round((self.top + self.height) * image.height), image.height))
        return image.crop((left, top, right, bottom))
