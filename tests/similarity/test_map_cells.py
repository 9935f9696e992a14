"""Points → cells: nothing overlaps, and what is near stays near."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from similarity.maps.cells import CELL_HEIGHT, CELL_WIDTH, Grid, snap


def groups(count: int = 200) -> np.ndarray:
    """Two round groups of points, far from each other along the first axis."""
    random = np.random.default_rng(1)
    return np.concatenate([random.normal((0, 0), 1, (count, 2)), random.normal((20, 0), 1, (count, 2))])


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), max_size=60), st.floats(1, 4))
def test_every_point_has_a_cell_of_its_own_within_the_grid(points: list[tuple[float, float]], room: float) -> None:
    grid = Grid.for_count(len(points), room)
    cells = snap(np.array(points, dtype=np.float64).reshape(-1, 2), grid)
    assert cells.shape == (len(points), 2)
    assert len({tuple(cell) for cell in cells.tolist()}) == len(points)
    assert (cells < [grid.columns, grid.rows]).all()


def test_the_same_points_have_the_same_cells() -> None:
    grid = Grid.for_count(400)
    assert (snap(groups(), grid) == snap(groups(), grid)).all()


def test_a_grid_is_as_wide_as_high_to_the_eye_and_has_the_room_that_was_asked() -> None:
    grid = Grid.for_count(10_000, room=2.5)
    assert 25_000 <= grid.cells < 25_400
    assert grid.columns * CELL_WIDTH == pytest.approx(grid.rows * CELL_HEIGHT, rel=0.02)


def test_groups_stay_apart_with_an_empty_lane_between_them() -> None:
    cells = snap(groups(), Grid.for_count(400))
    left, right = cells[:200, 0].astype(int), cells[200:, 0].astype(int)
    assert left.max() + 3 < right.min()


def test_points_keep_their_order_along_both_axes() -> None:
    cells = snap(np.array([(x, y) for y in range(5) for x in range(5)], dtype=np.float64), Grid(5, 5))
    assert cells.tolist() == [[x, y] for y in range(5) for x in range(5)]


def test_neighbours_stay_neighbours() -> None:
    points = np.random.default_rng(2).random((600, 2))
    places = snap(points, Grid.for_count(600)) * np.array([CELL_WIDTH, CELL_HEIGHT], dtype=np.float64)
    near, near_after = (
        np.argsort(((each[:, None] - each[None]) ** 2).sum(axis=-1), axis=1, kind="stable")[:, 1:]
        for each in (points, places)
    )
    kept = [len(set(near[at, :10]) & set(near_after[at, :30])) / 10 for at in range(600)]
    assert np.mean(kept) > 0.9


def test_copies_lie_beside_each_other() -> None:
    points = np.concatenate([groups(), np.full((6, 2), (10.0, 0.0))])
    cells = snap(points, Grid.for_count(len(points))).astype(int)
    assert np.ptp(cells[-6:], axis=0).max() <= 6


def test_too_small_a_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="5 pictures have no room in 2 × 2 cells"):
        snap(np.zeros((5, 2)), Grid(2, 2))
