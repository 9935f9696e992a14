"""Cells: the looks of a build that lie side by side and are alike.

A build's looks stand in the order of their labels, and within those of the same labels in that of the centre that is
nearest to them. So what a filter asks for lies together, and so does what is alike within it: a run of equal labels and
centre is a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from similarity.indexes import VectorIndex
from similarity.indexes.base import CHUNK
from similarity.vectors import Matrix, Vectors

MOST_CENTRES = 2048
PER_CENTRE = 48
"""Looks of a sample for each centre that is sought among them."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Cell j holds the positions starts[j] to starts[j + 1], of all c cells every position once.

    `starts` (c + 1,) int64; `centroids` (c, dimension) the mean look of each; `spreads` (c,) float32 how far its looks
    are from that, as the root of the mean square.
    """

    starts: NDArray[np.int64]
    centroids: Matrix
    spreads: NDArray[np.float32]

    @classmethod
    def of(cls, index: VectorIndex, starts: NDArray[np.int64]) -> Cells:
        """Those of an index whose cells begin there."""
        count = len(starts) - 1
        sums = np.zeros((count, index.dimension))
        squares = np.zeros(count)
        for start in range(0, index.count, CHUNK):
            looks = index.chunk(start, min(start + CHUNK, index.count))
            first, last = np.searchsorted(starts, [start, start + len(looks) - 1], side="right") - 1
            edges = np.maximum(starts[first : last + 1] - start, 0)
            sums[first : last + 1] += np.add.reduceat(looks, edges, axis=0)
            squares[first : last + 1] += np.add.reduceat(np.einsum("nd,nd->n", looks, looks), edges)
        sizes = np.maximum(1, np.diff(starts))
        centroids = sums / sizes[:, np.newaxis]
        spreads = np.sqrt(np.maximum(0, squares / sizes - (centroids**2).sum(axis=1)))
        return cls(starts, centroids.astype(np.float32), spreads.astype(np.float32))


def centres_of(engine: type[VectorIndex], sample: Matrix, count: int) -> Matrix | None:
    """Centres that `count` looks, of which this is a sample, lie around; None where there are none to be found."""
    wanted = min(MOST_CENTRES, math.isqrt(count), len(sample) // PER_CENTRE)
    return engine.centroids(sample, wanted) if wanted > 1 else None


def nearest_centres(looks: Vectors, centres: Matrix) -> NDArray[np.int32]:
    """(n,) the centre that is nearest to each of the looks (n, dimension)."""
    found = np.empty(looks.shape[0], dtype=np.int32)
    half_squares = (centres**2).sum(axis=1) / 2
    done = 0
    for chunk in looks.chunks():
        for start in range(0, len(chunk), CHUNK):
            some = chunk[start : start + CHUNK]
            found[done : done + len(some)] = (some @ centres.T - half_squares).argmax(axis=1)
            done += len(some)
    return found


def in_order(
    keys: Sequence[NDArray[np.integer]], rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(the order (n,) by these keys (n,), the first one first, and by row; where in it a run of equal keys begins)."""
    order = np.lexsort((rows, *reversed(keys)))
    changes = np.zeros(len(rows), dtype=bool)
    changes[:1] = True
    for key in keys:
        ordered = key[order]
        changes[1:] |= ordered[1:] != ordered[:-1]
    return order, np.append(np.flatnonzero(changes), len(rows)).astype(np.int64)
