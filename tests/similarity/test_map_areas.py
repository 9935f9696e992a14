"""Areas: what is inside can be told on paper, and what is no area is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from similarity.maps.areas import MAX_POINTS, AreaError, Polygon

KEY = "3f9c0a1b22d4"
CELLS = np.array([(x, y) for y in range(6) for x in range(6)], dtype=np.uint16)


def held(polygon: Polygon) -> list[list[int]]:
    cells: list[list[int]] = CELLS[polygon.holds(CELLS)].tolist()
    return cells


def test_a_rectangle_holds_the_cells_whose_centres_are_in_it() -> None:
    assert held(Polygon.rectangle(KEY, 1, 2, 3, 4)) == [[1, 2], [2, 2], [1, 3], [2, 3]]


def test_less_than_half_a_cell_does_not_count() -> None:
    assert held(Polygon(KEY, ((1, 1), (9, 1), (9, 9), (1, 9)))) == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert held(Polygon(KEY, ((3, 3), (9, 3), (9, 9), (3, 9)))) == [[1, 1]]


def test_a_notch_is_outside() -> None:
    """A U of three columns and three rows, open at its top."""
    outline = ((0, 0), (4, 0), (4, 8), (8, 8), (8, 0), (12, 0), (12, 12), (0, 12))
    assert held(Polygon(KEY, outline)) == [[0, 0], [2, 0], [0, 1], [2, 1], [0, 2], [1, 2], [2, 2]]


def test_the_direction_in_which_it_was_drawn_does_not_matter() -> None:
    outline = ((1, 1), (21, 3), (17, 19), (3, 13))
    assert held(Polygon(KEY, outline)) == held(Polygon(KEY, outline[::-1])) != []


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 9999)), min_size=3, max_size=MAX_POINTS))
def test_an_area_is_read_as_it_was_written(points: list[tuple[int, int]]) -> None:
    polygon = Polygon(KEY, tuple(points))
    assert Polygon.parse(str(polygon)) == polygon


@pytest.mark.parametrize(
    "text",
    [
        "",
        KEY,
        f"{KEY}-1-1-2-2",
        f"{KEY}-1-1-2-2-3",
        f"{KEY}-1-1-2-2-3-x",
        f"{KEY}-1-1-2-2-3--4",
        "../../etc/pas-1-1-2-2-3-3",
        f"{KEY}-1-1-2-2-3-3\n",
        KEY + "-1-1" * (MAX_POINTS + 1),
        f"{KEY}-1-1-2-2-3-99999999999999999999",
        f"{KEY}-1-1-2-2-3-٣",
    ],
)
def test_what_is_no_area_is_refused(text: str) -> None:
    with pytest.raises(AreaError, match="a map's key and 3 to 64 points"):
        Polygon.parse(text)
