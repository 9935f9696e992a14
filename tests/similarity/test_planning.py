"""Whatever may answer, the nearest of it are found, by a way that is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from django.conf import settings
from django.test import override_settings
from numpy.typing import NDArray

from similarity import planning
from similarity.cells import Cells
from similarity.indexes import VectorIndex, get_engine
from similarity.indexes.exact import ExactIndex
from similarity.indexes.faiss import GRAPH, FaissIndex
from similarity.planning import Found, Selection, least_slack
from similarity.vectors import Matrix, unit
from tests.engines import PGVECTOR, VECTORS, vectors_at

COUNT, CENTRES, PER_CELL = 40_000, 12, 100
K = 10


@dataclass(frozen=True)
class Clustered:
    """Looks around twelve centres far from each other, in their order, and whose centre each has."""

    looks: Matrix
    centre: NDArray[np.int64]
    index: VectorIndex
    cells: Cells
    slack: float

    def ask(self, query: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> Found:
        selection = None if inside is None else Selection(inside, self.cells)
        return planning.search(self.index, self.cells, query, K, selection, slack=self.slack)

    def recall(self, queries: Matrix, inside: NDArray[np.bool_]) -> tuple[float, set[str]]:
        """The share of the ten best of those inside that is found, and in which ways."""
        shares, ways = [], set()
        for query in queries:
            found = self.ask(query, inside)
            assert inside[found.positions].all()
            tenth = np.sort(self.looks[inside] @ query)[-K]
            shares.append((found.scores >= tenth - 1e-5).mean())
            ways.add(found.plan.how)
        return float(np.mean(shares)), ways

    def went(self, ways: set[str], wanted: set[str]) -> bool:
        """Whether all went the ways that are best. Other engines' graphs come out another one each time, and a question
        more or less may find too few in them: of those, what is found counts and not how."""
        return ways <= wanted or not isinstance(self.index, FaissIndex)


@pytest.fixture(scope="module", params=["faiss", "pgvector"])
def clustered(request: pytest.FixtureRequest) -> Iterator[Clustered]:
    """In each engine that has a graph."""
    if request.param == "faiss":
        yield in_engine(FaissIndex, GRAPH)
        return
    server = request.getfixturevalue("vector_server")
    there = {**settings.SIMILARITY, "INDEX": {**settings.SIMILARITY["INDEX"], "DATABASE": VECTORS}}
    unblocked = request.getfixturevalue("django_db_blocker").unblock()
    with unblocked, vectors_at(server.url), override_settings(SIMILARITY=there):
        given = in_engine(get_engine(PGVECTOR), "HNSW16")
        while (given.index.effort or 0) < 96:  # as `similarity.tuning` would have it
            assert given.index.harder()
        yield given


def in_engine(engine: type[VectorIndex], factory: str) -> Clustered:
    random = np.random.default_rng(3)
    centre = np.sort(random.integers(0, CENTRES, COUNT))
    centres = np.eye(CENTRES, 24, dtype=np.float32)[centre]
    looks = unit(centres + 0.15 * random.normal(size=(COUNT, 24)).astype(np.float32))
    # Within a centre by the first direction in which its looks differ, so that a cell's are alike.
    order = np.lexsort((looks[:, -1], centre))
    looks, centre = looks[order], centre[order]
    cells = cells_of(looks)
    index = engine.build(looks, factory)
    slack = least_slack(index, cells, [looks[random.permutation(COUNT)[:64]]])[0]
    assert slack is not None
    return Clustered(looks, centre, index, cells, slack)


def cells_of(looks: Matrix) -> Cells:
    starts = np.arange(0, len(looks) + 1, PER_CELL)
    blocks = looks.reshape(-1, PER_CELL, looks.shape[1])
    centroids = blocks.mean(axis=1)
    spreads = np.sqrt(((blocks - centroids[:, np.newaxis]) ** 2).sum(axis=2).mean(axis=1))
    return Cells(starts, centroids, spreads)


def some_queries(given: Clustered, of: NDArray[np.bool_]) -> Matrix:
    at = np.flatnonzero(of)
    return given.looks[at[:: max(1, len(at) // 40)]]


@pytest.mark.parametrize(
    ("share", "way"),
    [
        (0.9, "graph-then-filter"),
        (0.72, "graph-then-filter"),
        (0.3, "graph-then-filter"),
        (0.02, "one-by-one"),
        (0.001, "one-by-one"),
    ],
)
def test_a_share_strewn_among_the_others(clustered: Clustered, share: float, way: str) -> None:
    inside = np.random.default_rng(1).random(COUNT) < share
    recall, ways = clustered.recall(some_queries(clustered, np.ones(COUNT, bool)), inside)
    assert recall >= 0.99
    assert way in ways
    assert clustered.went(ways, {way, "one-by-one"})  # the latter where too few turned up


def test_a_question_from_within_what_it_is_narrowed_to(clustered: Clustered) -> None:
    inside = clustered.centre < 10
    recall, ways = clustered.recall(some_queries(clustered, inside), inside)
    assert recall >= 0.99
    assert clustered.went(ways, {"graph-then-filter"})


def test_a_question_from_outside_finds_the_nearest_all_the_same(clustered: Clustered) -> None:
    inside = clustered.centre > 2
    assert inside.sum() > planning.FEW
    recall, ways = clustered.recall(some_queries(clustered, clustered.centre == 0), inside)
    assert recall >= 0.99
    assert ways & {"range", "cells"}
    assert clustered.went(ways, {"range", "cells"})


def test_from_outside_and_with_gaps_the_cells_are_gone_through(clustered: Clustered) -> None:
    inside = (clustered.centre > 1) & (np.random.default_rng(2).random(COUNT) < 0.95)
    query = clustered.looks[0]
    recall, ways = clustered.recall(some_queries(clustered, clustered.centre == 0), inside)
    assert recall >= 0.99
    assert "cells" in ways
    assert clustered.went(ways, {"cells"})
    plan = clustered.ask(query, inside).plan
    assert plan.instead_of == "graph-then-filter"
    assert "lies outside" in plan.why
    assert plan.looked_at < plan.selected == inside.sum() < plan.of == COUNT


def test_nothing_selected_answers_with_nothing_and_everything_as_if_unasked(clustered: Clustered) -> None:
    query = clustered.looks[5]
    assert len(clustered.ask(query, np.zeros(COUNT, bool)).positions) == 0
    whole = clustered.ask(query, np.ones(COUNT, bool))
    assert whole.plan.how == "graph"
    assert whole.positions.tolist() == clustered.ask(query, None).positions.tolist()


def test_fewer_than_were_asked_for_are_all_there_are(clustered: Clustered) -> None:
    inside = np.zeros(COUNT, bool)
    inside[[7, 12_000, 39_999]] = True
    found = clustered.ask(clustered.looks[7], inside)
    assert sorted(found.positions.tolist()) == [7, 12_000, 39_999]
    assert found.positions[0] == 7


def test_where_the_graph_loses_too_much_the_cells_find_the_nearest(clustered: Clustered) -> None:
    query = clustered.looks[100]
    found = planning.search(clustered.index, clustered.cells, query, K, exactly=True, slack=clustered.slack)
    assert found.plan.how == "cells"
    assert found.scores == pytest.approx(np.sort(clustered.looks @ query)[::-1][:K], abs=1e-5)
    without = planning.search(clustered.index, None, query, K, exactly=True)
    assert without.plan.how == "everything"
    assert without.scores == pytest.approx(found.scores, abs=1e-5)


def test_an_exact_index_needs_no_cells() -> None:
    looks = unit(np.random.default_rng(0).normal(size=(500, 8)))
    inside = np.arange(500) % 3 == 0
    found = planning.search(ExactIndex.build(looks), None, looks[0], K, Selection(inside))
    best = np.flatnonzero(inside)[np.argsort(-(looks[inside] @ looks[0]), kind="stable")[:K]]
    assert found.positions.tolist() == best.tolist()


def test_the_slack_is_what_far_questions_need(clustered: Clustered) -> None:
    """With it nearly all is found among the farther half; without any, a good deal is missed."""
    queries = some_queries(clustered, np.ones(COUNT, bool))
    lost = {}
    for slack in (0.0, clustered.slack):
        missed = []
        for query in queries:
            near = clustered.cells.centroids @ query
            far = np.repeat(near <= np.median(near), PER_CELL)
            selection = Selection(far, clustered.cells)
            found = planning.search(clustered.index, clustered.cells, query, K, selection, exactly=True, slack=slack)
            assert found.plan.how == "cells"
            missed.append((found.scores < np.sort(clustered.looks[far] @ query)[-K] - 1e-5).mean())
        lost[slack] = float(np.mean(missed))
    assert lost[clustered.slack] <= 0.01 < lost[0.0]


def test_the_slack_of_no_questions_is_unknown(clustered: Clustered) -> None:
    assert least_slack(clustered.index, clustered.cells, [clustered.looks[:0]]) == [None]


class Astray(ExactIndex):
    """A graph that always comes back with what lies around one centre, as real ones do once in a thousand questions."""

    around: NDArray[np.int64]

    @property
    def exact(self) -> bool:
        return False

    def _search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return super()._search(queries, k, self.around if among is None else among)


@pytest.fixture(scope="module")
def astray() -> Clustered:
    sound = in_engine(ExactIndex, "Flat")
    index = Astray.build(sound.looks)
    index.around = np.flatnonzero(sound.centre == 5)
    return Clustered(sound.looks, sound.centre, index, sound.cells, sound.slack)


@pytest.mark.parametrize("known", [True, False], ids=["by the product asked with", "by the cells' means"])
def test_a_graph_that_lost_its_way_is_found_out(astray: Clustered, known: bool) -> None:
    query = astray.looks[0]
    own = float(query @ query) if known else None
    found = planning.search(astray.index, astray.cells, query, K, slack=astray.slack, known=own)
    assert (found.plan.how, found.plan.instead_of) == ("cells", "graph")
    assert "lost its way" in found.plan.why
    assert found.scores == pytest.approx(np.sort(astray.looks @ query)[::-1][:K], abs=1e-5)


def test_also_where_what_it_found_may_answer(astray: Clustered) -> None:
    inside = astray.centre > 2
    query = astray.looks[0]
    found = astray.ask(query, inside)
    assert found.plan.instead_of == "graph-then-filter"
    assert "lost its way" in found.plan.why
    assert found.scores[-1] == pytest.approx(np.sort(astray.looks[inside] @ query)[-K], abs=1e-5)


def test_without_cells_every_look_is_looked_at_instead(astray: Clustered) -> None:
    query = astray.looks[0]
    found = planning.search(astray.index, None, query, K, known=float(query @ query))
    assert (found.plan.how, found.plan.instead_of) == ("everything", "graph")
    assert found.positions[0] == 0


def test_a_graph_that_found_what_is_there_is_believed(astray: Clustered) -> None:
    query = astray.looks[astray.index.around[0]]  # type: ignore[attr-defined]
    for own in (float(query @ query), None):
        assert planning.search(astray.index, astray.cells, query, K, slack=astray.slack, known=own).plan.how == "graph"
