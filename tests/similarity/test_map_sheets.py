"""Sprite sheets: each picture in its cell, in every size, and nothing left of what is blanked."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from similarity.maps.sheets import TILE_HEIGHT, TILE_WIDTH, UNITS, TileName, blanked, box_of, cells_across, draw_sheets

COLOURS = [(200, 30, 30), (30, 160, 40), (40, 60, 200), (200, 180, 20)]
CELLS = np.array([[0, 0], [9, 3], [70, 40], [131, 5]], dtype=np.uint16)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path | None]:
    made: list[Path | None] = []
    for at, colour in enumerate(COLOURS):
        made.append(tmp_path / f"{at}.webp")
        Image.new("RGB", (90, 120), colour).save(tmp_path / f"{at}.webp")
    return made


def opened(tile: bytes) -> Image.Image:
    with Image.open(io.BytesIO(tile)) as image:
        assert (image.format, image.size) == ("WEBP", (TILE_WIDTH, TILE_HEIGHT))
        return image.convert("RGBA")


def middle(image: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    """The mean of a box's middle: red, green, blue, alpha."""
    left, top, right, bottom = box
    inner = image.crop((left + (right - left) // 3, top + (bottom - top) // 3, right - 1, bottom - 1))
    mean: np.ndarray = np.asarray(inner, dtype=float).reshape(-1, 4).mean(axis=0)
    return mean


def test_each_picture_stands_in_its_cell_in_every_size(paths: list[Path | None]) -> None:
    sheets = dict(draw_sheets(CELLS, paths))
    for unit in UNITS:
        across = cells_across(unit)
        wanted = {TileName(unit, column // across, row // across) for column, row in CELLS.tolist()}
        assert {name for name in sheets if name.unit == unit} == wanted
        if unit < 4:
            continue  # a few pixels, smeared by the format
        for (column, row), colour in zip(CELLS.tolist(), COLOURS, strict=True):
            tile = opened(sheets[TileName(unit, column // across, row // across)])
            seen = middle(tile, box_of((column, row), unit))
            assert np.abs(seen[:3] - colour).max() < 30 and seen[3] > 200


def test_where_no_picture_is_a_tile_is_transparent(paths: list[Path | None]) -> None:
    sheets = dict(draw_sheets(CELLS, paths))
    tile = opened(sheets[TileName(16, 0, 0)])
    assert middle(tile, box_of((1, 0), 16))[3] == 0


def test_a_picture_that_cannot_be_read_is_a_grey_card(tmp_path: Path) -> None:
    broken = tmp_path / "broken.webp"
    broken.write_bytes(b"RIFF")
    sheets = dict(draw_sheets(CELLS[:2], [broken, None]))
    assert 60 < middle(opened(sheets[TileName(16, 0, 0)]), box_of((0, 0), 16))[3] < 130


def test_drawing_is_told_of(paths: list[Path | None]) -> None:
    told: list[int] = []
    list(draw_sheets(CELLS, paths, told.append))
    assert sum(told) == 4


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_is_left_of_what_is_blanked_and_its_neighbour_stays(paths: list[Path | None], unit: int) -> None:
    cells = np.array([[4, 4], [5, 4]], dtype=np.uint16)
    tile = dict(draw_sheets(cells, paths[:2]))[TileName(unit, 0, 0)]
    without = opened(blanked(tile, [box_of((4, 4), unit)]))
    assert np.asarray(without.crop(box_of((4, 4), unit)))[..., 3].max() == 0
    assert np.asarray(without.crop(box_of((5, 4), unit)))[..., 3].max() > 128
