"""Growing many looks from few, for trials at sizes that nobody has pictures for. Pure NumPy.

A new look lies between a real one and some of its neighbours, as a piece of the same kind would, and a little off, in
the directions in which its neighbours differ from it. How far off is found by trial: grown looks, as many as the real
ones, are as like their nearest as those are to theirs. A share of them are nearly copies, as in real catalogues.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from similarity.vectors import Matrix, unit

NEIGHBOURS = 24
"""Of so many nearest, some are mixed in."""
PARENTS = 3
COPIES = 0.2
COPY_NOISE = 0.05
"""A near copy's distance from what it copies, where a whole look's length is 1."""
RANKS = (1, 10, 100)
_SAMPLE = 2000
_CHUNK = 16_384


@dataclass(frozen=True)
class Seeds:
    """The real looks (n, dim) at length 1, the positions (n, NEIGHBOURS) of the nearest of each, and how far off new
    ones are put."""

    looks: Matrix
    nearest: NDArray[np.int64]
    noise: float

    @classmethod
    def of(cls, looks: Matrix, seed: int = 0) -> Seeds:
        """Raises ValueError for too few looks to have so many neighbours."""
        if len(looks) <= NEIGHBOURS:
            raise ValueError(f"{len(looks)} looks are too few to grow others from: at least {NEIGHBOURS + 1}.")
        looks = unit(looks)
        nearest = _nearest(looks, looks, NEIGHBOURS + 1)[:, 1:]
        sample = min(len(looks), _SAMPLE)
        wanted = likeness(looks[np.random.default_rng(seed).permutation(len(looks))[:sample]])[10]
        low, high = 0.0, 2.0
        for _ in range(8):  # to less than a hundredth
            noise = (low + high) / 2
            grown, _parents = grow(cls(looks, nearest, noise), sample, seed, copies=0.0)
            low, high = (noise, high) if likeness(grown)[10] > wanted else (low, noise)
        return cls(looks, nearest, (low + high) / 2)


def grow(seeds: Seeds, count: int, seed: int = 0, *, copies: float = COPIES) -> tuple[Matrix, NDArray[np.int64]]:
    """`count` looks (count, dim) at length 1, and the real look (count,) that each is of the kind of."""
    random = np.random.default_rng(seed)
    n, dim = seeds.looks.shape
    grown = np.empty((count, dim), dtype=np.float32)
    parents = random.integers(0, n, count)
    for start in range(0, count, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, count))
        of = parents[chunk]
        size = len(of)
        around = seeds.nearest[of[:, np.newaxis], random.integers(0, NEIGHBOURS, (size, PARENTS))]
        shares = random.dirichlet(np.ones(PARENTS + 1), size).astype(np.float32)
        mixed = shares[:, :1] * seeds.looks[of]
        for place in range(PARENTS):
            mixed += shares[:, place + 1, np.newaxis] * seeds.looks[around[:, place]]
        off = np.zeros_like(mixed)
        for place in range(NEIGHBOURS):
            step = random.normal(size=(size, 1)).astype(np.float32)
            off += step * (seeds.looks[seeds.nearest[of, place]] - seeds.looks[of])
        grown[chunk] = unit(mixed + seeds.noise * off / np.sqrt(np.float32(NEIGHBOURS)))
    _copy_some(grown, parents, int(copies * count), random)
    return grown, parents


def _copy_some(grown: Matrix, parents: NDArray[np.int64], count: int, random: np.random.Generator) -> None:
    """Make so many of the looks near copies of others."""
    order = random.permutation(len(grown))
    copies, originals = order[:count], order[count:]
    if not len(originals):
        return
    of = originals[random.integers(0, len(originals), len(copies))]
    noise = random.normal(size=(len(copies), grown.shape[1])).astype(np.float32)
    grown[copies] = unit(grown[of] + COPY_NOISE * unit(noise))
    parents[copies] = parents[of]


def likeness(looks: Matrix) -> dict[int, float]:
    """Rank → the median cosine of looks (n, dim) with their neighbour of that rank, as far as there are so many."""
    ranks = [rank for rank in RANKS if rank < len(looks)]
    scores = np.sort(looks @ looks.T, axis=1)[:, ::-1]
    return {rank: float(np.median(scores[:, rank])) for rank in ranks}


def _nearest(queries: Matrix, looks: Matrix, k: int) -> NDArray[np.int64]:
    found = []
    for start in range(0, len(queries), _SAMPLE):
        scores = queries[start : start + _SAMPLE] @ looks.T
        found.append(np.argsort(-scores, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)
