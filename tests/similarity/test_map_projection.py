"""Looks → points: neighbours stay neighbours, and the same looks have the same points."""

from __future__ import annotations

import numpy as np
import pytest

from similarity.indexes.faiss import FaissIndex
from similarity.maps.cells import Grid, snap
from similarity.maps.measuring import measure
from similarity.maps.projection import project
from similarity.vectors import Matrix, unit


def clustered(each: int = 40, groups: int = 5, dimension: int = 24) -> Matrix:
    """Groups of looks around directions at right angles to each other."""
    random = np.random.default_rng(3)
    centres = np.eye(dimension, dtype=np.float32)[:groups]
    return unit(np.repeat(centres, each, axis=0) + random.normal(0, 0.12, (each * groups, dimension)))


def points_of(looks: Matrix) -> np.ndarray:
    return project(looks, FaissIndex.build(looks))


def test_groups_of_looks_are_groups_of_points_and_of_cells() -> None:
    looks = clustered()
    points = points_of(looks)
    group = np.repeat(np.arange(5), 40)
    for places in (points, snap(points, Grid.for_count(len(looks))).astype(float)):
        distances = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
        np.fill_diagonal(distances, np.inf)
        nearest = np.argsort(distances, axis=1)[:, :5]
        assert (group[nearest] == group[:, None]).mean() > 0.95


def test_neighbours_within_groups_are_kept_too() -> None:
    looks = clustered()
    quality = measure(looks, snap(points_of(looks), Grid.for_count(len(looks))))
    assert quality.asked == 200
    assert quality.trustworthiness is not None and quality.trustworthiness > 0.93
    assert quality.within_30 is not None and quality.within_30 > 0.7


def test_the_same_looks_have_the_same_points() -> None:
    looks = clustered(each=10)
    assert (points_of(looks) == points_of(looks)).all()


def test_copies_of_one_picture_are_no_trouble() -> None:
    looks = np.repeat(clustered(each=4), 30, axis=0)
    points = points_of(looks)
    assert points.shape == (600, 2) and np.isfinite(points).all()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_a_handful_is_laid_out_too(count: int) -> None:
    points = points_of(clustered(each=2)[:count])
    assert points.shape == (count, 2) and np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == count
