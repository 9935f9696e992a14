"""The contract of index engines: every engine passes the same tests, with exact NumPy as the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured

from similarity.indexes import VectorIndex, VectorIndexError, get_engine
from similarity.indexes.base import exact_search
from similarity.vectors import unit

ENGINES = ["similarity.indexes.exact.ExactIndex", "similarity.indexes.faiss.FaissIndex"]
VECTORS = unit(np.random.default_rng(7).normal(size=(300, 16)))


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> type[VectorIndex]:
    return get_engine(request.param)


def test_it_finds_what_the_oracle_finds(engine: type[VectorIndex]) -> None:
    queries = unit(np.random.default_rng(8).normal(size=(20, 16)))
    positions, scores = engine.build(VECTORS).search(queries, 10)
    wanted, wanted_scores = exact_search(queries, VECTORS, 10)
    assert positions.tolist() == wanted.tolist()
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
    assert positions.dtype == np.int64
    assert scores.dtype == np.float32


def test_a_vector_finds_itself_first(engine: type[VectorIndex]) -> None:
    positions, scores = engine.build(VECTORS).search(VECTORS[:5], 1)
    assert positions[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)


def test_more_than_there_is_gives_all_there_is_and_no_minus_one(engine: type[VectorIndex]) -> None:
    positions, scores = engine.build(VECTORS[:3]).search(VECTORS[:1], 50)
    assert sorted(positions[0].tolist()) == [0, 1, 2]
    assert np.isfinite(scores).all()


def test_an_empty_index_answers_with_nothing(engine: type[VectorIndex]) -> None:
    index = engine.build(VECTORS[:0])
    assert (index.count, index.dimension) == (0, 16)
    assert index.search(VECTORS[:2], 5)[0].shape == (2, 0)


@pytest.mark.parametrize(
    ("query", "k", "says"),
    [
        (np.ones((1, 15), np.float32), 5, "16-dimensional"),
        (np.ones(16, np.float32), 5, "16-dimensional"),
        (np.full((1, 16), np.nan, np.float32), 5, "no numbers"),
        (np.zeros((1, 16), np.float32), 5, "all zeros"),
        (np.ones((1, 16), np.float32), 0, "at least 1"),
    ],
)
def test_nonsense_is_refused_in_words(engine: type[VectorIndex], query: Any, k: int, says: str) -> None:
    with pytest.raises(VectorIndexError, match=says):
        engine.build(VECTORS).search(query, k)


def test_it_is_the_same_after_a_round_trip(engine: type[VectorIndex], tmp_path: Path) -> None:
    engine.build(VECTORS).save(tmp_path)
    loaded = engine.load(tmp_path)
    assert (loaded.count, loaded.dimension) == (300, 16)
    np.testing.assert_array_equal(loaded.reconstruct(np.array([5, 0, 5])), VECTORS[[5, 0, 5]])


def test_what_cannot_be_read_is_refused(engine: type[VectorIndex], tmp_path: Path) -> None:
    (tmp_path / engine.file_name).write_bytes(b"not an index")
    with pytest.raises(VectorIndexError, match="read"):
        engine.load(tmp_path)


def test_building_leaves_the_matrix_alone_and_does_not_follow_it(engine: type[VectorIndex]) -> None:
    given = VECTORS.copy()
    index = engine.build(given)
    given[:] = 0
    np.testing.assert_array_equal(index.reconstruct(np.array([3])), VECTORS[[3]])


def test_an_engine_that_cannot_be_had_names_the_setting() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"SIMILARITY\['INDEX'\]\['BACKEND'\]"):
        get_engine("similarity.indexes.nowhere.Index")


def test_a_search_among_some_finds_what_the_oracle_finds_among_them(engine: type[VectorIndex]) -> None:
    vectors = unit(np.random.default_rng(4).normal(size=(300, 12)))
    among = np.random.default_rng(5).permutation(300)[:40]
    positions, scores = engine.build(vectors).search(vectors[:3], 5, among)
    wanted = np.sort(among)[np.argsort(-(vectors[:3] @ vectors[np.sort(among)].T), axis=1, kind="stable")[:, :5]]
    assert positions.tolist() == wanted.tolist()
    assert scores == pytest.approx(np.take_along_axis(vectors[:3] @ vectors.T, wanted, axis=1), abs=1e-5)


def test_a_search_among_few_or_none_gives_what_there_is(engine: type[VectorIndex]) -> None:
    index = engine.build(np.eye(4, dtype=np.float32))
    assert index.search(np.eye(4, dtype=np.float32)[:1], 3, np.array([2]))[0].tolist() == [[2]]
    assert index.search(np.eye(4, dtype=np.float32)[:1], 3, np.empty(0, np.int64))[0].shape == (1, 0)
    with pytest.raises(VectorIndexError, match="does not have"):
        index.search(np.eye(4, dtype=np.float32)[:1], 3, np.array([4]))
