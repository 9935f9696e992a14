"""Pictures → sprite sheets: the map as it is drawn, cut into tiles of 384 × 512 pixels, in five sizes of a cell.

A tile of the nearest size shows 8 × 8 cells of 48 × 64 pixels; one of the next shows four of those at half the size,
and so on, down to 3 × 4 pixels a cell. So a view of any size takes a handful of tiles, however many pictures there are.
Cells without a picture are transparent, and so are tiles that do not exist.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from similarity.maps.cells import CELL_HEIGHT, CELL_WIDTH, Cells

Drawn = Callable[[int], object]
"""Hears how many pictures were drawn since it last did."""

T = TypeVar("T")
R = TypeVar("R")

UNITS = (16, 8, 4, 2, 1)
"""Sizes: a cell is 3 × 4 of these."""
TILE_WIDTH, TILE_HEIGHT = 384, 512
MARGIN = 1
QUALITY, METHOD = 75, 2  # a finer method takes twice the time for 4 % of the bytes
UNKNOWN = (128, 128, 128, 96)
"""Drawn where a picture cannot be read."""


class TileName(NamedTuple):
    """`unit`: of the size. `x` and `y` count tiles, of this size."""

    unit: int
    x: int
    y: int


def cells_across(unit: int) -> int:
    """How many cells a tile of that size shows in each direction."""
    return TILE_WIDTH // (CELL_WIDTH * unit)


def box_of(cell: tuple[int, int], unit: int) -> tuple[int, int, int, int]:
    """Where a cell lies in its tile: left, top, right, bottom in pixels."""
    across = cells_across(unit)
    left, top = cell[0] % across * CELL_WIDTH * unit, cell[1] % across * CELL_HEIGHT * unit
    return left, top, left + CELL_WIDTH * unit, top + CELL_HEIGHT * unit


def draw_sheets(
    cells: Cells, paths: Sequence[Path | None], drawn: Drawn = lambda count: None
) -> Iterator[tuple[TileName, bytes]]:
    """Every tile with something in it, as WebP. `paths` are those of the pictures in the cells (n, 2).

    A few tiles are in memory at a time.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for at, cell in enumerate((cells // cells_across(UNITS[0])).tolist()):
        groups.setdefault((cell[0], cell[1]), []).append(at)
    order = sorted(groups, key=_along_z)
    layers = len(UNITS)
    open_tiles: dict[TileName, Image.Image] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:

        def draw(name: tuple[int, int]) -> Image.Image:
            members = groups[name]
            return _nearest_tile([(cells[at], paths[at]) for at in members])

        for place, (name, image) in enumerate(_ahead(pool, draw, order)):
            drawn(len(groups[name]))
            following = order[place + 1] if place + 1 < len(order) else None
            tile = TileName(UNITS[0], *name)
            yield tile, _encoded(image)
            # A coarser tile is finished when the next fine one lies outside it.
            for layer in range(1, layers):
                unit = UNITS[layer]
                above = TileName(unit, tile.x // 2, tile.y // 2)
                if above not in open_tiles:
                    open_tiles[above] = Image.new("RGBA", (TILE_WIDTH, TILE_HEIGHT))
                corner = (tile.x % 2 * TILE_WIDTH // 2, tile.y % 2 * TILE_HEIGHT // 2)
                open_tiles[above].paste(image.reduce(2), corner)
                if following and (following[0] >> layer, following[1] >> layer) == (above.x, above.y):
                    break
                tile, image = above, open_tiles.pop(above)
                yield tile, _encoded(image)


def blanked(tile: bytes, boxes: Sequence[tuple[int, int, int, int]]) -> bytes:
    """The tile with nothing left of what was in those boxes."""
    with Image.open(io.BytesIO(tile)) as stored:
        image = stored.convert("RGBA")
    for box in boxes:
        image.paste((0, 0, 0, 0), box)
    return _encoded(image)


def _ahead(pool: ThreadPoolExecutor, work: Callable[[T], R], order: Sequence[T]) -> Iterator[tuple[T, R]]:
    """Results in order, a few of them computed ahead."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    for each in order:
        waiting.append((each, pool.submit(work, each)))
        if len(waiting) > 2 * (os.cpu_count() or 1):
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _along_z(name: tuple[int, int]) -> int:
    """The place on a Z-order curve: tiles that share a coarser one follow each other."""
    x, y = name
    return sum((x >> bit & 1) << (2 * bit) | (y >> bit & 1) << (2 * bit + 1) for bit in range(16))


def _nearest_tile(pieces: Sequence[tuple[np.ndarray, Path | None]]) -> Image.Image:
    unit = UNITS[0]
    tile = Image.new("RGBA", (TILE_WIDTH, TILE_HEIGHT))
    for cell, path in pieces:
        left, top, right, bottom = box_of((int(cell[0]), int(cell[1])), unit)
        inner = (right - left - 2 * MARGIN, bottom - top - 2 * MARGIN)
        sprite = _sprite(path, inner)
        if sprite is None:
            box = (left + MARGIN, top + MARGIN, right - MARGIN - 1, bottom - MARGIN - 1)
            ImageDraw.Draw(tile).rectangle(box, fill=UNKNOWN)
        else:
            x, y = (left + right - sprite.width) // 2, (top + bottom - sprite.height) // 2
            tile.paste(sprite, (x, y))
    return tile


def _sprite(path: Path | None, size: tuple[int, int]) -> Image.Image | None:
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            sprite = picture.convert("RGB")
            sprite.thumbnail(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    except (OSError, ValueError):
        return None
    return sprite


def _encoded(tile: Image.Image) -> bytes:
    buffer = io.BytesIO()
    tile.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return buffer.getvalue()
