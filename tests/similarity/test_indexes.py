"""The contract of index engines: every engine passes the same tests, with exact NumPy as the oracle."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import pytest
from django.core.exceptions import ImproperlyConfigured
from numpy.typing import NDArray

from similarity.indexes import VectorIndex, VectorIndexError, get_engine
from similarity.indexes import faiss as faiss_engine
from similarity.indexes.base import FLAT, Kept, Progress, TooFew, exact_search, silently
from similarity.indexes.faiss import COMPACT_GRAPH, GRAPH, FaissIndex
from similarity.vectors import Matrix, Vectors, Whole, unit
from tests.engines import MILVUS, PGVECTOR
from tests.processes import PATIENCE_S


class Graph(FaissIndex):
    """What large catalogues get."""

    @classmethod
    def build(
        cls,
        vectors: Matrix | Vectors,
        factory: str = GRAPH,
        progress: Progress = silently,
        kept: Kept | None = None,
    ) -> Self:
        return super().build(vectors, factory, progress, kept)


class Lists(FaissIndex):
    """A kind that is trained and only proposes; of too few, as for a build, an exact one."""

    @classmethod
    def build(
        cls,
        vectors: Matrix | Vectors,
        factory: str = "IVF8,SQ8",
        progress: Progress = silently,
        kept: Kept | None = None,
    ) -> Self:
        try:
            return super().build(vectors, factory, progress, kept)
        except TooFew:
            return super().build(vectors, FLAT, progress, kept)


ENGINES = [
    "similarity.indexes.exact.ExactIndex",
    "similarity.indexes.faiss.FaissIndex",
    f"{__name__}.Graph",
    f"{__name__}.Lists",
    PGVECTOR,
    f"{__name__}.PgGraph",
    MILVUS,
]
VECTORS = unit(np.random.default_rng(7).normal(size=(300, 16)))


def pg_graph() -> type[VectorIndex]:
    """What large catalogues get in PostgreSQL; its driver need not be there."""
    from similarity.indexes import pgvector

    class PgGraph(pgvector.PgVectorIndex):
        @classmethod
        def build(
            cls,
            vectors: Matrix | Vectors,
            factory: str = pgvector.PgVectorIndex.graph,
            progress: Progress = silently,
            kept: Kept | None = None,
        ) -> Self:
            return super().build(vectors, factory, progress, kept)

    return PgGraph


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> type[VectorIndex]:
    """Each engine whose server can be had."""
    if request.param == MILVUS:
        request.getfixturevalue("in_milvus")
    if request.param in (PGVECTOR, f"{__name__}.PgGraph"):
        request.getfixturevalue("in_postgres")
    return pg_graph() if request.param == f"{__name__}.PgGraph" else get_engine(request.param)


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


def test_a_matrix_that_comes_in_pieces_makes_the_same_index(engine: type[VectorIndex]) -> None:
    told: list[int] = []
    index = engine.build(Whole(VECTORS, lines=70), progress=told.append)
    assert told == [70, 140, 210, 280, 300]
    np.testing.assert_array_equal(index.chunk(65, 75), VECTORS[65:75])
    queries = unit(np.random.default_rng(8).normal(size=(20, 16)))
    assert index.search(queries, 10)[0].tolist() == exact_search(queries, VECTORS, 10)[0].tolist()


def test_what_is_had_in_memory_beforehand_answers_the_same(engine: type[VectorIndex], tmp_path: Path) -> None:
    engine.build(VECTORS).save(tmp_path)
    loaded = engine.load(tmp_path)
    loaded.prefault()
    assert loaded.search(VECTORS[:5], 1)[0][:, 0].tolist() == [0, 1, 2, 3, 4]
    empty = engine.build(VECTORS[:0])
    empty.prefault()


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


# --- graphs ------------------------------------------------------------------------------------
MANY = 12_000


@pytest.fixture(scope="module")
def clustered() -> tuple[Matrix, NDArray[np.int64]]:
    """Vectors around twelve centres far from each other, and whose centre each has."""
    random = np.random.default_rng(3)
    centre = np.sort(random.integers(0, 12, MANY))
    centres = np.eye(12, 24, dtype=np.float32)[centre]
    return unit(centres + 0.15 * random.normal(size=(MANY, 24)).astype(np.float32)), centre


@pytest.fixture(scope="module")
def graph(clustered: tuple[Matrix, NDArray[np.int64]]) -> FaissIndex:
    return Graph.build(clustered[0])


def recall(index: VectorIndex, queries: Matrix, vectors: Matrix, among: NDArray[np.int64] | None) -> float:
    """The share of the ten best among those that the index finds."""
    among = np.arange(len(vectors)) if among is None else np.sort(among)
    found = index.search(queries, 10, among)[1]
    wanted = exact_search(queries, vectors[among], 10)[1]
    return float((found >= wanted[:, -1:] - 1e-5).mean())


def test_a_graph_finds_nearly_all(graph: FaissIndex, clustered: tuple[Matrix, NDArray[np.int64]]) -> None:
    vectors, _ = clustered
    found = graph.search(vectors[:200], 10)[1]
    wanted = exact_search(vectors[:200], vectors, 10)[1]
    assert (found >= wanted[:, -1:] - 1e-5).mean() > 0.99
    exactly = graph.search_exactly(vectors[0], 10)[1]
    np.testing.assert_allclose(exactly[0], wanted[0], atol=1e-5)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.001])
def test_among_some_a_graph_looks_at_each(
    graph: FaissIndex, clustered: tuple[Matrix, NDArray[np.int64]], share: float
) -> None:
    vectors, _ = clustered
    among = np.random.default_rng(1).permutation(MANY)[: int(share * MANY)]
    assert recall(graph, vectors[:100], vectors, among) == 1.0
    side_by_side = np.arange(MANY // 3, MANY // 3 + len(among) // 2)
    assert recall(graph, vectors[:100], vectors, side_by_side) == 1.0


def test_a_graph_gives_as_many_as_were_asked_for(
    graph: FaissIndex, clustered: tuple[Matrix, NDArray[np.int64]]
) -> None:
    positions = graph.search(clustered[0][:2], 500)[0]
    assert all(len({*line}) == 500 and min(line) >= 0 for line in positions.tolist())


def test_a_graph_searches_harder_up_to_a_limit_and_remembers_it(
    clustered: tuple[Matrix, NDArray[np.int64]], tmp_path: Path
) -> None:
    index = Graph.build(clustered[0][:1000])
    efforts = [index.effort]
    while index.harder():
        efforts.append(index.effort)
    assert efforts == [64, 80, 100, 125, 156, 195, 243, 303, 378, 472, 512]
    index.save(tmp_path)
    assert FaissIndex.load(tmp_path).effort == 512


@pytest.mark.parametrize("factory", [COMPACT_GRAPH, "IVF16,SQ8,Refine(SQfp16)"])
def test_half_precision_finds_nearly_the_same(
    clustered: tuple[Matrix, NDArray[np.int64]], tmp_path: Path, factory: str
) -> None:
    vectors, _ = clustered
    FaissIndex.build(vectors[:3000], factory).save(tmp_path)
    index = FaissIndex.load(tmp_path)
    assert not index.exact
    found = index.search(vectors[:100], 10)[1]
    np.testing.assert_allclose(found, exact_search(vectors[:100], vectors[:3000], 10)[1], atol=2e-3)
    np.testing.assert_allclose(index.reconstruct(np.array([5])), vectors[[5]], atol=1e-3)


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        ("nonsense", "no factory string"),
        ("IVF16", "no factory string"),
        ("HNSW32_PQ4", "none of the kinds"),  # goes by distances, whatever it is asked
        ("NSG32", "none of the kinds"),  # may never end
        ("IDMap,Flat", "none of the kinds"),
        ("IVF8,SQ8,Refine(SQ4)", "none of the kinds"),  # what decides would be rough itself
    ],
)
def test_a_kind_that_the_engine_has_not_is_refused_by_its_name(factory: str, why: str) -> None:
    with pytest.raises(VectorIndexError, match=rf"'{re.escape(factory)}' .*{why}"):
        FaissIndex.build(VECTORS, factory)


# --- other kinds that FAISS has ----------------------------------------------------------------
@pytest.mark.parametrize(
    "factory",
    [
        "IVF64,Flat",
        "IVF64,SQ8,RFlat",
        "IVF64_HNSW8,RaBitQfs,RFlat",
        "PCA12,IVF32,SQ8",
        "RaBitQfs",
        "SQ8",
        "HNSW16_SQ8",
    ],
)
def test_what_only_proposes_is_decided_by_whole_vectors(
    clustered: tuple[Matrix, NDArray[np.int64]], tmp_path: Path, factory: str
) -> None:
    vectors = clustered[0]
    built = FaissIndex.build(Whole(vectors, lines=5000), factory)
    while recall(built, vectors[:200], vectors, None) < 0.99 and built.harder():
        pass
    built.save(tmp_path)
    index = FaissIndex.load(tmp_path)
    index.prefault()
    assert not index.exact
    assert index.effort == built.effort
    found, scores = index.search(vectors[:50], 10)
    assert recall(index, vectors[:200], vectors, None) > 0.99
    wanted = (vectors[:50, np.newaxis] * vectors[found]).sum(axis=2)
    np.testing.assert_allclose(scores, wanted, atol=1e-3)  # the looks' own, and not the codes'
    np.testing.assert_allclose(index.reconstruct(np.array([7, 3])), vectors[[7, 3]], atol=1e-3)


def test_who_asks_what_only_proposes_for_many_gets_as_many_and_the_right_ones(
    clustered: tuple[Matrix, NDArray[np.int64]],
) -> None:
    vectors = clustered[0]
    index = FaissIndex.build(vectors, "IVF64,RaBitQfs")
    while recall(index, vectors[:200], vectors, None) < 0.995 and index.harder():
        pass
    found, scores = index.search(vectors[:20], 500)
    assert all(len({*line}) == 500 and min(line) >= 0 for line in found.tolist())
    wanted = exact_search(vectors[:20], vectors, 500)[1]
    assert (scores >= wanted[:, -1:] - 1e-5).mean() > 0.99


def test_it_is_trained_on_vectors_from_all_over(
    clustered: tuple[Matrix, NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come sorted: on the first thousand alone, every list's centre would be that of one kind."""
    vectors, centre = clustered
    monkeypatch.setattr(faiss_engine, "TRAINED_ON", 1000)
    index = FaissIndex.build(Whole(vectors, lines=700), "IVF48,Flat")
    lists = faiss.extract_index_ivf(faiss.downcast_index(index._index.base_index))
    centres = lists.quantizer.reconstruct_n(0, lists.nlist)
    nearest = {int(centre[(vectors @ each).argmax()]) for each in centres}
    assert nearest == set(range(12))


