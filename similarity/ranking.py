"""Rankings and how good they are, by labels: leave-one-out neighbours, precision, nDCG and mean average precision at k.

Pure NumPy. Positions -1 stand for "no more neighbours", label codes -1 for "no label".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from similarity.vectors import Matrix

BLOCK = 512

Positions = NDArray[np.int64]
"""int64: positions of products, or codes of their labels."""


@dataclass(frozen=True)
class Scores:
    """Means over `queries` queries; `left_out` had no label or no neighbour to judge by.

    `p_at_1` and `p_at_k`: shares of neighbours that bear the query's label. `ndcg_at_k`: the same with a rank's weight
    falling as 1 / log2(rank + 1) (Järvelin and Kekäläinen, 2002), against the best order that the products allow.
    `map_at_k`: mean of the precision at every right neighbour's rank, against the same.
    """

    p_at_1: float | None
    p_at_k: float | None
    ndcg_at_k: float | None
    map_at_k: float | None
    queries: int
    left_out: int


def label_codes(labels: Mapping[str, Sequence[str]], names: Sequence[str]) -> NDArray[np.int64]:
    """(n,) a number for each combination of these labels, from 0 in order of appearance; -1 where one is empty."""
    codes: dict[tuple[str, ...], int] = {}
    combinations = zip(*(labels[name] for name in names), strict=True)
    return np.array([codes.setdefault(each, len(codes)) if all(each) else -1 for each in combinations], dtype=np.int64)


def leave_one_out(
    queries: Matrix, looks: Matrix, same_picture: Positions, k: int, asked: Positions | None = None
) -> Positions:
    """The k nearest of products among the others: (m, k) positions, -1 where there are no more.

    `queries` and `looks` (n, dim) belong to the same products line by line; two products of one
    `same_picture` group (n,) never count as each other's match. `asked` (m,) are the positions of those to find
    neighbours for; None: all n. Of equal scores, the earlier position comes first.
    """
    asked = np.arange(len(looks)) if asked is None else asked
    neighbours = np.full((len(asked), k), -1, dtype=np.int64)
    for start in range(0, len(asked), BLOCK):
        block = asked[start : start + BLOCK]
        scores = queries[block] @ looks.T
        scores[same_picture[block, np.newaxis] == same_picture[np.newaxis]] = -np.inf
        order = _best(scores, k)
        reachable = np.take_along_axis(scores, order, axis=1) > -np.inf
        neighbours[start : start + len(block), : order.shape[1]] = np.where(reachable, order, -1)
    return neighbours


def _best(scores: NDArray[np.float32], k: int) -> Positions:
    """Positions (m, min(k, n)) of the highest of scores (m, n), as a stable sort of whole lines would give them.

    Lines are only partitioned. Which of several equal scores a partition takes is chance, so lines where more than k
    reach the k-th score are sorted after all.
    """
    if k >= scores.shape[1]:
        return np.argsort(-scores, axis=1, kind="stable")
    best = np.sort(np.argpartition(scores, -k, axis=1)[:, -k:], axis=1)
    found = np.take_along_axis(scores, best, axis=1)
    tied = np.flatnonzero((scores >= found.min(axis=1, keepdims=True)).sum(axis=1) > k)
    best = np.take_along_axis(best, np.argsort(-found, axis=1, kind="stable"), axis=1)
    best[tied] = np.argsort(-scores[tied], axis=1, kind="stable")[:, :k]
    return best


def rights(
    neighbours: Positions, codes: Positions, asked: Positions | None = None
) -> tuple[NDArray[np.bool_], Positions]:
    """(whether each neighbour bears its query's label (j, k), lines (j,) of the queries that can be judged).

    Line i of `neighbours` (m, k) is of the product at `asked[i]`; None: at i. Queries without label are left out.
    Neighbours without label count as wrong: the reader asked for that label.
    """
    if not len(codes):
        return np.zeros((0, neighbours.shape[1]), dtype=bool), np.empty(0, np.int64)
    own = codes if asked is None else codes[asked]
    judged = np.flatnonzero((own >= 0) & (neighbours[:, 0] >= 0))
    found = neighbours[judged]
    return (codes[found] == own[judged, np.newaxis]) & (found >= 0), judged


def shares_right(neighbours: Positions, codes: Positions, asked: Positions | None = None) -> NDArray[np.float64]:
    """The share of right neighbours (j,) of each query that can be judged."""
    right, judged = rights(neighbours, codes, asked)
    shares: NDArray[np.float64] = right.sum(axis=1) / np.maximum(1, (neighbours[judged] >= 0).sum(axis=1))
    return shares


def precision_curve(neighbours: Positions, codes: Positions, asked: Positions | None = None) -> list[float] | None:
    """Mean precision at 1, 2, …, k of the queries that can be judged; None where there is none."""
    right, judged = rights(neighbours, codes, asked)
    if not len(judged):
        return None
    there = np.maximum(1, np.cumsum(neighbours[judged] >= 0, axis=1))
    return [_rounded(value) for value in (np.cumsum(right, axis=1) / there).mean(axis=0)]


def scores_of(
    neighbours: Positions, codes: Positions, same_picture: Positions, asked: Positions | None = None
) -> Scores:
    """How good neighbours (m, k) are by labels (n,), where products of one `same_picture` group cannot be found."""
    right, judged = rights(neighbours, codes, asked)
    if not len(judged):
        return Scores(None, None, None, None, 0, len(neighbours))
    k = neighbours.shape[1]
    there = np.minimum(k, reachable_rights(codes, same_picture)[judged if asked is None else asked[judged]])
    weights = 1 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0], np.cumsum(weights)])[there]
    ranks = np.arange(1, k + 1)
    precisions = np.cumsum(right, axis=1) / ranks
    some = there > 0  # a query that nothing could be right for is wrong, whatever stands there
    ndcg = np.where(some, (right * weights).sum(axis=1) / np.where(some, best, 1), 0)
    average = np.where(some, (right * precisions).sum(axis=1) / np.maximum(1, there), 0)
    return Scores(
        p_at_1=_rounded(right[:, 0].mean()),
        p_at_k=_rounded(shares_right(neighbours, codes, asked).mean()),
        ndcg_at_k=_rounded(ndcg.mean()),
        map_at_k=_rounded(average.mean()),
        queries=len(judged),
        left_out=len(neighbours) - len(judged),
    )


def reachable_rights(codes: Positions, same_picture: Positions) -> Positions:
    """(n,) how many products of another picture bear each product's label."""
    of_label = np.bincount(codes + 1)[codes + 1]
    pairs = np.stack([codes, same_picture], axis=1)
    _, at, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    reachable: Positions = of_label - counts[at.reshape(-1)]
    return reachable


def _rounded(value: float) -> float:
    return round(float(value), 4)
