"""The exact NumPy engine: the oracle that other engines are held against, and a choice where FAISS cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from similarity.indexes.base import FLAT, Kept, Progress, VectorIndex, VectorIndexError, exact_search, silently
from similarity.vectors import Matrix, Vectors, in_chunks


class ExactIndex(VectorIndex):
    file_name = "vectors.npy"

    def __init__(self, vectors: Matrix) -> None:
        self._vectors = vectors

    @classmethod
    def build(
        cls,
        vectors: Matrix | Vectors,
        factory: str = FLAT,
        progress: Progress = silently,
        kept: Kept | None = None,
    ) -> Self:
        if factory != FLAT:
            raise VectorIndexError(f"This engine looks at every vector ({FLAT}); it knows no '{factory}'.")
        given = in_chunks(vectors)
        whole = np.empty(given.shape, dtype=np.float32)
        done = 0
        for chunk in given.chunks():
            whole[done : done + len(chunk)] = chunk
            done += len(chunk)
            progress(done)
        return cls(whole)

    @classmethod
    def load(cls, folder: Path) -> Self:
        try:
            vectors = np.load(folder / cls.file_name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise VectorIndexError(f"{folder / cls.file_name} cannot be read: {error}") from error
        if vectors.ndim != 2 or vectors.dtype != np.float32:
            raise VectorIndexError(f"{folder / cls.file_name} is no matrix of float32.")
        return cls(vectors)

    def save(self, folder: Path) -> None:
        np.save(folder / self.file_name, self._vectors, allow_pickle=False)

    @property
    def count(self) -> int:
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        return int(self._vectors.shape[1])

    def reconstruct(self, positions: NDArray[np.int64]) -> Matrix:
        return np.array(self._vectors[positions], dtype=np.float32)

    def _search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if among is None:
            return exact_search(queries, self._vectors, k)
        among = np.sort(among)  # ties go to the smaller position
        positions, scores = exact_search(queries, self._vectors[among], k)
        return among[positions], scores