def test_many_lists_are_trained_on_as_many_vectors_as_faiss_asks_for(
    clustered: tuple[Matrix, NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faiss_engine, "TRAINED_ON", 1000)
    FaissIndex.build(clustered[0], "IVF48,Flat")
    assert "training points" not in capfd.readouterr().err
    monkeypatch.setattr(faiss_engine, "TRAINED_A_LIST", 20)
    FaissIndex.build(clustered[0], "IVF48,Flat")
    assert "training points" in capfd.readouterr().err


def test_a_kind_that_needs_more_vectors_to_be_trained_on_says_so() -> None:
    with pytest.raises(TooFew, match=r"'IVF512,Flat' cannot be trained on 300 looks\. Number of training points"):
        FaissIndex.build(VECTORS, "IVF512,Flat")


@pytest.mark.parametrize(
    ("count", "memory", "kind"),
    [
        (2_000, None, FLAT),
        (19_999, 10**10, FLAT),
        (20_000, None, GRAPH),
        (1_000_000, 4 * 10**9, GRAPH),
        (1_000_000, 10**9, COMPACT_GRAPH),
    ],
)
def test_the_kind_is_chosen_by_size_and_memory(count: int, memory: int | None, kind: str) -> None:
    assert FaissIndex.choose(count, 384, memory) == kind


# --- going on after a kill ---------------------------------------------------------------------
def _build_until_killed(folder: str) -> None:
    """In a process of its own, which ends itself as a kill would when half of the vectors are in."""
    faiss_engine.KEEP_EVERY_S = 0.0

    def progress(done: int) -> None:
        if done >= 1500:
            os.kill(os.getpid(), signal.SIGKILL)

    Graph.build(Whole(_many(), lines=250), progress=progress, kept=Kept(Path(folder), "these"))


def _many() -> Matrix:
    return unit(np.random.default_rng(9).normal(size=(3000, 16)))


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of an index whose builder was killed."""
    folder = tmp_path / "unfinished"
    builder = multiprocessing.get_context("spawn").Process(target=_build_until_killed, args=(str(folder),))
    builder.start()
    builder.join(PATIENCE_S)
    assert builder.exitcode == -signal.SIGKILL
    assert [path.name for path in folder.glob("*.faiss")] == ["1250.faiss"]
    return folder


def _went_on_from(folder: Path, key: str = "these", factory: str = GRAPH) -> int:
    """How many vectors were in when building began again; the index is held against the oracle."""
    told: list[int] = []
    index = FaissIndex.build(Whole(_many(), lines=250), factory, told.append, Kept(folder, key))
    assert index.count == 3000
    queries = unit(np.random.default_rng(8).normal(size=(50, 16)))
    wanted = exact_search(queries, _many(), 10)[1]
    assert (index.search(queries, 10)[1] >= wanted[:, -1:] - 2e-3).mean() > 0.98
    np.testing.assert_allclose(index.chunk(1240, 1260), _many()[1240:1260], atol=1e-3)
    assert not folder.exists()
    return told[0] - 250


def test_a_killed_build_goes_on_where_it_was_kept(killed: Path) -> None:
    assert _went_on_from(killed) == 1250


def test_an_unfinished_index_of_other_vectors_or_another_kind_is_left(killed: Path) -> None:
    copies = [shutil.copytree(killed, killed.with_name(name)) for name in ("other", "kind")]
    assert _went_on_from(copies[0], key="others") == 0
    assert _went_on_from(copies[1], factory=COMPACT_GRAPH) == 0


def test_a_damaged_unfinished_index_is_left(killed: Path) -> None:
    path = killed / "1250.faiss"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    assert _went_on_from(killed) == 0


def test_where_nothing_can_be_kept_the_index_is_built_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_engine, "KEEP_EVERY_S", 0.0)
    (tmp_path / "file").write_text("in the way")
    index = Graph.build(Whole(_many(), lines=1000), kept=Kept(tmp_path / "file" / "folder", "these"))
    assert index.count == 3000
