"""What a build finds out about itself: which score is too low to show, which pictures are nearly the same, and how
much an approximate index loses far from the default mix. Pure NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from similarity import modes
from similarity.cells import Cells
from similarity.indexes import VectorIndex
from similarity.indexes.base import CHUNK, RECALL_AT
from similarity.looks import Layout
from similarity.mix import Mix
from similarity.planning import least_slack
from similarity.vectors import Matrix, unit

QUERIES = 256
"""Looks that cut-offs and recall are measured with."""
MANY, QUERIES_OF_MANY = 100_000, 128
"""Of more looks than that, fewer are asked with: each is held against all."""
FAR_QUERIES = 64
"""Of these, so many are also asked among what lies far from them; under the default mix, which nearly everybody asks
with, QUERIES."""
SHOWN = 12
"""The match, counted from the best, whose score decides what is still shown."""
ODD_SHARE = 0.02
"""The share of products whose matches are too far away to be shown down to that one."""
LEAST_LOOKS = 100
"""Of fewer products, the twelfth match says nothing of likeness."""
_BLOCK = 512
LEAST_RECALL = 0.99
MOST_KNOWN = 256
ECHO_SHARE = 0.02
"""The share of pictures saved anew that may pass for another picture."""


@dataclass(frozen=True)
class MixFacts:
    """Of one mix: the score below which matches are not shown, None where unknown; recall@10 of the index; the slack
    with which its cells are gone through (`planning.least_slack`), None where it has none.
    """

    mix: Mix
    cutoff: float | None
    recall: float
    slack: float | None = None


@dataclass(frozen=True)
class Calibration:
    """`near_duplicates`, by part: the least cosine of two looks of nearly the same picture; empty where unknown."""

    near_duplicates: Mapping[str, float]
    mixes: Sequence[MixFacts]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Of what `to_json` gave; of {}, one that knows nothing."""
        return cls(content.get("near_duplicates", {}), [MixFacts(**facts) for facts in content.get("mixes", ())])

    def cutoff(self, mix: Mix) -> float | None:
        """The score below which matches under this mix are not shown; None where it was not measured."""
        nearest, cosine = self._nearest(mix)
        return nearest.cutoff if nearest and cosine > 0.9999 else None

    def way_of(self, mix: Mix) -> tuple[bool, float | None]:
        """(whether the index alone loses too much under the mix, the slack of its cells), as measured nearest to it."""
        nearest, _ = self._nearest(mix)
        return (nearest.recall < LEAST_RECALL, nearest.slack) if nearest else (False, None)

    def _nearest(self, mix: Mix) -> tuple[MixFacts | None, float]:
        key = tuple(mix.items())
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:  # mixes are anybody's numbers
                self._known.clear()
            self._known[key] = self._find_nearest(mix)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[tuple[str, float], ...], tuple[MixFacts | None, float]]:
        return {}

    def _find_nearest(self, mix: Mix) -> tuple[MixFacts | None, float]:
        if not self.mixes:
            return None, 0.0
        names, directions = self._directions
        asked = np.array([mix.get(name, 0.0) for name in names])
        cosines = directions @ asked
        best = int(cosines.argmax())
        return self.mixes[best], float(cosines[best]) / math.hypot(*mix.values())

    @cached_property
    def _directions(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """The parts' names, and each mix as a direction (m, parts) of length 1."""
        names = tuple(sorted({name for facts in self.mixes for name in facts.mix}))
        weights = np.array([[facts.mix.get(name, 0.0) for name in names] for facts in self.mixes], dtype=np.float64)
        return names, weights / np.linalg.norm(weights, axis=1, keepdims=True)


def calibrate(
    groups: NDArray[np.int64],
    layout: Layout,
    index: VectorIndex,
    near_duplicates: Mapping[str, float],
    cells: Cells | None = None,
) -> Calibration:
    """Measure an index of looks of the pictures `groups` (n,), on every mix that pages offer."""
    if not index.count:
        return Calibration(near_duplicates, ())
    asked, many = sample_of(index.count), index.reconstruct(sample_of(index.count, QUERIES))
    looks = many[: len(asked)]
    measured, facts = [], []
    for mix in modes.grid(layout.default_mix):
        queries: Matrix = looks * layout.query_weights(mix)
        heard = queries.any(axis=1)
        if not heard.any():
            continue
        queries, own = queries[heard], groups[asked[heard]]
        cutoff = _cutoff(queries, own, index, groups) if index.count >= LEAST_LOOKS else None
        recall = 1.0 if index.exact else recall_of(index, queries, exact_tenth(queries, index))
        facts.append(MixFacts(dict(mix), cutoff, recall))
        far = many * layout.query_weights(mix) if mix == layout.default_mix else queries[:FAR_QUERIES]
        measured.append(far[far.any(axis=1)])
    slacks = least_slack(index, cells, measured) if cells is not None else [None] * len(facts)
    return Calibration(near_duplicates, [replace(each, slack=slack) for each, slack in zip(facts, slacks, strict=True)])


def least_alike(originals: Matrix, echoes: Matrix) -> float | None:
    """The cosine that nearly all pictures keep with themselves, saved anew: (n, dim) of pictures and of their echoes.

    None where there is nothing to compare.
    """
    if not len(originals):
        return None
    there = originals.any(axis=1) & echoes.any(axis=1)
    if not there.any():
        return None
    cosines = (unit(originals[there]) * unit(echoes[there])).sum(axis=1)
    return float(np.floor(1e4 * np.quantile(cosines, ECHO_SHARE)) / 1e4)


def near_groups(
    vectors: Mapping[str, Matrix], least: Mapping[str, float], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n,) the groups (n,) joined wherever two pictures are nearly the same: as alike as `least` in each space.

    `vectors`, by space, (n, dim). Looks at every pair.
    """
    names = np.unique(groups, return_inverse=True)[1].reshape(-1)
    parent = np.arange(names.max(initial=-1) + 1)

    def root(name: int) -> int:
        while parent[name] != name:
            name = int(parent[name])
        return name

    units = {name: unit(vectors[name]) for name in least}
    for start in range(0, len(names) if least else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        alike = np.logical_and.reduce([units[name][block] @ units[name].T >= cosine for name, cosine in least.items()])
        for at, other in zip(*np.nonzero(alike), strict=True):
            one, two = root(int(names[start + at])), root(int(names[other]))
            parent[max(one, two)] = min(one, two)
    return np.array([root(int(name)) for name in names], dtype=np.int64)


def sample_of(count: int, most: int = 0) -> NDArray[np.int64]:
    """Positions of the looks that are asked with, the same each time: `most`, or as many as calibrating takes."""
    return np.random.default_rng(0).permutation(count)[: most or (QUERIES if count <= MANY else QUERIES_OF_MANY)]


def exact_tenth(queries: Matrix, index: VectorIndex) -> NDArray[np.float32]:
    """(q,) the score of the tenth best of all its looks, or of the last where there are fewer."""
    return _kth_best(queries, index, min(RECALL_AT, index.count), lambda scores, chunk: scores)


def recall_of(index: VectorIndex, queries: Matrix, tenth: NDArray[np.float32]) -> float:
    """The share of the ten best that the index finds; equal scores count as found."""
    _, found = index.search(queries, min(RECALL_AT, index.count))
    return round(float((found >= tenth[:, np.newaxis] - 1e-5).mean()), 4)


def _cutoff(queries: Matrix, own: NDArray[np.int64], index: VectorIndex, groups: NDArray[np.int64]) -> float:
    """What the twelfth match of all but a few products reaches; copies of the picture asked with are none."""
    shown = _kth_best(
        queries,
        index,
        SHOWN,
        lambda scores, chunk: np.where(own[:, np.newaxis] == groups[chunk], np.float32(-np.inf), scores),
    )
    reached = shown[np.isfinite(shown)]
    return round(float(np.quantile(reached, ODD_SHARE)), 4) if len(reached) else 0.0


def _kth_best(
    queries: Matrix, index: VectorIndex, k: int, seen: Callable[[Matrix, slice], Matrix]
) -> NDArray[np.float32]:
    """(q,) the k-th largest of `seen(scores, chunk)` over all looks, a chunk of them in memory at a time."""
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, index.count, CHUNK):
        chunk = slice(start, min(start + CHUNK, index.count))
        scores = np.concatenate([best, seen(queries @ index.chunk(chunk.start, chunk.stop).T, chunk)], axis=1)
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
    kth: NDArray[np.float32] = best.min(axis=1)
    return kth
