"""Planning: which way to the nearest of those looks that may answer.

An index answers fast where every look may answer. Where only some may, what is fast and true depends on how many they
are, where they lie, and how far from them the question is:

- few are looked at one by one;
- of many, the graph's nearest are taken and the others among them left out, which is as true as the graph is, whatever
  the chosen ones have in common: as long as enough of them turn up;
- where too few do (a shoe asked among shirts), the cells of the build are gone through, the most promising first, until
  no other one promises anything better. A graph that is let pass over what may not answer never comes near such ones;
- a graph now and then loses its way and comes back with what lies somewhere else (a shoe's nearest are all shirts).
  What it found is worse then than something that is known to be there, and the cells are gone through as well.

Pure NumPy, over any engine. Source of the cells' order: the ball bound of metric trees (Omohundro, "Five balltree
construction algorithms", 1989), with a measured slack in place of the radius, which in many dimensions bounds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from similarity.cells import Cells
from similarity.indexes import VectorIndex
from similarity.vectors import Matrix

Positions = NDArray[np.int64]

FEW = 16_384
"""So many looks, and all that lie side by side up to MANY, may be looked at one by one: a few milliseconds."""
MANY = 100_000
MOST_SIGHT = 512
"""The graph is asked for no more than this; asked for more, it is slower than the cells."""
SPARE = 4.0
"""Standard deviations by which fewer of the chosen may turn up among the graph's nearest than their share lets expect,
before it counts as too few."""
FIRST_LOOKS = 2048
"""Looks in the first cells that are gone through; each further round has twice as many."""
UNMEASURED_SLACK = 1.0
LOST_BY = 1e-3
"""What a score may be below one that is known to be there; compact indexes round."""
SLACK_MARGIN = 1.1
"""How much more slack a search takes than was measured, by the 2,560 nearest looks of a sample. Samples of that size
differ by less; of a quarter of it, one was a fifth too small, and .019 of the nearest of 300,000 looks were lost."""
_CHUNK = 4096
MEASURED_BY, SLACK_SHARE = 10, 0.997
"""Of so many nearest looks, the share that the slack must not lose."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Which of a build's positions may answer: `inside` (count,). `cells` are the build's."""

    inside: NDArray[np.bool_]
    cells: Cells | None = None

    @cached_property
    def count(self) -> int:
        return int(np.count_nonzero(self.inside))

    @property
    def share(self) -> float:
        return self.count / max(1, len(self.inside))

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first and one past the last. There must be some."""
        return int(self.inside.argmax()), len(self.inside) - int(self.inside[::-1].argmax())

    @property
    def side_by_side(self) -> bool:
        first, last = self.span
        return last - first == self.count

    @property
    def positions(self) -> Positions:
        """Ascending."""
        return np.flatnonzero(self.inside)

    @cached_property
    def few(self) -> Positions:
        """`positions`, kept: for selections that are looked at one by one again and again."""
        return self.positions

    @cached_property
    def in_cells(self) -> NDArray[np.int64]:
        """(c,) how many of each cell."""
        assert self.cells is not None
        counted: NDArray[np.int64] = np.add.reduceat(self.inside, self.cells.starts[:-1], dtype=np.int64)
        return counted


@dataclass(frozen=True)
class Plan:
    """How the nearest were looked for. `how`: graph, graph-then-filter, cells, one-by-one, range or everything.

    `selected` of `of` looks might answer, and `looked_at` were compared one by one. `instead_of` was tried before and
    found too few.
    """

    how: str
    why: str
    selected: int
    of: int
    looked_at: int = 0
    instead_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self)}


@dataclass(frozen=True, eq=False)
class Found:
    """The nearest, best first: `positions` (n,), `scores` (n,)."""

    positions: Positions
    scores: NDArray[np.float32]
    plan: Plan


def search(
    index: VectorIndex,
    cells: Cells | None,
    query: NDArray[np.float32],
    k: int,
    selection: Selection | None = None,
    *,
    exactly: bool = False,
    slack: float | None = None,
    known: float | None = None,
) -> Found:
    """The k nearest to a query (dimension,) of all looks, or of the selected ones.

    `exactly`: also where the graph alone would lose too much. `slack`: what was measured (`least_slack`) for such
    queries; None where it was not. `known`: the score of a look that is in the index, such as that of the product asked
    with. Raises VectorIndexError as the index does.
    """
    everything = index.count
    if selection is None or selection.count == everything:
        return _unfiltered(index, cells, query, k, exactly, slack, known)
    chosen = selection.count
    if not chosen:
        nothing = Plan("one-by-one", "nothing is selected", 0, everything)
        return Found(np.empty(0, np.int64), np.empty(0, np.float32), nothing)
    k = min(k, chosen)
    sight = _sight(k, selection.share)
    if index.exact:
        return _one_by_one(index, query, k, selection, "the index is exact")
    if chosen <= FEW and (exactly or sight > MOST_SIGHT or chosen <= index.sight_costs * sight):
        return _one_by_one(index, query, k, selection, "few are selected")
    if exactly:
        return _by_cells(index, cells, query, k, selection, slack, "the graph loses too much under this mix")
    if sight > MOST_SIGHT:
        if chosen <= MANY and selection.side_by_side:
            return _one_by_one(index, query, k, selection, "they lie side by side")
        why = f"one in {1 / selection.share:.0f} is selected, too few for the graph"
        return _by_cells(index, cells, query, k, selection, slack, why)
    positions, scores = index.search(query[np.newaxis], min(sight, everything))
    found = _selected_among(positions[0], scores[0], k, selection, everything)
    if _is_lost(cells, query, scores[0], known):
        why = _LOST
    elif len(found.positions) == k:
        return found
    else:
        why = f"of the {sight} nearest only {len(found.positions)} are selected: the question lies outside of them"
    if chosen <= FEW or (chosen <= MANY and selection.side_by_side):
        second = _one_by_one(index, query, k, selection, why)
    else:
        second = _by_cells(index, cells, query, k, selection, slack, why)
    return replace(second, plan=replace(second.plan, instead_of=found.plan.how))


def _unfiltered(
    index: VectorIndex,
    cells: Cells | None,
    query: NDArray[np.float32],
    k: int,
    exactly: bool,
    slack: float | None,
    known: float | None,
) -> Found:
    if exactly and not index.exact:
        return _all_without_the_graph(index, cells, query, k, slack, "the graph loses too much under this mix")
    positions, scores = index.search(query[np.newaxis], k)
    plan = _plan_of_all(index.exact, index.count)
    if not index.exact and _is_lost(cells, query, scores[0], known):
        second = _all_without_the_graph(index, cells, query, k, slack, _LOST)
        return replace(second, plan=replace(second.plan, instead_of=plan.how))
    return Found(positions[0], scores[0], plan)


def _all_without_the_graph(
    index: VectorIndex, cells: Cells | None, query: NDArray[np.float32], k: int, slack: float | None, why: str
) -> Found:
    everything = index.count
    if cells is not None and slack is not None:
        return _by_cells(index, cells, query, min(k, everything), None, slack, why)
    positions, scores = index.search_exactly(query, k)
    return Found(positions[0], scores[0], Plan("everything", why, everything, everything, everything))


_LOST = "the graph lost its way: what it found is worse than what is known to be there"


def _is_lost(cells: Cells | None, query: NDArray[np.float32], scores: NDArray[np.float32], known: float | None) -> bool:
    """Whether the nearest that the graph found is worse than one that there is: what is `known`, or the best look of
    the cell whose mean is nearest, which is no worse than that mean."""
    if known is None:
        if cells is None or not len(cells.centroids):
            return False
        known = float((cells.centroids @ query).max())
    return not len(scores) or float(scores[0]) < known - LOST_BY


@lru_cache(maxsize=8)
def _plan_of_all(exact: bool, everything: int) -> Plan:
    if exact:
        return Plan("everything", "the index is exact", everything, everything, everything)
    return Plan("graph", "every look may answer", everything, everything)


def _sight(k: int, share: float) -> int:
    """How many of the nearest hold k of the selected ones, if these are strewn among the others."""
    return math.ceil((k + SPARE * math.sqrt(k * (1 - share))) / share)


def _selected_among(
    positions: Positions, scores: NDArray[np.float32], k: int, selection: Selection, everything: int
) -> Found:
    """The best k of the graph's nearest that are selected, if there are so many."""
    wanted = np.flatnonzero(selection.inside[positions])[:k]
    why = f"enough of the {len(positions)} nearest are selected"
    return Found(positions[wanted], scores[wanted], Plan("graph-then-filter", why, selection.count, everything))


