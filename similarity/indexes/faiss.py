"""FAISS, behind the contract; its habits end here (Douze et al., "The Faiss library", 2024)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from similarity.indexes.base import FLAT, VectorIndex, VectorIndexError
from similarity.vectors import Matrix

# One query of a flat index is slower on several threads than on one, and a query before `fork` with several
# leaves their locks held in every child: gunicorn's workers would hang.
faiss.omp_set_num_threads(1)

GRAPH, COMPACT_GRAPH = "HNSW32,Flat", "HNSW32_SQfp16"
"""Factory strings (FAISS' wiki, "The index factory"): a graph of neighbours (Malkov and
Yashunin, 2016) over whole vectors; one over vectors of half precision."""
GRAPH_FROM = 20_000
"""Below that, looking at every vector takes about a millisecond."""
LINKS_BYTES = 272
"""What a graph of 32 links adds to a vector: twice as many links of 4 bytes on the lowest level, and their lists."""
MEMORY_SHARE = 0.5
"""Of the memory that is there, what an index may take: two workers share a machine with everything else."""
EF_CONSTRUCTION = 100
FIRST_EFFORT, MOST_EFFORT = 64, 512
"""How many of the nearest a search of a graph keeps in sight (`efSearch`)."""
NARROW_SHARE, NARROW_ROWS = 0.02, 4096
"""Where no larger share, or no more of them, are asked for, looking at each is as fast as the graph, and certain."""
SPARE, MOST_SIGHT = 2.0, 1024
"""A graph that is narrowed is asked for so many times what the share lets expect, as long as these are no more."""


class FaissIndex(VectorIndex):
    """Inner products: exact, or by a graph, as the factory string says."""

    file_name = "faiss.index"

    def __init__(self, index: Any) -> None:
        self._index = index
        graph = isinstance(index, faiss.IndexHNSW)
        self._storage = faiss.downcast_index(index.storage) if graph else index
        self._is_graph = graph

    @classmethod
    def choose(cls, count: int, dimension: int, memory_bytes: int | None) -> str:
        if count < GRAPH_FROM:
            return FLAT
        needed = count * (4 * dimension + LINKS_BYTES)
        return GRAPH if memory_bytes is None or needed <= MEMORY_SHARE * memory_bytes else COMPACT_GRAPH

    @classmethod
    def build(cls, vectors: Matrix, factory: str = FLAT) -> Self:
        try:
            index = faiss.index_factory(int(vectors.shape[1]), factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise VectorIndexError(f"'{factory}' is no factory string of FAISS.") from error
        flat = isinstance(index, faiss.IndexFlat)
        if not flat and not isinstance(index, (faiss.IndexHNSWFlat, faiss.IndexHNSWSQ)):
            raise VectorIndexError(f"'{factory}' is neither {FLAT} nor a graph (as {GRAPH}).")
        given = np.ascontiguousarray(vectors, dtype=np.float32)
        if not flat:
            index.hnsw.efConstruction, index.hnsw.efSearch = EF_CONSTRUCTION, FIRST_EFFORT  # type: ignore[attr-defined]
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(cls.building_threads)
        try:
            if len(given) and not index.is_trained:
                index.train(given)
            index.add(given)
        finally:
            faiss.omp_set_num_threads(threads)
        return cls(index)

    @classmethod
    def load(cls, folder: Path) -> Self:
        path = folder / cls.file_name
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:  # FAISS throws one kind for all, with its own source lines in it
            raise VectorIndexError(f"FAISS cannot read {path}.") from error
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise VectorIndexError(f"{path} does not compare by inner product.")
        return cls(index)

    def save(self, folder: Path) -> None:
        path = folder / self.file_name
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise VectorIndexError(f"{path} cannot be written; is the disk full?") from error

    @property
    def exact(self) -> bool:
        return not self._is_graph

    @property
    def count(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    @property
    def effort(self) -> int | None:
        return int(self._index.hnsw.efSearch) if self._is_graph else None

    def harder(self) -> bool:
        if not self._is_graph or self._index.hnsw.efSearch >= MOST_EFFORT:
            return False
        self._index.hnsw.efSearch *= 2
        return True

    def reconstruct(self, positions: NDArray[np.int64]) -> Matrix:
        outside = (positions < 0) | (positions >= self.count)
        if outside.any():
            raise VectorIndexError(f"The index has no position {positions[outside][0]}.")
        vectors: Matrix = self._storage.reconstruct_batch(np.ascontiguousarray(positions, dtype=np.int64))
        return vectors

    def search_exactly(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if not self._is_graph:
            return super().search_exactly(query, k, among)
        # The graph's own vectors, one after another, where they lie.
        return FaissIndex(self._storage).search(query[np.newaxis], k, among)

    def _search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if among is None:
            return self._checked(queries, k, *self._ask(self._index, queries, k, None, self._effort(k)))
        if not self._is_graph or len(among) <= max(NARROW_ROWS, NARROW_SHARE * self.count):
            return self._ask(self._storage, queries, k, among, None)
        return self._among_many(queries, k, among)

    def _effort(self, k: int) -> int | None:
        return max(int(self._index.hnsw.efSearch), k + k // 4) if self._is_graph else None

    def _checked(
        self, queries: Matrix, k: int, positions: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """A graph may not reach so many; whoever gets too few is answered by looking at all."""
        short = (positions < 0).any(axis=1)
        if short.any():
            positions[short], scores[short] = self._ask(self._storage, queries[short], k, None, None)
        return positions, scores

    def _among_many(
        self, queries: Matrix, k: int, among: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The best of all, as far as the graph sees, of which those asked for are taken; where these are too few, each
        of them is looked at.

        What is taken so is the best of those asked for, whatever they have in common. A graph that passes over the
        others as it goes (FAISS' selectors) may never come near them: asked for a shoe among shirts, it answers with
        whatever shirts it stumbles on.
        """
        sight = int(k * SPARE * self.count / len(among)) + 1
        if sight > MOST_SIGHT:
            return self._ask(self._storage, queries, k, among, None)
        inside = np.zeros(self.count + 1, dtype=bool)  # the last one stands for the graph's "no more"
        inside[among] = True
        seen, scores = self._ask(self._index, queries, min(sight, self.count), None, self._effort(sight))
        wanted = inside[seen]
        positions, best = np.full((len(queries), k), -1, np.int64), np.empty((len(queries), k), np.float32)
        for line in np.flatnonzero(wanted.sum(axis=1) >= k).tolist():
            first = np.flatnonzero(wanted[line])[:k]
            positions[line], best[line] = seen[line, first], scores[line, first]
        lost = positions[:, 0] < 0
        if lost.any():
            positions[lost], best[lost] = self._ask(self._storage, queries[lost], k, among, None)
        return positions, best

    def _ask(
        self, index: Any, queries: Matrix, k: int, among: NDArray[np.int64] | None, effort: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        options: dict[str, Any] = {}
        if among is not None:
            if effort is None and len(among) <= NARROW_ROWS:
                ids = np.sort(among)
                options["sel"] = faiss.IDSelectorArray(ids)  # reads these and no others
            else:  # a bitmap is ready in no time, whatever its size
                inside = np.zeros(self.count, dtype=bool)
                inside[among] = True
                bitmap = np.packbits(inside, bitorder="little")
                options["sel"] = faiss.IDSelectorBitmap(self.count, faiss.swig_ptr(bitmap))
        if effort is not None:
            params = faiss.SearchParametersHNSW(efSearch=effort, **options)  # type: ignore[attr-defined]
        else:
            params = faiss.SearchParameters(**options) if options else None
        scores, positions = index.search(queries, k, params=params)
        return positions, scores
