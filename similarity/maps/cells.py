"""Points of a plane → cells of a grid, one each: nothing overlaps, and neighbours stay neighbours. Pure NumPy.

After "Overlap removal of dimensionality reduction scatterplot layouts" (Hilasaca et al., 2019): free cells are given to
dummies where the plane is emptiest, so that the gaps between groups stay; then points and dummies together are halved
again and again, by their order along the longer side of the block of cells that is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELL_WIDTH, CELL_HEIGHT = 3, 4
"""A cell's proportions, those of the tiles on the site's other pages."""
ROOM = 2.5
"""Cells a picture: what is not taken lies between groups."""
BLUR_SHARE = 1 / 80
"""How far a point makes its surroundings less empty, as a share of the grid's side."""

Cells = NDArray[np.uint16]
"""(n, 2): column and row."""


@dataclass(frozen=True)
class Grid:
    columns: int
    rows: int

    @classmethod
    def for_count(cls, count: int, room: float = ROOM) -> Grid:
        """A square to the eye with `room` cells a picture."""
        columns = max(1, math.ceil(math.sqrt(room * count * CELL_HEIGHT / CELL_WIDTH)))
        return cls(columns, max(1, math.ceil(room * count / columns)))

    @property
    def cells(self) -> int:
        return self.columns * self.rows


def snap(points: NDArray[np.float64], grid: Grid) -> Cells:
    """Points (n, 2) of a plane → a cell (n, 2) for each, no two alike. Raises ValueError where there are too few."""
    count = len(points)
    if count > grid.cells:
        raise ValueError(f"{count} pictures have no room in {grid.columns} × {grid.rows} cells.")
    placed = _scaled(points, grid)
    together = np.concatenate([placed, _dummies(placed, grid)])
    found = np.empty((len(together), 2), dtype=np.uint16)
    for members, column, row in _halved(together, grid):
        found[members, 0], found[members, 1] = column, row
    return found[:count]


def _scaled(points: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Into the grid's own measure, 0 … columns and 0 … rows, with one scale for both directions of the eye."""
    if not len(points):
        return np.empty((0, 2))
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(float((high - low).max()), 1e-12)
    size = np.array([grid.columns, grid.rows], dtype=np.float64)
    inside: NDArray[np.float64] = ((points - (low + high) / 2) / side + 0.5) * size
    return inside


def _dummies(placed: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Centres (cells - n, 2) of the emptiest cells."""
    at = np.clip(placed.astype(np.int64), 0, [grid.columns - 1, grid.rows - 1])
    counts: NDArray[np.float64] = np.zeros((grid.rows, grid.columns))
    np.add.at(counts, (at[:, 1], at[:, 0]), 1.0)
    crowd = counts
    radius = max(1, round(BLUR_SHARE * max(grid.columns, grid.rows)))
    for _ in range(2):  # a box blur twice is a tent
        crowd = _blurred(_blurred(crowd, radius, 0), radius, 1)
    emptiest = np.argsort(np.where(counts > 0, np.inf, crowd).ravel(), kind="stable")
    chosen = np.sort(emptiest[: grid.cells - len(placed)])
    return np.stack([chosen % grid.columns + 0.5, chosen // grid.columns + 0.5], axis=1)


def _blurred(values: NDArray[np.float64], radius: int, axis: int) -> NDArray[np.float64]:
    """Each value's sum with those up to `radius` beside it."""
    padding = [(0, 0), (0, 0)]
    padding[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(values, padding), axis=axis)
    length = values.shape[axis]
    upper = np.take(sums, np.arange(2 * radius + 1, 2 * radius + 1 + length), axis=axis)
    return upper - np.take(sums, np.arange(length), axis=axis)


def _halved(points: NDArray[np.float64], grid: Grid) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """(members, their columns, their row) of each strip of cells, one for each point."""
    blocks = [(np.arange(len(points)), 0, 0, grid.columns, grid.rows)]
    while blocks:
        members, left, top, columns, rows = blocks.pop()
        if rows == 1:
            order = np.argsort(points[members, 0], kind="stable")
            yield members[order], np.arange(left, left + columns), top
        elif columns * CELL_WIDTH > rows * CELL_HEIGHT:
            half = columns // 2
            first, second = _split(points, members, 0, half * rows)
            blocks.append((first, left, top, half, rows))
            blocks.append((second, left + half, top, columns - half, rows))
        else:
            half = rows // 2
            first, second = _split(points, members, 1, half * columns)
            blocks.append((first, left, top, columns, half))
            blocks.append((second, left, top + half, columns, rows - half))


def _split(
    points: NDArray[np.float64], members: NDArray[np.int64], axis: int, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The `count` lowest along an axis, and the others; equal ones by their position."""
    order = np.argsort(points[members, axis], kind="stable")
    return members[order[:count]], members[order[count:]]
