"""Small pure functions over matrices of vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
"""(n, dim) float32, a vector a line."""
Rows = NDArray[np.int64]
"""(n,) int64, `Product.embedding_row` values."""
Digests = NDArray[np.uint8]
"""(n, 32) uint8, the SHA-256 of the pictures."""


class Vectors(Protocol):
    """A matrix that may be too large to be had at once."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def chunks(self, start: int = 0) -> Iterator[Matrix]:
        """All of it from some line on, some lines at a time, in order; again and again the same."""
        ...


@dataclass(frozen=True, eq=False)
class Whole:
    """One that is there."""

    matrix: Matrix
    lines: int = 65_536

    @property
    def shape(self) -> tuple[int, int]:
        return (len(self.matrix), int(self.matrix.shape[1]))

    def chunks(self, start: int = 0) -> Iterator[Matrix]:
        for at in range(start, len(self.matrix), self.lines):
            yield self.matrix[at : at + self.lines]


def in_chunks(vectors: Matrix | Vectors) -> Vectors:
    return Whole(vectors) if isinstance(vectors, np.ndarray) else vectors


def unit(vectors: NDArray[np.floating]) -> Matrix:
    """Each line of `vectors` (n, dim) at length 1, as a new float32 matrix; lines of zeros stay zeros."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    scaled: Matrix = vectors / lengths
    return scaled


def digest_matrix(hex_digests: list[str]) -> Digests:
    """The SHA-256 digests, given in hexadecimal, as a (n, 32) matrix of bytes."""
    return np.frombuffer(bytes.fromhex("".join(hex_digests)), dtype=np.uint8).reshape(-1, 32)


def find_rows(wanted: Rows, present: Rows) -> NDArray[np.int64]:
    """Where each of `wanted` (n,) last stands in `present` (m,); -1 where it does not. (n,) int64."""
    if not len(present):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(present, kind="stable")
    at = np.searchsorted(present, wanted, side="right", sorter=order) - 1
    found = order[np.maximum(at, 0)]
    return np.where((at >= 0) & (present[found] == wanted), found, -1)


def groups_of(digests: Digests) -> NDArray[np.int64]:
    """(n,) a number for each picture: the same for the same digest (n, 32)."""
    groups: NDArray[np.int64] = np.unique(digests, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return groups
