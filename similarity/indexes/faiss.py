"""FAISS, behind the contract; its habits end here (Douze et al., "The Faiss library", 2024)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from similarity.indexes.base import VectorIndex, VectorIndexError
from similarity.vectors import Matrix

# One query of a flat index is slower on several threads than on one, and a query before `fork` with several
# leaves their locks held in every child: gunicorn's workers would hang.
faiss.omp_set_num_threads(1)


class FaissIndex(VectorIndex):
    """An `IndexFlatIP`: exact inner products."""

    file_name = "faiss.index"

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: Matrix) -> Self:
        index = faiss.IndexFlatIP(int(vectors.shape[1]))
        index.add(np.ascontiguousarray(vectors, dtype=np.float32))
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
    def count(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    def reconstruct(self, positions: NDArray[np.int64]) -> Matrix:
        outside = (positions < 0) | (positions >= self.count)
        if outside.any():
            raise VectorIndexError(f"The index has no position {positions[outside][0]}.")
        vectors: Matrix = self._index.reconstruct_batch(np.ascontiguousarray(positions, dtype=np.int64))
        return vectors

    def _search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        params = None
        if among is not None:  # a bitmap is ready in no time, whatever its size
            inside = np.zeros(self.count, dtype=bool)
            inside[among] = True
            bitmap = np.packbits(inside, bitorder="little")
            selector = faiss.IDSelectorBitmap(self.count, faiss.swig_ptr(bitmap))
            params = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, positions = self._index.search(queries, k, params=params)
        return positions, scores