def _one_by_one(index: VectorIndex, query: NDArray[np.float32], k: int, selection: Selection, why: str) -> Found:
    among = selection.few if selection.count <= FEW else selection.positions
    positions, scores = index.search(query[np.newaxis], k, among)
    how = "range" if selection.side_by_side else "one-by-one"
    return Found(positions[0], scores[0], Plan(how, why, selection.count, index.count, selection.count))


def _by_cells(
    index: VectorIndex,
    cells: Cells | None,
    query: NDArray[np.float32],
    k: int,
    selection: Selection | None,
    slack: float | None,
    why: str,
) -> Found:
    """Cell by cell, as long as one may hold something better than the k-th best so far."""
    if cells is None:
        assert selection is not None
        return _one_by_one(index, query, k, selection, f"{why}; the build has no cells")
    sizes = np.diff(cells.starts) if selection is None else selection.in_cells
    there = np.flatnonzero(sizes)
    promised = _promise(cells, query, UNMEASURED_SLACK if slack is None else SLACK_MARGIN * slack)[there]
    order = np.argsort(-promised, kind="stable")
    there, promised = there[order], promised[order]
    reached = np.cumsum(sizes[there])
    best, scores = np.empty(0, np.int64), np.empty(0, np.float32)
    done, budget, looked_at = 0, FIRST_LOOKS, 0
    while done < len(there):
        end = min(len(there), int(np.searchsorted(reached, budget)) + 1)
        if len(best) == k:
            end = min(end, int(np.searchsorted(-promised, -scores[-1], side="right")))
        if end <= done:
            break
        among = _positions_in(cells, np.sort(there[done:end]), selection)
        found, found_scores = index.search(query[np.newaxis], min(k, len(among)), among)
        best, scores = np.concatenate([best, found[0]]), np.concatenate([scores, found_scores[0]])
        kept = np.argsort(-scores, kind="stable")[:k]
        best, scores = best[kept], scores[kept]
        looked_at, done, budget = looked_at + len(among), end, 2 * max(budget, int(reached[end - 1]))
    selected = index.count if selection is None else selection.count
    return Found(best, scores, Plan("cells", why, selected, index.count, looked_at))


