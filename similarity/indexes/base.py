"""The contract every index engine keeps; `tests/similarity/test_indexes.py` is its proof."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from similarity.vectors import Matrix, Vectors

Progress = Callable[[int], object]
FLAT = "Flat"
"""The kind of every engine that looks at every vector."""
CHUNK = 16_384
"""Vectors that are looked at at once."""
RECALL_AT = 10
"""Of how many of the nearest it is measured what is found."""


def silently(done: int) -> None:
    """The progress that nobody is told."""


@dataclass(frozen=True)
class Kept:
    """Where an unfinished index is kept: a folder, which is there only while there is one, and the `key` of the vectors
    that it is made of."""

    folder: Path
    key: str


class VectorIndexError(Exception):
    """An engine refuses what it was asked or given; the message says why."""


class TooFew(VectorIndexError):
    """The kind that was asked for cannot be trained on so few vectors."""


class EngineAway(VectorIndexError):
    """The server that has the vectors does not answer."""


class VectorIndex(ABC):
    """An immutable set of vectors, known by their positions 0 … count-1, searched by inner product."""

    file_name: ClassVar[str]
    """What `save` writes into a build's folder."""
    sight_costs: ClassVar[int] = 20
    """One look more that a search is asked for takes as long as looking at so many."""
    building_threads: ClassVar[int] = os.cpu_count() or 1

    @classmethod
    def dotted_path(cls) -> str:
        """By which settings and manifests name this engine."""
        return f"{cls.__module__}.{cls.__qualname__}"

    @classmethod
    def choose(cls, count: int, dimension: int, memory_bytes: int | None) -> str:
        """The kind that suits so many vectors, and so much memory that it may take, where that is known."""
        return FLAT

    @classmethod
    @abstractmethod
    def build(
        cls, vectors: Matrix | Vectors, factory: str = ..., progress: Progress = ..., kept: Kept | None = ...
    ) -> Self:
        """Over (n, dimension) float32, n of 0 allowed; the matrix is not changed, and never had twice in memory.

        `factory` says which of the engine's kinds, in its own words. Raises VectorIndexError for one it has not, and
        TooFew for one that needs more vectors to be trained on.
        `progress` is told how many are in. Engines that take long keep what they have at intervals in `kept`, and go
        on from what lies there.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote there. Raises VectorIndexError where that cannot be read."""

    @abstractmethod
    def save(self, folder: Path) -> None: ...

    @classmethod  # noqa: B027
    def discard(cls, folder: Path) -> None:
        """Give back what `save` has noted in a folder that is about to go, where it lies elsewhere."""

    def forget(self) -> None:  # noqa: B027
        """Give back what lies elsewhere of an index that will not be saved."""

    def check(self) -> None:  # noqa: B027
        """Raises VectorIndexError where the index cannot answer at the moment."""

    @property
    def exact(self) -> bool:
        """Whether `search` always finds the nearest. Where it does not, `search_exactly` does."""
        return True

    @property
    def effort(self) -> int | None:
        """How hard an approximate engine searches, in its own measure; None for an exact one."""
        return None

    def harder(self) -> bool:
        """Search harder from now on; False where the engine cannot. What `save` writes remembers it."""
        return False

    @property
    @abstractmethod
    def count(self) -> int: ...

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @classmethod
    def centroids(cls, sample: Matrix, count: int) -> Matrix | None:
        """So many centres (count, dimension) that a sample (m, dimension) lies around; None where the engine has no
        way to find them."""
        return None

    def chunk(self, start: int, stop: int) -> Matrix:
        """The vectors at the positions from start to stop, which is left out."""
        return self.reconstruct(np.arange(start, stop))

    def prefault(self) -> None:  # noqa: B027 (most have nothing to do)
        """Have in memory what queries will read."""

    @abstractmethod
    def reconstruct(self, positions: NDArray[np.int64]) -> Matrix:
        """The vectors (n, dimension) at the positions (n,), as a new matrix."""

    def search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k nearest of each query: positions (q, m) and inner products (q, m), best first, m = min(k, count).

        With `among` (c,), distinct positions, only of those, and m = min(k, c).

        Raises VectorIndexError on a wrong dimension, on values that are no numbers, and on a query of zeros,
        which is equally near to everything. Positions are always those of vectors that exist.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise VectorIndexError(
                f"The index holds {self.dimension}-dimensional looks, the query has the shape {queries.shape}; "
                "run build_index if the model was changed."
            )
        if k < 1:
            raise VectorIndexError(f"k must be at least 1, not {k}.")
        lengths = np.einsum("qd,qd->q", queries, queries).tolist()  # neither numbers nor lengths escape this
        if not all(0 < length < math.inf for length in lengths):
            if all(map(math.isfinite, lengths)):
                raise VectorIndexError("The query is all zeros: nothing is nearer to it than anything else.")
            raise VectorIndexError("The query has values that are no numbers.")
        if among is not None and not ((among >= 0) & (among < self.count)).all():
            raise VectorIndexError("The search was narrowed to positions that the index does not have.")
        k = min(k, self.count if among is None else len(among))
        if not k or not len(queries):
            return np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        return self._search(np.ascontiguousarray(queries, dtype=np.float32), k, among)

    def search_exactly(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `search` for one query (dimension,), and without loss, at the price of looking at every vector."""
        if self.exact:
            return self.search(query[np.newaxis], k, among)
        everything = np.arange(self.count) if among is None else np.sort(among)
        k = min(k, len(everything))
        positions, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        for start in range(0, len(everything), CHUNK):
            chunk = everything[start : start + CHUNK]
            positions = np.concatenate([positions, chunk])
            scores = np.concatenate([scores, self.reconstruct(chunk) @ query])
            best = np.argsort(-scores, kind="stable")[:k]
            positions, scores = positions[best], scores[best]
        return positions[np.newaxis], scores[np.newaxis]

    @abstractmethod
    def _search(
        self, queries: Matrix, k: int, among: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """As `search`, with 1 ≤ k ≤ what there is and sound queries."""


def exact_search(queries: Matrix, vectors: Matrix, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k ≤ n largest inner products of each query (q, dim) with the vectors (n, dim), best first.

    Ties go to the smaller position.
    """
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return order.astype(np.int64), np.take_along_axis(scores, order, axis=1)
