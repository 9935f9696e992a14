"""A region that somebody has drawn on a map, as a text that fits into an address: `3f9c0a1b22d4-12-40-33-52-8-60`.

The first piece is the map's key, the rest are the corners of a polygon, x and y in quarters of a cell. What is inside
is told as the page's script tells it (static/site/map.js), in the same order of the same operations, so that the
number which a visitor reads is the number of products that the grid then shows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from similarity.maps.cells import Cells

MAX_POINTS = 64
PER_CELL = 4
_TEXT = re.compile(rf"(?P<key>[0-9a-f]{{12}})(?P<points>(?:-[0-9]{{1,6}}-[0-9]{{1,6}}){{3,{MAX_POINTS}}})")


class AreaError(ValueError):
    """The text is no area."""


@dataclass(frozen=True)
class Polygon:
    """`points`: corners (x, y) in quarters of a cell, of the map with that key."""

    key: str
    points: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> Polygon:
        """Raises AreaError."""
        found = _TEXT.fullmatch(text)
        if not found:
            raise AreaError(f"An area is a map's key and 3 to {MAX_POINTS} points, as 3f9c0a1b22d4-12-40-33-52-8-60.")
        numbers = [int(number) for number in found["points"].split("-")[1:]]
        return cls(found["key"], tuple(zip(numbers[::2], numbers[1::2], strict=True)))

    @classmethod
    def rectangle(cls, key: str, left: int, top: int, right: int, bottom: int) -> Polygon:
        """The cells from left and top to right and bottom, which are left out."""
        x, y, x2, y2 = (PER_CELL * side for side in (left, top, right, bottom))
        return cls(key, ((x, y), (x2, y), (x2, y2), (x, y2)))

    def __str__(self) -> str:
        return "-".join([self.key, *(str(number) for point in self.points for number in point)])

    def holds(self, cells: Cells) -> NDArray[np.bool_]:
        """(n,) whether the centre of each cell (n, 2) is inside, by how often a ray crosses the outline."""
        x = cells[:, 0] * float(PER_CELL) + PER_CELL / 2
        y = cells[:, 1] * float(PER_CELL) + PER_CELL / 2
        inside = np.zeros(len(cells), dtype=bool)
        for (x1, y1), (x2, y2) in zip(self.points, (self.points[-1], *self.points[:-1]), strict=True):
            if y1 != y2:
                crosses = (y1 > y) != (y2 > y)
                inside ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        return inside