def _promise(cells: Cells, queries: Matrix, slack: float) -> NDArray[np.float32]:
    """(…, c) the score that a cell may hold: its centroid's, and something for how far its looks are spread."""
    lengths = np.linalg.norm(queries, axis=-1, keepdims=True)
    promise: NDArray[np.float32] = queries @ cells.centroids.T + np.float32(slack) * lengths * cells.spreads
    return promise


def _positions_in(cells: Cells, some: NDArray[np.int64], selection: Selection | None) -> Positions:
    """Ascending, the selected positions of the cells `some`, ascending too."""
    starts, sizes = cells.starts[some], cells.starts[some + 1] - cells.starts[some]
    ends = np.cumsum(sizes)
    positions: Positions = np.arange(ends[-1]) + np.repeat(starts - (ends - sizes), sizes)
    return positions if selection is None else positions[selection.inside[positions]]


def least_slack(index: VectorIndex, cells: Cells, queries: Sequence[Matrix]) -> list[float | None]:
    """For each set of queries (q, dimension), the slack with which they find what they should far from where they lie.

    Each is asked among the half of the cells that lie farthest from it: the hardest selection there is. A cell is gone
    through in any case where it promises as much as the last of the ten nearest scores, so that the slack which each of
    the ten needs can be told without a search. None for a set without queries.
    """
    asked = np.concatenate(list(queries))
    if not len(asked) or not index.count:
        return [None for _ in queries]
    near = _promise(cells, asked, 0.0)
    sizes = np.diff(cells.starts)
    order = np.argsort(near, axis=1, kind="stable")
    reached = np.cumsum(sizes[order], axis=1)
    far = np.empty(near.shape, dtype=bool)
    np.put_along_axis(far, order, reached <= max(index.count // 2, int(reached[:, 0].max())), axis=1)
    cell_of = np.repeat(np.arange(len(sizes)), sizes)
    best = np.full((len(asked), MEASURED_BY), -np.inf, dtype=np.float32)
    at = np.zeros((len(asked), MEASURED_BY), dtype=np.int64)
    for start in range(0, index.count, _CHUNK):
        positions = np.arange(start, min(start + _CHUNK, index.count))
        scores = asked @ index.chunk(start, start + len(positions)).T
        scores[~far[:, cell_of[positions]]] = -np.inf
        scores = np.concatenate([best, scores], axis=1)
        places = np.concatenate([at, np.broadcast_to(positions, (len(asked), len(positions)))], axis=1)
        kept = np.argpartition(-scores, MEASURED_BY - 1, axis=1)[:, :MEASURED_BY]
        best, at = np.take_along_axis(scores, kept, axis=1), np.take_along_axis(places, kept, axis=1)
    cell = cell_of[at]
    least = best.min(axis=1, initial=np.inf, where=np.isfinite(best), keepdims=True)
    room = np.linalg.norm(asked, axis=1, keepdims=True) * cells.spreads[cell]
    lacking = least - np.take_along_axis(near, cell, axis=1)
    needed = np.where(np.isfinite(best) & (room > 0), np.maximum(0, lacking) / np.where(room > 0, room, 1), 0)
    ends = np.cumsum([len(each) for each in queries])
    return [
        round(float(np.quantile(needed[end - len(each) : end], SLACK_SHARE)), 3) if len(each) else None
        for each, end in zip(queries, ends, strict=True)
    ]
