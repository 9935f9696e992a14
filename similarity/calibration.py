"""What a build finds out about itself: which score is too low to show, which pictures are nearly the same, and how
much an approximate index loses far from the default mix. Pure NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from similarity import modes
from similarity.indexes import VectorIndex
from similarity.looks import Layout
from similarity.mix import Mix
from similarity.vectors import Matrix, unit

QUERIES = 256
"""Looks that cut-offs and recall are measured with."""
MANY, QUERIES_OF_MANY = 100_000, 128
"""Of more looks than that, fewer are asked with: each is held against all."""
_CHUNK = 65_536
SHOWN = 12
"""The match, counted from the best, whose score decides what is still shown."""
ODD_SHARE = 0.02
"""The share of products whose matches are too far away to be shown down to that one."""
LEAST_LOOKS = 100
"""Of fewer products, the twelfth match says nothing of likeness."""
_BLOCK = 512
RECALL_AT = 10
LEAST_RECALL = 0.99
ECHO_SHARE = 0.02
"""The share of pictures saved anew that may pass for another picture."""


@dataclass(frozen=True)
class MixFacts:
    """Of one mix: the score below which matches are not shown, None where unknown; recall@10 of the index."""

    mix: Mix
    cutoff: float | None
    recall: float


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
        nearest = self._nearest(mix)
        return nearest.cutoff if nearest and _angle_cosine(nearest.mix, mix) > 0.9999 else None

    def is_exact_needed(self, mix: Mix) -> bool:
        """Whether the index loses too much under the mix: below recall .99 where it was measured nearest to it."""
        nearest = self._nearest(mix)
        return nearest is not None and nearest.recall < LEAST_RECALL

    def _nearest(self, mix: Mix) -> MixFacts | None:
        return max(self.mixes, key=lambda facts: _angle_cosine(facts.mix, mix), default=None)


def calibrate(
    looks: Matrix, groups: NDArray[np.int64], layout: Layout, index: VectorIndex, near_duplicates: Mapping[str, float]
) -> Calibration:
    """Measure looks (n, dimension), of the pictures `groups` (n,), in their index, on every mix that pages offer."""
    if not len(looks):
        return Calibration(near_duplicates, ())
    asked = sample_of(len(looks))
    facts = []
    for mix in modes.grid(layout.default_mix):
        queries: Matrix = looks[asked] * layout.query_weights(mix)
        heard = queries.any(axis=1)
        if not heard.any():
            continue
        own = groups[asked[heard]]
        cutoff = _cutoff(queries[heard], own, looks, groups) if len(looks) >= LEAST_LOOKS else None
        recall = 1.0 if index.exact else recall_of(index, queries[heard], exact_tenth(queries[heard], looks))
        facts.append(MixFacts(dict(mix), cutoff, recall))
    return Calibration(near_duplicates, facts)


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


def sample_of(count: int) -> NDArray[np.int64]:
    """Positions of the looks that are asked with, the same each time."""
    return np.random.default_rng(0).permutation(count)[: QUERIES if count <= MANY else QUERIES_OF_MANY]


def exact_tenth(queries: Matrix, looks: Matrix) -> NDArray[np.float32]:
    """(q,) the score of the tenth best of all looks, or of the last where there are fewer."""
    return _kth_best(queries, looks, min(RECALL_AT, len(looks)), lambda scores, chunk: scores)


def recall_of(index: VectorIndex, queries: Matrix, tenth: NDArray[np.float32]) -> float:
    """The share of the ten best that the index finds; equal scores count as found."""
    _, found = index.search(queries, min(RECALL_AT, index.count))
    return round(float((found >= tenth[:, np.newaxis] - 1e-5).mean()), 4)


def _cutoff(queries: Matrix, own: NDArray[np.int64], looks: Matrix, groups: NDArray[np.int64]) -> float:
    """What the twelfth match of all but a few products reaches; copies of the picture asked with are none."""
    shown = _kth_best(
        queries,
        looks,
        SHOWN,
        lambda scores, chunk: np.where(own[:, np.newaxis] == groups[chunk], np.float32(-np.inf), scores),
    )
    reached = shown[np.isfinite(shown)]
    return round(float(np.quantile(reached, ODD_SHARE)), 4) if len(reached) else 0.0


def _kth_best(queries: Matrix, looks: Matrix, k: int, seen: Callable[[Matrix, slice], Matrix]) -> NDArray[np.float32]:
    """(q,) the k-th largest of `seen(scores, chunk)` over all looks, a chunk of them in memory at a time."""
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(looks), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        scores = np.concatenate([best, seen(queries @ looks[chunk].T, chunk)], axis=1)
        best = -np.partition(-scores, k - 1, axis=1)[:, :k]
    kth: NDArray[np.float32] = best.min(axis=1)
    return kth


def _angle_cosine(one: Mix, other: Mix) -> float:
    names = sorted({*one, *other})
    a, b = (np.array([mix.get(name, 0.0) for name in names]) for mix in (one, other))
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
